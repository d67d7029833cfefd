//! One address for several servers, of which one is reached at a time: the address of a service that has failed over.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Forwards connections to the present server. It works until the process ends.
#[derive(Debug, Clone)]
pub struct Switch {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    /// Both sides of all connections since the last change.
    streams: Vec<TcpStream>,
}

impl Switch {
    /// Listens on a free loopback port, and forwards to `to`.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    #[track_caller]
    pub fn new(to: SocketAddr) -> Switch {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { to, streams: Vec::new() }));
        let switch = Switch { address, state };
        let forwarding = switch.clone();
        thread::spawn(move || {
            // A connection that fails at once is closed, as if the server had refused it.
            listener.incoming().flatten().for_each(|client| drop(forwarding.forward(client)));
        });
        switch
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and forwards the next ones to `to`.
    ///
    /// # Panics
    ///
    /// Never: a poisoned lock is taken.
    pub fn turn(&self, to: SocketAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.to = to;
        for stream in state.streams.drain(..) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn forward(&self, client: TcpStream) -> io::Result<()> {
        // Under the lock, so that no connection to the previous server is missed by `turn`.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(state.to)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        state.streams.extend([client.try_clone()?, server.try_clone()?]);
        let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || pass(from_client, to_server));
        thread::spawn(move || pass(server, client));
        Ok(())
    }
}

/// Passes bytes on until one side ends, then ends both.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    // An error is an end.
    let _ = io::copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
