//! A publication, and its position in the stream of its channel.
//!
//! A publication is stored once, in an `Arc`: the log of its channel, the inboxes of workers and answers refer to it.

use std::fmt;
use std::sync::Arc;

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The name of the channel.
    pub channel: Arc<str>,
    /// The payload: one JSON text without line breaks, or any bytes in a namespace with binary data.
    pub data: Arc<[u8]>,
    /// The client that has published it. Publications of the server API have none.
    pub info: Option<Arc<ClientInfo>>,
    /// Labels that filters of subscribers compare.
    pub tags: Tags,
    /// Whether subscribers that have asked for it get the difference to the publication before.
    pub delta: bool,
    /// The time of the publication, in milliseconds since the Unix epoch.
    pub time: i64,
    /// The position in the stream. Publications without history have none.
    pub position: Option<Position>,
}

impl Publication {
    /// Returns the number of bytes that the publication occupies in memory, including the parts that it may share.
    pub fn memory(&self) -> usize {
        let info = self.info.as_deref().map_or(0, ClientInfo::memory);
        // The two counters of the `Arc`, and the reference in the log.
        const SHARED: usize = 3 * size_of::<usize>();
        SHARED + size_of::<Publication>() + self.data.len() + self.tags.memory() + info
    }
}

/// The labels of a publication, each a key with a value, in the order of the publisher. Keys are distinct.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Returns the keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the keys with their values as they are stored.
    pub fn as_slice(&self) -> &[(Box<str>, Box<str>)] {
        &self.0
    }

    /// Returns whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn memory(&self) -> usize {
        self.iter().map(|(key, value)| size_of::<(Box<str>, Box<str>)>() + key.len() + value.len()).sum()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Tags {
    /// Collects labels. The last value of a key replaces earlier ones.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(labels: I) -> Tags {
        let mut tags: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (key, value) in labels {
            match tags.iter_mut().find(|(name, _)| **name == *key) {
                Some((_, replaced)) => *replaced = value.into(),
                None => tags.push((key.into(), value.into())),
            }
        }
        Tags(tags.into())
    }
}

/// A client, as other users of a channel see it: in presence, in joins and leaves, and with its publications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The id of the user.
    pub user: Arc<str>,
    /// The id of the connection.
    pub client: ClientId,
    /// A JSON text about the connection.
    pub conn_info: Option<Arc<[u8]>>,
    /// A JSON text about the subscription.
    pub chan_info: Option<Arc<[u8]>>,
}

impl ClientInfo {
    /// Returns the number of bytes that it occupies in memory, including the parts that it may share.
    pub fn memory(&self) -> usize {
        let texts = [&self.conn_info, &self.chan_info].map(|text| text.as_deref().map_or(0, <[u8]>::len));
        size_of::<ClientInfo>() + self.user.len() + texts.iter().sum::<usize>()
    }
}

/// The id of a client's connection, unique among all nodes: a UUID of version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u128);

impl ClientId {
    /// Creates an id from random bits. 122 of them are used.
    pub fn from_random(bits: u128) -> ClientId {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        ClientId(bits & !(VERSION | VARIANT) | (4 << 76) | (0b10 << 62))
    }

    /// Parses the form with hyphens and lower-case digits.
    pub fn parse(text: &str) -> Option<ClientId> {
        let mut bits = 0;
        for digit in text.bytes().filter(|&byte| byte != b'-') {
            bits = bits << 4 | u128::from(char::from(digit).to_digit(16)?);
        }
        let id = ClientId(bits);
        // All other texts, such as those with hyphens at other places, differ from the id's own form.
        (id.text() == *text.as_bytes()).then_some(id)
    }

    /// Returns the form with hyphens, in ASCII.
    pub fn text(self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
        for (place, digit) in places.zip((0..32).rev()) {
            let value = (self.0 >> (4 * digit)) as u32 & 0xf;
            if let (Some(byte), Some(digit)) = (text.get_mut(place), char::from_digit(value, 16)) {
                *byte = digit as u8;
            }
        }
        text
    }

    /// Returns all bits.
    pub fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

/// A position in the stream of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The stream.
    pub epoch: Epoch,
    /// The number of publications of the stream so far: the offset of the last one. The first publication has offset 1.
    pub offset: u64,
}

