//! The stub for builds without the feature `redis`, in which the settings refuse the engine.

use std::io;
use std::sync::Arc;

use postern_channels::engine::Request;
use postern_channels::exchange::WorkerId;
use postern_channels::relay::{RelayStats, ServerAnswer, ServerOperation};
use slog::Logger;
use smol::channel::Receiver;

use crate::channels::Node;
use crate::revocations::RevocationTable;
use crate::settings::EngineSettings;
use crate::users::PerUser;

/// The engine. This build has none.
#[derive(Debug, Clone)]
pub(crate) enum Engine {}

/// Accepts any URL, which has no effect.
pub(crate) fn check_url(_: &str) -> Result<(), &'static str> {
    Ok(())
}

impl Engine {
    pub(crate) fn start(
        _: &EngineSettings,
        _: &Arc<Node>,
        _: Option<&Arc<PerUser>>,
        _: &Arc<RevocationTable>,
        _: &Logger,
    ) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn submit(&self, _: WorkerId, _: Request) -> Option<Request> {
        match *self {}
    }

    pub(crate) fn ask(&self, _: ServerOperation) -> Receiver<ServerAnswer> {
        match *self {}
    }

    pub(crate) fn stats(&self) -> RelayStats {
        match *self {}
    }

    pub(crate) fn is_unready(&self) -> bool {
        match *self {}
    }
}
