//! The encoding of publications in Redis: in entries of streams and in messages.
//!
//! Numbers are little-endian; texts and bytes follow their length in 32 bits. A reader refuses everything else, because other
//! programs may write to the same server.

use std::sync::Arc;

use crate::publication::{ClientId, ClientInfo, Epoch, Position, Publication, Tags};

/// A publication, and the node that has sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    /// The node.
    pub(super) node: u64,
    /// The number that the node has given to the publication.
    pub(super) number: u64,
    /// The publication. Its channel and its position are known from elsewhere.
    pub(super) publication: Publication,
}

/// Encodes a publication.
pub(super) fn encode(node: u64, number: u64, publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + publication.data.len());
    let info = publication.info.as_deref();
    out.push(VERSION);
    out.push(u8::from(publication.delta) | u8::from(info.is_some()) << 1);
    out.extend(node.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(publication.time.to_le_bytes());
    put(&mut out, &publication.data);
    put_number(&mut out, publication.tags.as_slice().len());
    for (key, value) in publication.tags.iter() {
        put(&mut out, key.as_bytes());
        put(&mut out, value.as_bytes());
    }
    if let Some(info) = info {
        put_info(&mut out, info);
    }
    out
}

/// Decodes a publication.
pub(super) fn decode(channel: &Arc<str>, position: Option<Position>, bytes: &[u8]) -> Option<Body> {
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return None;
    }
    let flags = reader.byte()?;
    let (node, number) = (reader.u64()?, reader.u64()?);
    let time = reader.u64()? as i64;
    let data: Arc<[u8]> = reader.bytes()?.into();
    let count = reader.number().filter(|&count| count <= MOST_TAGS)?;
    let tags = (0..count).map(|_| Some((reader.text()?, reader.text()?)));
    let tags: Tags = tags.collect::<Option<Vec<_>>>()?.into_iter().collect();
    let info = if flags & 2 != 0 { Some(Arc::new(reader.info()?)) } else { None };
    if flags > 3 || !reader.0.is_empty() {
        return None;
    }
    let channel = Arc::clone(channel);
    let publication = Publication { channel, data, info, tags, delta: flags & 1 != 0, time, position };
    Some(Body { node, number, publication })
}

/// Encodes a client.
pub(super) fn encode_info(info: &ClientInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_info(&mut out, info);
    out
}

/// Decodes a client.
pub(super) fn decode_info(bytes: &[u8]) -> Option<ClientInfo> {
    let mut reader = Reader(bytes);
    reader.info().filter(|_| reader.0.is_empty())
}

/// Splits a message of a channel into the position, which the script has written, and the encoded publication.
pub(super) fn split(message: &[u8]) -> Option<(Option<Position>, &[u8])> {
    let colon = message.iter().take(MOST_PREFIX).position(|&byte| byte == b':')?;
    let (prefix, rest) = message.split_at_checked(colon)?;
    let body = rest.get(1..)?;
    if prefix == b"-" {
        return Some((None, body));
    }
    let (epoch, offset) = prefix.split_at_checked(8)?;
    let offset = str::from_utf8(offset).ok()?.parse().ok()?;
    Some((Some(Position { epoch: Epoch::parse(epoch)?, offset }), body))
}

pub(super) fn put_info(out: &mut Vec<u8>, info: &ClientInfo) {
    put(out, info.user.as_bytes());
    out.extend(info.client.bits().to_le_bytes());
    out.push(u8::from(info.conn_info.is_some()) | u8::from(info.chan_info.is_some()) << 1);
    put(out, info.conn_info.as_deref().unwrap_or_default());
    put(out, info.chan_info.as_deref().unwrap_or_default());
}

pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Messages are much shorter than 4 GiB: `POSTERN_MAX_MESSAGE` limits them.
fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend((number as u32).to_le_bytes());
}

/// Reads what the functions above write.
#[derive(Debug)]
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'b str> {
        str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn info(&mut self) -> Option<ClientInfo> {
        let user = self.text()?.into();
        let client = ClientId::from_random(u128::from_le_bytes(self.array()?));
        let flags = self.byte()?;
        let texts = [self.text()?, self.text()?].map(|text| Arc::from(text.as_bytes()));
        let [conn_info, chan_info] = texts;
        let [has_conn_info, has_chan_info] = [1, 2].map(|bit| flags & bit != 0);
        Some(ClientInfo {
            user,
            client,
            conn_info: has_conn_info.then_some(conn_info),
            chan_info: has_chan_info.then_some(chan_info),
        })
    }
}

/// The first byte of an encoded publication.
const VERSION: u8 = 1;

/// The most tags. Each is compared with those before it.
const MOST_TAGS: u32 = 4096;

/// The longest text before the encoded publication: an epoch, the digits of an offset, a colon.
const MOST_PREFIX: usize = 8 + 20 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Publication {
        Publication {
            channel: "news".into(),
            data: b"{\"a\":1}".as_slice().into(),
            info: Some(Arc::new(ClientInfo {
                user: "123".into(),
                client: ClientId::from_random(7),
                conn_info: Some(b"{}".as_slice().into()),
                chan_info: None,
            })),
            tags: [("a", "1"), ("b", "")].into_iter().collect(),
            delta: true,
            time: -5,
            position: None,
        }
    }

    #[test]
    fn an_encoded_publication_is_decoded_and_a_part_of_it_is_not() {
        let server = Publication { info: None, tags: Tags::default(), ..publication() };
        for publication in [publication(), server] {
            let bytes = encode(1, 2, &publication);
            let body = decode(&publication.channel, None, &bytes).expect("a body");
            assert_eq!((body.node, body.number, &body.publication), (1, 2, &publication));
            for end in 0..bytes.len() {
                assert_eq!(decode(&publication.channel, None, &bytes[..end]), None, "{end}");
            }
            assert_eq!(decode(&publication.channel, None, &[&bytes[..], b"x"].concat()), None);
        }
    }

    #[test]
    fn a_message_has_a_position_or_none() {
        let epoch = Epoch::from_bits(7);
        let text = format!("{}12:body", epoch.as_str());
        let position = Position { epoch, offset: 12 };
        assert_eq!(split(text.as_bytes()), Some((Some(position), b"body".as_slice())));
        assert_eq!(split(b"-:"), Some((None, b"".as_slice())));
        for foreign in ["", "-", "hello", "hello:", "abcdefgh:x", "abcdefg1:x", "abcdefgh-1:x", "abcdefgh1"] {
            assert_eq!(split(foreign.as_bytes()), None, "{foreign:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_publication_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            let channel: Arc<str> = "a".into();
            if let Some((position, body)) = split(&bytes) {
                let _ = decode(&channel, position, body);
            }
            let _ = decode(&channel, None, &[&[VERSION, 3][..], &bytes].concat());
        }
    }
}
