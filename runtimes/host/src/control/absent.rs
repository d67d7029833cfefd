//! In a build without a control port (the feature `control`): there is none, and no settings can say that there is one.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use smol::LocalExecutor;

use crate::listen::Listener;
use crate::log::Log;
use crate::phase::Phase;
use crate::settings::{Program, Settings};
use crate::workers::Workers;

/// A control port, which this build does not have.
#[derive(Debug)]
pub enum Control {}

impl Control {
    /// Never anything.
    ///
    /// # Errors
    /// Never.
    pub fn bind(
        _: &Settings,
        _: &Program,
        _: &[Listener],
        _: Option<Listener>,
        _: &Phase,
        _: &Log,
    ) -> Result<Option<Control>, Infallible> {
        Ok(None)
    }

    /// What a successor is given.
    pub(crate) fn listener(&self) -> &Listener {
        match *self {}
    }

    /// Answers in this executor.
    ///
    /// # Errors
    /// Never.
    pub async fn serve(
        self,
        _: Rc<LocalExecutor<'static>>,
        _: impl Workers + 'static,
    ) -> io::Result<Infallible> {
        match self {}
    }

    /// Answers on a thread of its own.
    ///
    /// # Errors
    /// Never.
    pub fn spawn(self, _: impl Workers + Send + 'static) -> io::Result<()> {
        match self {}
    }
}
