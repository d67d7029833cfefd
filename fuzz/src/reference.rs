//! tungstenite, as a server that echoes.

use std::io::{self, Read, Write};

use postern_core::SessionConfig;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::frame::{BINARY, PONG, TEXT};

/// Its answers to the bytes of a client.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    /// The frames that answer: the messages as they arrived, and a pong for each ping.
    pub(crate) answers: Vec<(u8, Vec<u8>)>,
    /// The code of the client's Close, if it sent one with a code.
    pub(crate) close: Option<u16>,
    /// Whether it refused the bytes.
    pub(crate) refuses: bool,
}

impl Reference {
    /// Reads until the end of the bytes or the first error.
    pub(crate) fn read(stream: &[u8], limits: &SessionConfig) -> Reference {
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_frame));
        let mut server = WebSocket::from_raw_socket(Socket(stream), Role::Server, Some(config));
        let mut reference = Reference::default();
        loop {
            let message = match server.read() {
                Ok(message) => message,
                Err(error) => {
                    reference.refuses =
                        matches!(error, Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_));
                    break;
                }
            };
            match message {
                Message::Text(text) => reference.answer(TEXT, text.as_bytes()),
                Message::Binary(bytes) => reference.answer(BINARY, &bytes),
                Message::Ping(bytes) => reference.answer(PONG, &bytes),
                Message::Close(frame) => reference.close = frame.map(|frame| frame.code.into()),
                Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        reference
    }

    fn answer(&mut self, opcode: u8, payload: &[u8]) {
        self.answers.push((opcode, payload.to_vec()));
    }
}

/// A socket that returns its bytes and then blocks, and accepts all output.
struct Socket<'b>(&'b [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(to)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