/// The identity of a stream: eight letters. A channel has another epoch whenever its offsets start again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 8]);

impl Epoch {
    /// Creates an epoch. Different numbers below 52^8 have different epochs.
    pub fn from_bits(mut bits: u64) -> Epoch {
        const LETTERS: u64 = 26;
        Epoch([(); 8].map(|()| {
            let digit = bits % (2 * LETTERS);
            bits /= 2 * LETTERS;
            // Both are below 26.
            if digit < LETTERS { b'a' + digit as u8 } else { b'A' + (digit - LETTERS) as u8 }
        }))
    }

    /// Parses eight letters.
    pub fn parse(text: &[u8]) -> Option<Epoch> {
        let letters: [u8; 8] = text.try_into().ok()?;
        letters.iter().all(u8::is_ascii_alphabetic).then_some(Epoch(letters))
    }

    /// Returns the letters.
    pub fn as_str(&self) -> &str {
        // An epoch is ASCII, unless it was parsed from another text, which is not sent.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({})", self.as_str())
    }
}

/// A position that a client names: the last publication that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The offset of that publication. 0: none.
    pub offset: u64,
    /// The epoch; `None` matches every epoch, because the client does not know it.
    epoch: Option<Epoch>,
}

impl Since {
    /// Creates a position from the text of an epoch, which may be empty, and an offset.
    pub fn new(epoch: &str, offset: u64) -> Since {
        let epoch = (!epoch.is_empty()).then(|| {
            // No stream has the epoch of eight zeros.
            Epoch(epoch.as_bytes().try_into().unwrap_or([0; 8]))
        });
        Since { offset, epoch }
    }

    /// Returns whether it may be a position in the stream `epoch`.
    pub fn is_of(self, epoch: Epoch) -> bool {
        self.epoch.is_none_or(|own| own == epoch)
    }

    /// Returns the epoch, if the client knows it.
    pub fn epoch(self) -> Option<Epoch> {
        self.epoch
    }
}

impl From<Position> for Since {
    fn from(position: Position) -> Since {
        Since { offset: position.offset, epoch: Some(position.epoch) }
    }
}

#[cfg(test)]
impl Publication {
    /// Returns a publication of the server in a channel without history.
    pub(crate) fn of(channel: &str, data: &str) -> Publication {
        Publication {
            channel: channel.into(),
            data: data.as_bytes().into(),
            info: None,
            tags: Tags::default(),
            delta: false,
            time: 0,
            position: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_eight_letters() {
        for bits in [0, 1, 51, 52, 53_459_728_531_455, u64::MAX] {
            let epoch = Epoch::from_bits(bits);
            assert!(
                epoch.as_str().len() == 8 && epoch.as_str().bytes().all(|byte| byte.is_ascii_alphabetic())
            );
        }
        assert_eq!(Epoch::from_bits(0).as_str(), "aaaaaaaa");
        assert_eq!(Epoch::from_bits(53).as_str(), "bbaaaaaa");
        assert_ne!(Epoch::from_bits(25), Epoch::from_bits(26));
    }

    #[test]
    fn a_position_of_a_client_matches_its_epoch_or_every_one() {
        let epoch = Epoch::from_bits(7);
        assert!(Since::new("", 3).is_of(epoch));
        assert!(Since::new(epoch.as_str(), 3).is_of(epoch));
        assert!(Since::from(Position { epoch, offset: 3 }).is_of(epoch));
        for foreign in ["aaaaaaaa", "a", "aaaaaaaaa", "\0\0\0\0\0\0\0\0", "é"] {
            assert!(!Since::new(foreign, 3).is_of(epoch), "{foreign:?}");
        }
    }

    #[test]
    fn a_client_id_is_a_uuid_of_version_4() {
        let id = ClientId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(ClientId::from_random(0).to_string(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        let invalid = [
            "",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF",
            "ffffffffffff4fffbfffffffffffffff",
        ];
        for text in invalid {
            assert_eq!(ClientId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_last_value_of_a_tag_counts() {
        let tags: Tags = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        assert_eq!((tags.get("a"), tags.get("c")), (Some("3"), None));
    }
}
