//! Splits messages into commands, and joins replies into messages.

use super::{
    Answer, Command, ConnectRequest, Encoding, Malformed, Push, PushBody, Reply, Topic, json, protobuf,
};

/// The commands of a WebSocket message, in the order in which they must be executed.
///
/// After a fault the iterator ends: the rest of the message is dropped. Commands before the fault count.
#[derive(Debug, Clone)]
pub struct Commands<'a> {
    rest: Rest<'a>,
    /// Whether no command was read yet. A message has at least one.
    is_first: bool,
    /// The length of the message.
    len: usize,
    /// The end of the last command.
    at: usize,
}

/// The rest of a message.
#[derive(Debug, Clone)]
enum Rest<'a> {
    Json(json::decode::Lines<'a>),
    Protobuf(protobuf::decode::Delimited<'a>),
    /// Nothing, after the end or a fault.
    Ended,
}

impl<'a> Commands<'a> {
    /// Starts at the beginning of a message. Whether it is a text or a binary message does not matter.
    pub fn new(encoding: Encoding, message: &'a [u8]) -> Commands<'a> {
        let rest = match encoding {
            Encoding::Json => Rest::Json(json::decode::Lines::new(message)),
            Encoding::Protobuf => Rest::Protobuf(protobuf::decode::Delimited::new(message)),
        };
        Commands { rest, is_first: true, len: message.len(), at: 0 }
    }

    /// Returns the number of bytes of the commands so far, with what separates them. The bytes between two positions are a
    /// message with one command.
    pub fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_first = std::mem::take(&mut self.is_first);
        let command = match &mut self.rest {
            Rest::Json(lines) if is_first || !lines.is_at_end() => lines.command(),
            Rest::Protobuf(commands) if is_first || !commands.is_at_end() => commands.command(),
            Rest::Json(_) | Rest::Protobuf(_) | Rest::Ended => return None,
        };
        self.at = match &self.rest {
            Rest::Json(lines) => lines.position(),
            Rest::Protobuf(commands) => self.len.saturating_sub(commands.remaining()),
            Rest::Ended => self.len,
        };
        if command.is_err() {
            self.rest = Rest::Ended;
        }
        Some(command)
    }
}

impl std::iter::FusedIterator for Commands<'_> {}

impl<'a> ConnectRequest<'a> {
    /// Decodes a whole message that contains the fields of `connect` without a command around them: the first message of a
    /// connection without commands.
    ///
    /// # Errors
    /// The fault of the message.
    pub fn decode(encoding: Encoding, message: &'a [u8]) -> Result<ConnectRequest<'a>, Malformed> {
        match encoding {
            Encoding::Json => json::decode::bare_connect(message),
            Encoding::Protobuf => protobuf::decode::bare_connect(message),
        }
    }
}

/// A WebSocket message that is being written: replies and pushes in the order in which they are pushed.
#[derive(Debug)]
pub struct Message<'o> {
    encoding: Encoding,
    out: &'o mut Vec<u8>,
    /// The length of `out` at the beginning of the message.
    start: usize,
    /// Whether the client sends no commands, and gets pushes without replies around them.
    is_bare: bool,
}

impl<'o> Message<'o> {
    /// Starts a message at the end of `out`.
    pub fn new(encoding: Encoding, out: &'o mut Vec<u8>) -> Message<'o> {
        let start = out.len();
        Message { encoding, out, start, is_bare: false }
    }

    /// Starts a message for a client without commands. Each line of it is sent as a separate message.
    pub fn bare(out: &'o mut Vec<u8>) -> Message<'o> {
        Message { is_bare: true, ..Message::new(Encoding::Json, out) }
    }

    /// Appends a reply. A client without commands gets the result of `connect` as a push, and no other results.
    pub fn push(&mut self, reply: &Reply<'_>) {
        if self.is_bare {
            return match *reply {
                Reply::Push(push) => self.push_bare(&push),
                Reply::Answer { answer: Answer::Connect(result), .. } => {
                    self.push_bare(&Push { topic: Topic::Connection, body: PushBody::Connect(result) });
                }
                Reply::Ping | Reply::Answer { .. } | Reply::Error { .. } => {}
            };
        }
        self.separate();
        match self.encoding {
            Encoding::Json => json::encode::reply(self.out, reply),
            Encoding::Protobuf => protobuf::encode::reply(self.out, reply),
        }
    }

    /// Appends a push without the reply around it, for connections without commands.
    pub fn push_bare(&mut self, push: &Push<'_>) {
        self.separate();
        match self.encoding {
            Encoding::Json => json::encode::bare_push(self.out, push),
            Encoding::Protobuf => protobuf::encode::bare_push(self.out, push),
        }
    }

    /// Whether the message has no replies yet. Then it must not be sent.
    pub fn is_empty(&self) -> bool {
        self.out.len() == self.start
    }

    /// Ends the line before, if there is one. In Protobuf, lengths separate replies.
    fn separate(&mut self) {
        if self.encoding == Encoding::Json && !self.is_empty() {
            self.out.push(b'\n');
        }
    }
}
