//! Searches a text for many secrets at once.
//!
//! An Aho-Corasick automaton finds blocks of eight bytes of all forms of all secrets. Around each block the text is compared
//! with the secret in both directions, so a part of a secret is found, too: 16 bytes in a row are a leak, or the whole secret
//! if it is shorter. Of a message only the whole is a leak, because users may write the words of the log.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::forms::{beginning, forms};
use super::{Kind, Secret};

/// Whether a text is long and varied enough to be distinguished from other text. Shorter secrets are not searched for.
pub fn is_searchable(secret: &[u8]) -> bool {
    blocks(secret).any(|(_, block)| is_telling(block, 4))
}

/// The place of a secret in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The kind of the secret.
    pub kind: Kind,
    /// The form of the secret.
    pub form: &'static str,
    /// Its first bytes, too few to be useful.
    pub beginning: String,
    /// Its place in the text.
    pub place: Range<usize>,
}

/// An automaton for all forms of some secrets.
pub struct Search {
    forms: Vec<Form>,
    blocks: AhoCorasick,
    /// For each block, the forms that contain it, with its place in them.
    places: Vec<Vec<(usize, usize)>>,
}

struct Form {
    kind: Kind,
    name: &'static str,
    bytes: Vec<u8>,
    /// The number of bytes in a row that are a leak.
    enough: usize,
}

impl Search {
    /// Creates a search for these secrets.
    pub fn new(secrets: &[Secret]) -> Self {
        let of_secret = |secret: &Secret| {
            let (kind, len) = (secret.kind, secret.bytes.len().max(1));
            let part = if kind == Kind::Message { len } else { ENOUGH.min(len) };
            forms(&secret.bytes).into_iter().map(move |(name, bytes)| {
                let enough = bytes.len() * part / len;
                Form { kind, name, bytes, enough: enough.max(BLOCK) }
            })
        };
        let forms: Vec<Form> =
            secrets.iter().filter(|secret| is_searchable(&secret.bytes)).flat_map(of_secret).collect();
        let mut places: HashMap<&[u8], Vec<(usize, usize)>> = HashMap::new();
        for (index, form) in forms.iter().enumerate() {
            for (at, block) in blocks(&form.bytes).filter(|(_, block)| is_telling(block, 3)) {
                places.entry(block).or_default().push((index, at));
            }
        }
        let (patterns, places): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let blocks = AhoCorasick::new(patterns).expect("far fewer blocks than the automaton can hold");
        Self { forms, blocks, places }
    }

    /// Returns the leaks in a text, in their order. Only secrets of these kinds count. Of several leaks at one place the first
    /// is returned.
    pub fn leaks(&self, text: &[u8], counts: impl Fn(Kind) -> bool) -> Vec<Leak> {
        let mut leaks: Vec<Leak> = Vec::new();
        let mut end = 0;
        for found in self.blocks.find_overlapping_iter(text) {
            if found.start() < end {
                continue;
            }
            let mut places = self.places.get(found.pattern().as_usize()).into_iter().flatten();
            if let Some(leak) = places.find_map(|place| self.leak_at(text, found.start(), *place, &counts)) {
                end = leak.place.end;
                leaks.push(leak);
            }
        }
        leaks
    }

    fn leak_at(
        &self,
        text: &[u8],
        at: usize,
        (form, place): (usize, usize),
        counts: impl Fn(Kind) -> bool,
    ) -> Option<Leak> {
        let form = self.forms.get(form).filter(|form| counts(form.kind))?;
        let equal = |(a, b): &(&u8, &u8)| a == b;
        let (before, after) = text.split_at_checked(at)?;
        let (head, tail) = form.bytes.split_at_checked(place)?;
        let left = before.iter().rev().zip(head.iter().rev()).take_while(equal).count();
        let right = after.iter().zip(tail).take_while(equal).count();
        (left + right >= form.enough).then(|| Leak {
            kind: form.kind,
            form: form.name,
            beginning: beginning(&form.bytes).into_owned(),
            place: at - left..at + right,
        })
    }

    /// Searches for each form in a line that contains it. Returns the forms that are not found, which must be none.
    pub fn blind_spots(&self) -> Vec<&'static str> {
        let is_blind = |form: &&Form| {
            let line = [b"WARN a line, key: ", form.bytes.as_slice(), b", more: 1\n"].concat();
            self.leaks(&line, |kind| kind == form.kind).is_empty()
        };
        self.forms.iter().filter(is_blind).map(|form| form.name).collect()
    }
}

