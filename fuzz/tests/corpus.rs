//! Replays all committed inputs and the captured requests through the checks of their targets, without a fuzzer. Each
//! earlier finding is one of these inputs.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use postern_fuzz::{
    assertion, channels_file, connection, deliveries, delta, extensions, head, inflate, json_commands,
    json_text, log_line, permissions, protobuf_commands, relay, worker,
};

/// Runs `check` on every file of a folder.
fn replay(folder: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn heads() {
    replay("corpus/head", head::check);
    replay("../tests/captures", head::check);
}

#[test]
fn connections() {
    replay("corpus/connection", |bytes| {
        let script = connection::Script::arbitrary_take_rest(Unstructured::new(bytes));
        connection::check(&script.expect("a script"));
    });
}

#[test]
fn workers() {
    replay("corpus/worker", worker::check);
}

#[test]
fn compressed_messages() {
    replay("corpus/inflate", inflate::check);
}

#[test]
fn offers_of_extensions() {
    replay("corpus/extensions", extensions::check);
}

#[test]
fn lines_of_the_log() {
    replay("corpus/log_line", log_line::check);
}

#[test]
fn assertions() {
    replay("corpus/assertion", assertion::check);
}

#[test]
fn commands_in_json() {
    replay("corpus/json_commands", json_commands::check);
}

#[test]
fn commands_in_protobuf() {
    replay("corpus/protobuf_commands", protobuf_commands::check);
}

#[test]
fn values_in_json() {
    replay("corpus/json_text", json_text::check);
}

#[test]
fn channels_files() {
    replay("corpus/channels_file", channels_file::check);
}

#[test]
fn decisions() {
    replay("corpus/permissions", permissions::check);
}

#[test]
fn messages_of_a_broker() {
    replay("corpus/deliveries", deliveries::check);
}

#[test]
fn a_redis_that_answers_anything() {
    replay("corpus/relay", relay::check);
}

#[test]
fn deltas() {
    replay("corpus/delta", delta::check);
}
