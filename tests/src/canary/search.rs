//! Many secrets looked for in much text at once.
//!
//! Of each form of each secret the blocks of eight bytes are put into one table. The text is gone through byte by byte,
//! and where a block stands in it, as much around it is compared as agrees. So a part of a secret is found, too: sixteen
//! bytes of it in a row are a leak, or all of it if it has fewer. Of a message only the whole is: users may write what
//! the log writes.

use std::ops::Range;

use super::forms::{beginning, forms};
use super::{Kind, Secret};

/// Whether so short or so monotonous a text could be told from any other. What is not searchable is no secret.
pub fn is_searchable(secret: &[u8]) -> bool {
    blocks(secret).any(|(_, block)| is_telling(block, 4))
}

/// A place where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// What kind of secret it is.
    pub kind: Kind,
    /// In which form.
    pub form: &'static str,
    /// The first bytes of it, too few to be of use.
    pub beginning: String,
    /// Where in the text.
    pub place: Range<usize>,
}

/// Secrets, made ready to be looked for.
pub struct Search {
    forms: Vec<Form>,
    /// The blocks of all forms in order, each with its form and its place in there.
    blocks: Vec<(u64, u32, u32)>,
    /// A bit for each block, by its hash: most places of a text need no more than a look at it.
    filter: Vec<u64>,
}

struct Form {
    kind: Kind,
    name: &'static str,
    bytes: Vec<u8>,
    /// How many bytes in a row are a leak.
    enough: usize,
}

impl Search {
    /// Makes these secrets ready.
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
        let mut table = Vec::new();
        for (index, form) in forms.iter().enumerate() {
            let telling = blocks(&form.bytes).filter(|(_, block)| is_telling(block, 3));
            // Neither number comes near the limit of its type: both count bytes in memory.
            table.extend(telling.map(|(at, block)| (number(block), index as u32, at as u32)));
        }
        table.sort_unstable();
        let mut filter = vec![0; FILTER_BITS / 64];
        for (block, ..) in &table {
            let bit = hash(*block);
            if let Some(word) = filter.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        Self { forms, blocks: table, filter }
    }

    /// The leaks in a text, in their order. Only secrets of these kinds count. Of several at one place the first is told.
    pub fn leaks(&self, text: &[u8], counts: impl Fn(Kind) -> bool) -> Vec<Leak> {
        let mut leaks: Vec<Leak> = Vec::new();
        let mut behind = 0;
        for (at, block) in text.windows(BLOCK).enumerate() {
            if at < behind {
                continue;
            }
            if let Some(leak) = self.leak_at(text, at, block, &counts) {
                behind = leak.place.end;
                leaks.push(leak);
            }
        }
        leaks
    }

    fn leak_at(&self, text: &[u8], at: usize, block: &[u8], counts: impl Fn(Kind) -> bool) -> Option<Leak> {
        let block = number(block);
        let bit = hash(block);
        if self.filter.get(bit / 64).is_none_or(|word| word >> (bit % 64) & 1 == 0) {
            return None;
        }
        let first = self.blocks.partition_point(|(other, ..)| *other < block);
        let same = self.blocks.iter().skip(first).take_while(|(other, ..)| *other == block);
        for (_, form, place) in same {
            let (Some(form), place) = (self.forms.get(*form as usize), *place as usize) else { continue };
            if !counts(form.kind) {
                continue;
            }
            let equal = |(a, b): &(&u8, &u8)| a == b;
            let (before, behind) = (text.get(..at)?, text.get(at..)?);
            let (head, tail) = form.bytes.split_at_checked(place)?;
            let left = before.iter().rev().zip(head.iter().rev()).take_while(equal).count();
            let right = behind.iter().zip(tail).take_while(equal).count();
            if left + right >= form.enough {
                return Some(Leak {
                    kind: form.kind,
                    form: form.name,
                    beginning: beginning(&form.bytes).into_owned(),
                    place: at - left..at + right,
                });
            }
        }
        None
    }

    /// Puts each form into a line of its own and looks for it there. Returns what would not have been found: nothing, or
    /// this search is worth nothing.
    pub fn blind_spots(&self) -> Vec<&'static str> {
        let is_blind = |form: &&Form| {
            let line = [b"WARN a line, key: ", form.bytes.as_slice(), b", more: 1\n"].concat();
            self.leaks(&line, |kind| kind == form.kind).is_empty()
        };
        self.forms.iter().filter(is_blind).map(|form| form.name).collect()
    }
}

/// The whole blocks of a text.
fn blocks(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.chunks_exact(BLOCK).enumerate().map(|(index, block)| (index * BLOCK, block))
}

/// Whether a block has so many different bytes that it does not stand in other texts, too.
fn is_telling(block: &[u8], least: usize) -> bool {
    let is_new = |(at, byte): &(usize, &u8)| !block.iter().take(*at).any(|other| other == *byte);
    block.iter().enumerate().filter(is_new).count() >= least
}

fn number(block: &[u8]) -> u64 {
    block.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The place in the filter: the upper bits of a product by 2^64 divided by the golden ratio (Knuth, TAOCP 3, §6.4).
fn hash(block: u64) -> usize {
    (block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS.trailing_zeros())) as usize
}

const BLOCK: usize = 8;

/// So many bytes of a secret in a row are a leak. At least twice a block but one, so that a whole one is among them.
const ENOUGH: usize = 16;

const FILTER_BITS: usize = 1 << 24;

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
    fn each_form_is_found_in_the_middle_of_a_line() {
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
    fn of_a_short_secret_the_whole_is_a_leak() {
        let search = search("theme=dark");
        assert!(is_found(&search, "Cookie: theme=dark"));
        assert!(is_found(&search, "cookie: dGhlbWU9ZGFyaw=="));
        for text in ["theme=dar", "heme=dark", "theme = dark", "theme=light"] {
            assert!(!is_found(&search, text), "{text}");
        }
    }

    #[test]
    fn a_message_may_have_words_of_the_log_in_it() {
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
    fn a_leak_says_where_it_is_and_what_but_not_the_secret() {
        let text = format!("one\ntwo, key: {SECRET}\nthree {SECRET}");
        let leaks = search(SECRET).leaks(text.as_bytes(), |_| true);
        let places: Vec<&str> = leaks.iter().map(|leak| &text[leak.place.clone()]).collect();
        assert_eq!(places, [SECRET, SECRET]);
        assert!(leaks.iter().all(|leak| leak.kind == Kind::Token && leak.form == "as it is"));
        assert!(leaks.iter().all(|leak| leak.beginning == "eyJh"));
    }

    #[test]
    fn what_does_not_count_is_not_found() {
        assert_eq!(search(SECRET).leaks(SECRET.as_bytes(), |kind| kind != Kind::Token), []);
    }

    #[test]
    fn a_text_that_could_be_anything_is_no_secret() {
        for text in ["", "short", "1234567", "xxxxxxxxxxxxxxxxxxxxxxxx", "ababababab"] {
            assert!(!is_searchable(text.as_bytes()), "{text}");
            assert!(search(text).forms.is_empty());
        }
        assert!(is_searchable(b"password"));
        // A part of a secret that could be anything is no leak either.
        let padded = search(&format!("{SECRET}{}", "x".repeat(1000)));
        assert!(!is_found(&padded, &"x".repeat(500)));
        assert!(is_found(&padded, &SECRET[20..40]));
    }
}
