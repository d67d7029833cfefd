//! A server of keys, which can misbehave.

use std::sync::{Arc, Mutex};

pub(super) use crate::outbound::tests::server::Reaction;
use crate::outbound::tests::server::Server as HttpServer;

/// A server that runs until the process of the test ends.
pub(super) struct Server {
    server: HttpServer,
    reaction: Arc<Mutex<Reaction>>,
}

impl Server {
    pub(super) fn start(reaction: Reaction) -> Server {
        let reaction = Arc::new(Mutex::new(reaction));
        let current = reaction.clone();
        let server = HttpServer::start(move |request| {
            assert!(request.head.starts_with("GET /jwks.json HTTP/1.1\r\n"), "{}", request.head);
            current.lock().unwrap().clone()
        });
        Server { server, reaction }
    }

    pub(super) fn url(&self) -> String {
        self.server.url("/jwks.json")
    }

    /// Changes the reaction to later requests.
    pub(super) fn react(&self, reaction: Reaction) {
        *self.reaction.lock().unwrap() = reaction;
    }

    /// Returns the number of requests.
    pub(super) fn requests(&self) -> usize {
        self.server.requests().len()
    }
}
