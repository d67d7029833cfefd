//! Connections whose output buffer is overwritten after each write, because requests contain tokens and keys. Without this, the
//! last request would stay in the buffer while the connection is idle, and in freed memory afterwards.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use zeroize::Zeroize;

/// Wraps each connection. It must be the last connector of a chain, so that it gets the plaintext of TLS.
#[derive(Debug)]
pub(super) struct WipingConnector;

/// A connection.
#[derive(Debug)]
pub(super) struct WipingTransport<T>(T);

impl<T: Transport> Connector<T> for WipingConnector {
    type Out = WipingTransport<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(WipingTransport))
    }
}

impl<T: Transport> Transport for WipingTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let sent = self.0.transmit_output(amount, timeout);
        self.0.buffers().output().get_mut(..amount).unwrap_or_default().zeroize();
        sent
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
