//! Any message of a client of channels, in Protobuf.
//!
//! * The commands in front of the first fault, all their fields, and the fault are those that prost finds with the types of an
//!   SDK.
//! * Nothing is read after the fault.
//!
//! Postern does not read two fields of commands: filters, which it reads later, and the keys of a feature that it does not
//! have. A command with a fault in one of them is not compared.

use centrifuge_client_core::proto;
use postern_channels::protocol::{Command, Commands, Encoding, Malformed};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::rules;

/// Checks a message.
///
/// # Panics
/// That is the finding.
pub fn check(message: &[u8]) {
    let mut commands = Commands::new(Encoding::Protobuf, message);
    let mut rest = message;
    if rest.is_empty() {
        assert_eq!(commands.next(), Some(Err(Malformed::Empty)));
    }
    while !rest.is_empty() {
        let found = commands.next().expect("a result for each command");
        let body = prost::decode_length_delimiter(&mut rest).ok().and_then(|len| rest.split_at_checked(len));
        let Some((body, after)) = body else {
            assert_eq!(found, Err(Malformed::Syntax), "{}", message.escape_ascii());
            break;
        };
        rest = after;
        compare(body, &found);
        if found.is_err() {
            break;
        }
    }
    assert_eq!(commands.next(), None, "after {}", message.escape_ascii());
}

fn compare(body: &[u8], found: &Result<Command<'_>, Malformed>) {
    let unread = unread_fields(body);
    match proto::Command::decode(body) {
        Ok(command) => {
            let expected = rules::apply(command);
            // prost merges filters; of several, Postern reads the last one.
            if unread < 2 {
                rules::assert_same(body, found, &expected);
            }
        }
        Err(_) if unread > 0 || has_many_groups(body) => {}
        Err(_) => assert_eq!(*found, Err(Malformed::Syntax), "{}", body.escape_ascii()),
    }
}

/// Returns the number of fields that Postern does not read, at least.
fn unread_fields(command: &[u8]) -> usize {
    let filters = |subscribe: &[u8]| bytes_of(subscribe, 13).len();
    let of_subscribe: usize = bytes_of(command, 5).into_iter().map(filters).sum();
    let subs = bytes_of(command, 4).into_iter().flat_map(|connect| bytes_of(connect, 3));
    let of_subs: usize = subs.flat_map(|entry| bytes_of(entry, 2)).map(filters).sum();
    let tracks: usize = bytes_of(command, 15).into_iter().map(|refresh| bytes_of(refresh, 4).len()).sum();
    of_subscribe + of_subs + tracks
}

/// Returns the values of all fields with this number in front of the first fault.
fn bytes_of(mut message: &[u8], number: u32) -> Vec<&[u8]> {
    let mut values = Vec::new();
    while let Ok((tag, wire_type)) = decode_key(&mut message) {
        if tag == number && wire_type == WireType::LengthDelimited {
            let len = prost::decode_length_delimiter(&mut message).ok();
            let Some((value, rest)) = len.and_then(|len| message.split_at_checked(len)) else { break };
            values.push(value);
            message = rest;
        } else if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    values
}

/// Whether the limits for groups inside each other may count: prost counts messages too.
fn has_many_groups(command: &[u8]) -> bool {
    command.iter().filter(|&byte| byte & 7 == 3).count() > 90
}
