//! The stub for builds without the feature `amqp`, in which the settings refuse a URL.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use slog::Logger;

use crate::channels::Node;

/// The broker that messages come from. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {}

/// Figures of messages. This build has none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SourceStats {}

/// Receives no messages.
#[derive(Debug, Clone)]
pub struct Source;

impl Source {
    pub(crate) fn new(_: Option<&SourceSettings>) -> Source {
        Source
    }

    pub(crate) fn start(&self, _: &Arc<Node>, _: u32, _: &Logger) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn stats(&self) -> Option<SourceStats> {
        None
    }

    pub(crate) fn finish(&self, _: Instant, _: impl FnMut() -> bool) {}
}

/// The defaults of the settings, as in a build with the feature.
pub(crate) const EXCHANGE: &str = "postern";
pub(crate) const QUEUE: &str = "postern.source";
pub(crate) const DEAD_LETTER: &str = "postern.dead";
pub(crate) const PREFETCH: &str = "200";
