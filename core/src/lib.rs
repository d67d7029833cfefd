//! Sans-IO core of a WebSocket server that admits only users that a gateway has authenticated, and of a client for it.
//!
//! This crate contains no networking code and does not get any timestamps from the operating system. It has no thread, source
//! of randomness or logger either: bytes and instants go in, bytes and events come out. `postern` drives it with mio,
//! `postern-smol` with smol; most users want one of these binaries.
//!
//! There are two places to start:
//!
//! * [`Worker`] has all connections of one event loop, from the accepted socket to its close: handshakes, sessions, timers,
//!   limits and pending output. Start here to write a runtime.
//! * [`Session`] is one WebSocket after its handshake. Start here to handle messages in another way than the worker does.
//!
//! # One connection without a worker
//!
//! The functions of [`handshake`] read the request, authenticate its user and write the 101; the [`Session`] reads the frames
//! after it.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//! use std::time::Instant;
//! use postern_core::handshake::{HandshakeConfig, HeadReader, Peer, UpgradeRequest};
//! use postern_core::{Codec, ConnectionId, Event, Input, Session, SessionConfig, Turn};
//!
//! // One read from the socket: a request, and the masked text frame "hello".
//! let mut read = b"GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n\r\n\
//!     \x81\x85\x01\x02\x03\x04igohn"
//!     .to_vec();
//! let mut input = Input::new(&mut read);
//! // The output, which must be written to the socket.
//! let mut out = Vec::new();
//!
//! let config = HandshakeConfig::default();
//! let gateway = Peer::from(SocketAddr::from(([127, 0, 0, 1], 40_000)));
//! let mut head = HeadReader::new(config.max_head).receive(&mut input)?.expect("the head is complete");
//! let request = UpgradeRequest::parse(&mut head, &config)?;
//! let accepted = request.identify(gateway, &config)?.accept(&mut out, &config, ConnectionId(1));
//! assert_eq!(accepted.identity.id(), "123");
//!
//! let mut session = Session::new(Arc::new(SessionConfig::default())).with_deflate(accepted.deflate);
//! let mut codec = Codec::new();
//! let mut turn = Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
//! while let Some(event) = session.next_event(&mut turn, &mut input)? {
//!     if let Event::Text(text) = event {
//!         session.send_text(&mut turn, &text)?;
//!     }
//! }
//! assert!(out.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! assert!(out.ends_with(b"\x81\x05hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A whole worker
//!
//! A runtime implements [`Socket`](worker::Socket), calls the worker when a socket is ready or a deadline has passed, and does
//! with the socket what the returned [`Transport`] says. The worker echoes each message.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//! use postern_core::model::{ModelSocket, PEER};
//! use postern_core::record::NullRecorder;
//! use postern_core::worker::NewConnection;
//! use postern_core::{ConnectionId, Transport, Worker, WorkerConfig};
//!
//! let now = Instant::now();
//! let mut worker = Worker::new(Arc::new(WorkerConfig::default()), 1, now);
//! let key = worker.open(NewConnection { id: ConnectionId(1), peer: PEER, refusal: None }, now);
//!
//! // The socket is readable: a request, and the masked text frame "hello". It accepts at most 64 bytes in a call.
//! let mut socket = ModelSocket::with(
//!     b"GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n\r\n\
//!     \x81\x85\x01\x02\x03\x04igohn",
//! );
//! socket.takes = 64;
//! let mut buffer = vec![0; 4096];
//! let transport = worker.on_readable(key, now, &mut buffer, &mut socket, &mut NullRecorder);
//! assert_eq!(transport, Transport::Open);
//!
//! // The socket is writable again, until it has all output.
//! while worker.wants_write(key) {
//!     worker.flush(key, now, &mut socket);
//! }
//! assert!(socket.sent.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! assert!(socket.sent.ends_with(b"\x81\x05hello"));
//!
//! // The event loop may sleep until the next deadline, here the time of a ping.
//! assert!(worker.poll_timeout(now) > Some(now));
//!
//! // The peer ends its side: there is nothing more to read.
//! socket.is_ended = true;
//! let transport = worker.on_readable(key, now, &mut buffer, &mut socket, &mut NullRecorder);
//! assert_eq!(transport, Transport::Close);
//! worker.remove(key, now, &mut NullRecorder);
//! assert!(worker.is_empty());
//! ```
//!
//! `examples/blocking.rs` is a complete runtime on `std` alone.
//!
//! # An application of your own
//!
//! A worker echoes each message unless it has another [`Application`](worker::Application). This one is a room: each text message
//! goes to all clients, with the user's id before it. [`model`] has a runtime in memory for its tests.
//!
//! ```
//! use std::collections::BTreeSet;
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::time::Instant;
//! use postern_core::frame::DataKind;
//! use postern_core::handshake::Identity;
//! use postern_core::model::ModelRuntime;
//! use postern_core::record::{NullRecorder, Recorder};
//! use postern_core::worker::{Application, Fanout, Message, Opening, Reply};
//! use postern_core::{CloseCode, Key, Worker, WorkerConfig};
//!
//! #[derive(Debug, Default)]
//! struct Room {
//!     clients: BTreeSet<Key>,
//!     /// Messages that are not sent yet, and when the first one arrived.
//!     unsent: Vec<Vec<u8>>,
//!     since: Option<Instant>,
//! }
//!
//! impl Application for Room {
//!     type Client = ();
//!     type Inbound = Infallible;
//!     type Effect = Infallible;
//!
//!     fn opened(&mut self, (): &mut (), opening: &Opening<'_>, _: &mut Reply<'_, '_, '_>, _: &mut impl Recorder) {
//!         self.clients.insert(opening.key);
//!     }
//!
//!     fn message<'b>(
//!         &mut self,
//!         (): &mut (),
//!         message: Message<'_, 'b>,
//!         reply: &mut Reply<'_, '_, 'b>,
//!         recorder: &mut impl Recorder,
//!     ) {
//!         message.record(recorder);
//!         if message.kind != DataKind::Text {
//!             return reply.close(CloseCode::UNSUPPORTED_DATA, "text only");
//!         }
//!         self.unsent.push([message.identity.id().as_bytes(), b": ", &message.payload[..]].concat());
//!         self.since.get_or_insert(reply.now());
//!     }
//!
//!     fn closed(&mut self, key: Key, (): (), _: &Identity, _: &mut Fanout<'_, Room>) {
//!         self.clients.remove(&key);
//!     }
//!
//!     /// The messages are sent after the turn in which they arrived.
//!     fn poll_timeout(&self) -> Option<Instant> {
//!         self.since
//!     }
//!
//!     fn handle_timeout(&mut self, fanout: &mut Fanout<'_, Room>, _: &mut impl Recorder) {
//!         self.since = None;
//!         for text in self.unsent.drain(..) {
//!             let frame = fanout.frame(DataKind::Text, &text);
//!             for &key in &self.clients {
//!                 fanout.deliver(key, frame);
//!             }
//!         }
//!     }
//!
//!     fn inbound(&mut self, event: Infallible, _: &mut Fanout<'_, Room>, _: &mut impl Recorder) {
//!         match event {}
//!     }
//! }
//!
//! let now = Instant::now();
//! let worker = Worker::with_application(Room::default(), Arc::new(WorkerConfig::default()), 1, now);
//! let mut runtime = ModelRuntime::new(worker, NullRecorder, now);
//! let [john, jane] = [1, 2].map(|number| {
//!     let key = runtime.open();
//!     let request = format!(
//!         "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: {number}\r\n\r\n"
//!     );
//!     runtime.feed(key, request.as_bytes());
//!     assert!(runtime.take_wire(key).starts_with(b"HTTP/1.1 101 "));
//!     key
//! });
//!
//! // Both clients get the message of the first one.
//! runtime.feed(john, b"\x81\x85\x01\x02\x03\x04igohn");
//! assert_eq!(runtime.worker.poll_timeout(now), Some(now));
//! runtime.handle_all_due();
//! for key in [john, jane] {
//!     assert_eq!(runtime.wire(key), b"\x81\x081: hello");
//! }
//! assert_eq!(runtime.worker.application().clients.len(), 2);
//! ```
//!
//! # Modules
//!
//! In the order in which a connection uses them:
//!
//! * [`handshake`]: from the first byte to the 101 or the refusal: authentication and admission.
//! * [`frame`]: frames as bytes.
//! * [`session`]: one admitted user: messages, control frames, the closing handshake, limits.
//! * [`policy`]: small state machines for limits, keep-alive and shutdown.
//! * [`worker`]: all connections of one worker, their timers, and the application.
//! * [`close_code`]: close codes.
//! * [`record`]: records for the log.
//! * [`model`]: a runtime in memory, for tests.
//!
//! [`client`] is the handshake of the client's side. After it, both sides are a [`Session`], each with its own [`Role`].

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods,
        clippy::wildcard_enum_match_arm
    )
)]

mod bearer_token;
pub mod close_code;
mod compact_instant;
pub mod handshake;
mod id;
pub mod record;

pub mod frame;
pub mod policy;
pub mod session;
pub mod worker;

pub mod client;
pub mod model;

mod deflate;
mod field;
mod input;
mod listed;
mod output;
mod role;
mod turn;
mod wipe;

pub use bearer_token::{BearerToken, InvalidToken, TokenCheck, Verdict};
pub use close_code::CloseCode;
pub use compact_instant::{CompactInstant, TimeBase};
pub use frame::OpCode;
pub use id::ConnectionId;
pub use input::{Input, Payload, Text, Utf8};
pub use record::{Record, Recorder, Summary};
pub use role::{Client, Role, Server};
pub use session::{Event, Session, SessionConfig, Transport};
pub use turn::{Codec, Turn};
pub use worker::{Key, Worker, WorkerConfig};
