//! The stub for builds without the feature `control`. The settings refuse a control address in such a build.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use smol::LocalExecutor;

use crate::channels::Node;
use crate::lifecycle::status::ProcessStatus;
use crate::listen::Listener;
use crate::log::Log;
use crate::revocations::RevocationTable;
use crate::settings::Plan;
use crate::source::Source;
use crate::workers::{RemoteRequest, WorkerReply, Workers};

/// Does not understand commands of other nodes, which then report this one as silent.
pub(crate) fn parse_remote(_: &[u8], _: &Node, _: &RevocationTable, _: usize) -> Option<RemoteRequest> {
    None
}

/// Does not describe the process.
pub(crate) fn describe(_: &Node, _: &[WorkerReply]) -> Option<Vec<u8>> {
    None
}

/// The control port. This build cannot make one.
#[derive(Debug)]
pub enum Control {}

impl Control {
    /// Returns no control port.
    ///
    /// # Errors
    /// Never fails.
    pub(crate) fn bind(
        _: &Plan,
        _: &[Listener],
        _: Option<Listener>,
        _: &ProcessStatus,
        _: &Arc<Node>,
        _: &Arc<RevocationTable>,
        _: &Log,
    ) -> Result<Option<Control>, Infallible> {
        Ok(None)
    }

    /// Sets the source whose figures are shown.
    pub(crate) fn with_source(self, _: &Source) -> Control {
        match self {}
    }

    /// Returns the listener, to be passed to a successor.
    pub(crate) fn listener(&self) -> &Listener {
        match *self {}
    }

    /// Serves requests in this executor.
    pub async fn serve(self, _: Rc<LocalExecutor<'static>>, _: impl Workers + 'static) {
        match self {}
    }

    /// Serves requests on a new thread.
    ///
    /// # Errors
    /// Never fails.
    pub fn spawn(self, _: impl Workers + Send + 'static) -> io::Result<()> {
        match self {}
    }
}
