//! What does it cost to decode a command that publishes, and to encode the push of a publication?
//!
//! Both are done in JSON and in Protobuf. A publication is decoded and checked once, and encoded once for each encoding,
//! not for each subscriber. `prost` uses the types of an SDK, without a copy of the data; it does not check that the data
//! is JSON. `serde_json` uses types that borrow all strings and the data; it does not remove white space.

use std::hint::black_box;

use centrifuge_client_core::Bytes;
use centrifuge_client_core::proto;
use criterion::{Criterion, Throughput};
use postern_channels::protocol::{
    ClientInfo, Commands, Data, Encoding, Message, Publication, Push, PushBody, Reply, Request, Topic,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

fn main() {
    let mut criterion = postern_benches::criterion();
    for (shape, size) in [("100 B", 100), ("16 KiB", 16 * 1024)] {
        decode(&mut criterion, shape, &data(size));
        encode(&mut criterion, shape, &data(size));
    }
    criterion.final_summary();
}

/// Returns a JSON object of `size` bytes, about half of it text.
fn data(size: usize) -> String {
    let bid = r#"{"bidder":"u-1042","amount":1250.5,"note":"second to last"},"#;
    let frame = r#"{"a":"","b":[]}"#.len();
    let mut bids = bid.repeat((size - frame) / bid.len());
    bids.pop();
    let pad = size - frame - bids.len();
    format!(r#"{{"a":"{}","b":[{bids}]}}"#, "x".repeat(pad))
}

fn decode(criterion: &mut Criterion, shape: &str, data: &str) {
    let json = format!(r#"{{"id":42,"publish":{{"channel":"auction:42","data":{data}}}}}"#);
    let publish = proto::PublishRequest {
        channel: "auction:42".into(),
        data: data.to_owned().into(),
        ..Default::default()
    };
    let command = proto::Command { id: 42, publish: Some(publish), ..Default::default() };
    let protobuf = Bytes::from(command.encode_length_delimited_to_vec());

    let mut group = criterion.benchmark_group(format!("decode and check a publish command, {shape}"));
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("json", |bencher| {
        bencher.iter(|| publish_len(Encoding::Json, black_box(json.as_bytes())))
    });
    group.bench_function("json, serde_json", |bencher| {
        bencher.iter(|| {
            let command: JsonCommand<'_> =
                serde_json::from_slice(black_box(json.as_bytes())).expect("a command");
            command.id as usize + command.publish.channel.len() + command.publish.data.get().len()
        });
    });
    group.bench_function("protobuf", |bencher| {
        bencher.iter(|| publish_len(Encoding::Protobuf, black_box(&protobuf)))
    });
    group.bench_function("protobuf, prost, without the check", |bencher| {
        bencher.iter(|| {
            let command =
                proto::Command::decode_length_delimited(black_box(protobuf.clone())).expect("a command");
            command.publish.map(|publish| publish.channel.len() + publish.data.len())
        });
    });
    group.finish();
}

/// Decodes a command, and returns the length of its data after the check.
fn publish_len(encoding: Encoding, message: &[u8]) -> usize {
    let Some(Ok(command)) = Commands::new(encoding, message).next() else { panic!("a command") };
    let Request::Publish(publish) = command.request else { panic!("a publish command") };
    publish.data.compact().expect("a JSON text").len()
}

fn encode(criterion: &mut Criterion, shape: &str, data: &str) {
    let info =
        ClientInfo { user: "1042", client: "2e1bd7c0-6f1c-4c1e-9d0a-0f3b7c3f7a11", ..ClientInfo::default() };
    let publication = Publication {
        data: Data::Raw(data.as_bytes()),
        info: Some(info),
        offset: 1234,
        ..Publication::default()
    };
    let push =
        Reply::Push(Push { topic: Topic::Channel("auction:42"), body: PushBody::Publication(publication) });

    let raw: Box<RawValue> = serde_json::from_str(data).expect("a JSON text");
    let json = JsonReply {
        push: JsonPush {
            channel: "auction:42",
            r#pub: JsonPublication {
                data: &raw,
                info: JsonInfo { user: info.user, client: info.client },
                offset: 1234,
            },
        },
    };
    let proto_info =
        proto::ClientInfo { user: info.user.into(), client: info.client.into(), ..Default::default() };
    let protobuf = proto::Reply {
        push: Some(proto::Push {
            channel: "auction:42".into(),
            r#pub: Some(proto::Publication {
                data: data.to_owned().into(),
                info: Some(proto_info),
                offset: 1234,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };

    let mut group = criterion.benchmark_group(format!("encode the push of a publication, {shape}"));
    group.throughput(Throughput::Bytes(data.len() as u64));
    let mut out = Vec::new();
    for (name, encoding) in [("json", Encoding::Json), ("protobuf", Encoding::Protobuf)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                Message::new(encoding, &mut out).push(black_box(&push));
                out.len()
            });
        });
    }
    group.bench_function("json, serde_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&json)).expect("a reply");
            out.len()
        });
    });
    group.bench_function("protobuf, prost", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&protobuf).encode_length_delimited(&mut out).expect("a reply");
            out.len()
        });
    });
    group.finish();
}

#[derive(Deserialize)]
struct JsonCommand<'a> {
    id: u32,
    #[serde(borrow)]
    publish: JsonPublish<'a>,
}

#[derive(Deserialize)]
struct JsonPublish<'a> {
    channel: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Serialize)]
struct JsonReply<'a> {
    push: JsonPush<'a>,
}

#[derive(Serialize)]
struct JsonPush<'a> {
    channel: &'a str,
    r#pub: JsonPublication<'a>,
}

#[derive(Serialize)]
struct JsonPublication<'a> {
    data: &'a RawValue,
    info: JsonInfo<'a>,
    offset: u64,
}

#[derive(Serialize)]
struct JsonInfo<'a> {
    user: &'a str,
    client: &'a str,
}
