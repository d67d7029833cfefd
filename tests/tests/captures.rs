//! All captured upgrade requests through the handshake: bytes of five gateways, and a table of their expected verdicts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use postern_core::handshake::{HandshakeConfig, HandshakeError, HeadReader, Peer, UpgradeRequest};
use postern_core::{ConnectionId, Input};

/// The verdict of the handshake on a request.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    status: u16,
    user_id: String,
    user_email: String,
    user_name: String,
    subprotocol: String,
}

/// Reads `bytes` in portions of `portion` bytes, with the default settings, from a trusted peer.
fn judge(bytes: &[u8], portion: usize) -> Verdict {
    let config = HandshakeConfig::default();
    let peer = Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 40_000 };
    let mut reader = HeadReader::new(config.max_head);
    let verdict = bytes.chunks(portion).find_map(|portion| {
        let mut portion = portion.to_vec();
        let mut input = Input::new(&mut portion);
        reader.receive(&mut input).transpose().map(|head| {
            let mut head = head?;
            let admission = UpgradeRequest::parse(&mut head, &config)?.identify(peer, &config)?;
            let accepted = admission.accept(&mut Vec::new(), &config, ConnectionId(1));
            Ok((accepted.identity, accepted.subprotocol.map(Cow::into_owned)))
        })
    });
    let or_dash = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let (status, identity, subprotocol) = match verdict {
        Some(Ok((identity, subprotocol))) => (101, Some(identity), subprotocol),
        Some(Err(error)) => (HandshakeError::status(error), None, None),
        None => (0, None, None),
    };
    Verdict {
        status,
        user_id: or_dash(identity.as_ref().map(|user| user.id())),
        user_email: or_dash(identity.as_ref().and_then(|user| user.email())),
        user_name: or_dash(identity.as_ref().and_then(|user| user.name())),
        subprotocol: or_dash(subprotocol.as_deref()),
    }
}

#[test]
fn captured_request_gets_the_verdict_of_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let table = fs::read_to_string(folder.join("expected.tsv")).expect("tests/captures/expected.tsv");
    let mut expected = BTreeMap::new();
    for row in table.lines().skip(1) {
        let [file, status, user_id, user_email, user_name, subprotocol, why] =
            row.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("not seven columns: {row}");
        };
        let verdict = Verdict {
            status: status.parse().expect("a status"),
            user_id: user_id.to_owned(),
            user_email: user_email.to_owned(),
            user_name: user_name.to_owned(),
            subprotocol: subprotocol.to_owned(),
        };
        assert!(
            expected.insert(file.to_owned(), (verdict, why)).is_none(),
            "{file} has two rows in the table"
        );
    }

    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("tests/captures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "http") {
            continue;
        }
        files += 1;
        let file = path.file_name().and_then(|name| name.to_str()).expect("an ASCII name");
        let (verdict, why) = expected.get(file).unwrap_or_else(|| panic!("{file} is not in the table"));
        let bytes = fs::read(&path).expect("a readable file");
        for portion in [usize::MAX, 1, 7, 1000] {
            let got = judge(&bytes, portion);
            if got != *verdict {
                wrong
                    .push(format!("{file} in portions of {portion}: {got:?}\n  expected {verdict:?}: {why}"));
            }
        }
    }
    assert_eq!((files, expected.len()), (517, 517), "files and rows");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
