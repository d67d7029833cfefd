//! One connection of a client.

use centrifuge_client_core::codec::Protocol;
use postern_core::ConnectionId;

use crate::carrier::Party;
use crate::random::Random;
use crate::sdk::Transport;
use crate::socket::Link;

/// A connection of a client, in the encoding of the client: JSON.
#[derive(Debug)]
pub(crate) struct Session {
    client: usize,
    connection: ConnectionId,
    pub(crate) worker: usize,
    pub(crate) transport: Transport,
}

impl Session {
    pub(crate) fn new(
        client: usize,
        user: &str,
        number: usize,
        worker: usize,
        socket_buffer: usize,
        random: Random,
    ) -> Session {
        let transport = Transport::with_protocol(Protocol::Json, client, user, socket_buffer, false, random);
        Session { client, connection: ConnectionId(number as u64 + 1), worker, transport }
    }
}

impl Party for Session {
    // What clients receive is a step.
    const ARE_TURNS_TRACED: bool = false;

    fn connection(&self) -> ConnectionId {
        self.connection
    }

    fn client(&self) -> usize {
        self.client
    }

    fn link(&self) -> &Link {
        &self.transport.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.transport.link
    }
}