/// Returns the whole blocks of a text.
fn blocks(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.chunks_exact(BLOCK).enumerate().map(|(index, block)| (index * BLOCK, block))
}

/// Whether a block has at least `least` different bytes, so that other texts do not contain it by chance.
fn is_telling(block: &[u8], least: usize) -> bool {
    let is_new = |(at, byte): &(usize, &u8)| !block.iter().take(*at).any(|other| other == *byte);
    block.iter().enumerate().filter(is_new).count() >= least
}

const BLOCK: usize = 8;

/// The number of bytes of a secret in a row that are a leak: at least 15, so that they contain a whole block.
const ENOUGH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.4pcPyMD09olPSyXnrXCjTwXyr4BsezdI1AVTmud2fU4";

    fn search(secret: &str) -> Search {
        Search::new(&[Secret { kind: Kind::Token, bytes: secret.into() }])
    }

    fn is_found(search: &Search, text: &str) -> bool {
        !search.leaks(text.as_bytes(), |_| true).is_empty()
    }

    #[test]
    fn form_is_found_in_the_middle_of_a_line() {
        for secret in [SECRET, "hunter22", "a key/with=signs&more"] {
            let search = search(secret);
            assert!(search.forms.len() >= 8);
            assert_eq!(search.blind_spots(), [""; 0], "{secret}");
        }
    }

    #[test]
    fn sixteen_bytes_in_a_row_are_a_leak_and_fifteen_are_not() {
        let search = search(SECRET);
        for start in 0..SECRET.len() - 16 {
            assert!(is_found(&search, &format!("x {} x", &SECRET[start..start + 16])), "{start}");
            assert!(!is_found(&search, &format!("x {} x", &SECRET[start..start + 15])), "{start}");
        }
    }

    #[test]
    fn whole_short_secret_is_a_leak() {
        let search = search("theme=dark");
        assert!(is_found(&search, "Cookie: theme=dark"));
        assert!(is_found(&search, "cookie: dGhlbWU9ZGFyaw=="));
        for text in ["theme=dar", "heme=dark", "theme = dark", "theme=light"] {
            assert!(!is_found(&search, text), "{text}");
        }
    }

    #[test]
    fn message_may_contain_words_of_the_log() {
        let message = b"WebSocket connection closed for user Eve (666)".to_vec();
        let search = Search::new(&[Secret { kind: Kind::Message, bytes: message }]);
        assert!(!is_found(&search, "INFO WebSocket connection closed for user John Doe (123), conn: 7"));
        assert!(is_found(
            &search,
            "INFO Message from John Doe (123): WebSocket connection closed for user Eve (666)"
        ));
        assert_eq!(search.blind_spots(), [""; 0]);
    }

    #[test]
    fn leak_has_its_place_and_kind_without_the_secret() {
        let text = format!("one\ntwo, key: {SECRET}\nthree {SECRET}");
        let leaks = search(SECRET).leaks(text.as_bytes(), |_| true);
        let places: Vec<&str> = leaks.iter().map(|leak| &text[leak.place.clone()]).collect();
        assert_eq!(places, [SECRET, SECRET]);
        assert!(leaks.iter().all(|leak| leak.kind == Kind::Token && leak.form == "unencoded"));
        assert!(leaks.iter().all(|leak| leak.beginning == "eyJh"));
    }

    #[test]
    fn excluded_kind_is_not_found() {
        assert_eq!(search(SECRET).leaks(SECRET.as_bytes(), |kind| kind != Kind::Token), []);
    }

    #[test]
    fn short_or_monotonous_text_is_not_searched_for() {
        for text in ["", "short", "1234567", "xxxxxxxxxxxxxxxxxxxxxxxx", "ababababab"] {
            assert!(!is_searchable(text.as_bytes()), "{text}");
            assert!(search(text).forms.is_empty());
        }
        assert!(is_searchable(b"password"));
        // A monotonous part of a secret is not a leak.
        let padded = search(&format!("{SECRET}{}", "x".repeat(1000)));
        assert!(!is_found(&padded, &"x".repeat(500)));
        assert!(is_found(&padded, &SECRET[20..40]));
    }
}
