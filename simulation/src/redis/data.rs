//! The data of a model of Redis: keys with values of five types, some of which expire.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// An error of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The key has a value of another type.
    WrongType,
    /// A value is not the number that the command needs, or an id is not valid.
    Malformed,
    /// The id of an entry is not above the last one.
    SmallId,
    /// There is no memory left.
    Memory,
    /// The server is a replica.
    ReadOnly,
    /// The server does not know the script.
    NoScript,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Stream(Stream),
    Set(BTreeSet<Vec<u8>>),
    Scores(BTreeMap<Vec<u8>, f64>),
}

/// The id of an entry of a stream.
pub(super) type Id = (u64, u64);

/// Fields with their values.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry of a stream: its id, its fields and their values.
pub(super) type Item = (Id, Pairs);

/// A stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) entries: Vec<Item>,
    last: Id,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// Shared with the copies of all data, which are many: a replica and a file have one.
    value: Arc<Value>,
    /// The last millisecond at which the key exists.
    expires: Option<u64>,
}

/// All keys. Each method is the command with its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Data {
    keys: BTreeMap<Arc<str>, Entry>,
    /// The time in milliseconds.
    pub(super) now: u64,
}

/// Defines a function that returns the value of a key, if it has this type, and one that returns it for a change, and creates it.
macro_rules! typed {
    ($kind:ident, $get:ident, $make:ident, $type:ty) => {
        fn $get(&mut self, key: &str) -> Result<Option<&$type>, Error> {
            match self.find(key).map(|entry| &*entry.value) {
                Some(Value::$kind(value)) => Ok(Some(value)),
                Some(_) => Err(Error::WrongType),
                None => Ok(None),
            }
        }

        fn $make(&mut self, key: &str) -> Result<&mut $type, Error> {
            self.find(key);
            let new = || Entry { value: Arc::new(Value::$kind(<$type>::default())), expires: None };
            match Arc::make_mut(&mut self.keys.entry(key.into()).or_insert_with(new).value) {
                Value::$kind(value) => Ok(value),
                _ => Err(Error::WrongType),
            }
        }
    };
}

impl Data {
    typed!(Hash, hash, make_hash, BTreeMap<Vec<u8>, Vec<u8>>);
    typed!(Stream, stream, make_stream, Stream);
    typed!(Set, members, make_set, BTreeSet<Vec<u8>>);
    typed!(Scores, scores, make_scores, BTreeMap<Vec<u8>, f64>);

    /// Returns a key that has not expired.
    fn find(&mut self, key: &str) -> Option<&mut Entry> {
        let now = self.now;
        if self.keys.get(key)?.expires.is_some_and(|at| at < now) {
            self.keys.remove(key);
        }
        self.keys.get_mut(key)
    }

    /// Returns the keys that begin with a text.
    pub(super) fn keys(&mut self, prefix: &str) -> Vec<String> {
        let now = self.now;
        self.keys.retain(|_, entry| entry.expires.is_none_or(|at| at >= now));
        let range = self.keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        range.map(|(key, _)| key.to_string()).take_while(|key| key.starts_with(prefix)).collect()
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    pub(super) fn del(&mut self, key: &str) {
        self.keys.remove(key);
    }

    pub(super) fn pexpire(&mut self, key: &str, time: u64) {
        let at = self.now + time;
        if let Some(entry) = self.find(key) {
            entry.expires = Some(at);
        }
    }

    pub(super) fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.find(key).map(|entry| &*entry.value) {
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::WrongType),
            None => Ok(None),
        }
    }

    pub(super) fn set(&mut self, key: &str, text: Vec<u8>, time: Option<u64>) {
        let expires = time.map(|time| self.now + time);
        self.keys.insert(key.into(), Entry { value: Arc::new(Value::Text(text)), expires });
    }

    pub(super) fn hget(&mut self, key: &str, field: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.hash(key)?.and_then(|hash| hash.get(field).cloned()))
    }

    pub(super) fn hset(&mut self, key: &str, field: &[u8], value: Vec<u8>) -> Result<(), Error> {
        self.make_hash(key)?.insert(field.to_vec(), value);
        Ok(())
    }

    pub(super) fn hincrby(&mut self, key: &str, field: &[u8], by: i64) -> Result<i64, Error> {
        let value = match self.hget(key, field)? {
            Some(text) => integer(&text).ok_or(Error::Malformed)?,
            None => 0,
        };
        let sum = value.checked_add(by).ok_or(Error::Malformed)?;
        self.hset(key, field, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    pub(super) fn hdel(&mut self, key: &str, field: &[u8]) -> Result<bool, Error> {
        if self.hash(key)?.is_none() {
            return Ok(false);
        }
        let hash = self.make_hash(key)?;
        let was_there = hash.remove(field).is_some();
        if hash.is_empty() {
            self.del(key);
        }
        Ok(was_there)
    }

    /// Returns fields with their values. The real order of larger hashes is any.
    pub(super) fn hgetall(&mut self, key: &str) -> Result<Pairs, Error> {
        let pairs = |hash: &BTreeMap<Vec<u8>, Vec<u8>>| {
            hash.iter().map(|(field, value)| (field.clone(), value.clone())).collect()
        };
        Ok(self.hash(key)?.map(pairs).unwrap_or_default())
    }

    /// Adds an entry with this id, and removes the oldest ones above `most`.
    pub(super) fn xadd(
        &mut self,
        key: &str,
        most: Option<usize>,
        id: Id,
        fields: Pairs,
    ) -> Result<(), Error> {
        if self.stream(key)?.map_or((0, 0), |stream| stream.last) >= id {
            return Err(Error::SmallId);
        }
        let stream = self.make_stream(key)?;
        stream.last = id;
        stream.entries.push((id, fields));
        if let Some(excess) = most.and_then(|most| stream.entries.len().checked_sub(most)) {
            stream.entries.drain(..excess);
        }
        Ok(())
    }

    /// Adds an entry whose id is the time, or follows the last one.
    pub(super) fn xadd_now(&mut self, key: &str, fields: Pairs) -> Result<(), Error> {
        let last = self.stream(key)?.map_or((0, 0), |stream| stream.last);
        let id = if last.0 >= self.now { (last.0, last.1 + 1) } else { (self.now, 0) };
        self.xadd(key, None, id, fields)
    }

    /// Returns the entries of a stream whose ids are not outside of the bounds, by ascending id.
    pub(super) fn xrange(&mut self, key: &str, first: Id, last: Id) -> Result<Vec<Item>, Error> {
        let Some(stream) = self.stream(key)? else { return Ok(Vec::new()) };
        Ok(stream.entries.iter().filter(|(id, _)| (first..=last).contains(id)).cloned().collect())
    }

    pub(super) fn sadd(&mut self, key: &str, member: Vec<u8>) -> Result<(), Error> {
        self.make_set(key)?.insert(member);
        Ok(())
    }

    pub(super) fn srem(&mut self, key: &str, member: &[u8]) -> Result<(), Error> {
        if self.members(key)?.is_some() {
            let set = self.make_set(key)?;
            set.remove(member);
            if set.is_empty() {
                self.del(key);
            }
        }
        Ok(())
    }

    pub(super) fn smembers(&mut self, key: &str) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.members(key)?.map(|set| set.iter().cloned().collect()).unwrap_or_default())
    }

    /// Returns whether the member is new.
    pub(super) fn zadd(&mut self, key: &str, score: f64, member: Vec<u8>) -> Result<bool, Error> {
        Ok(self.make_scores(key)?.insert(member, score).is_none())
    }

    pub(super) fn zscore(&mut self, key: &str, member: &[u8]) -> Result<Option<f64>, Error> {
        Ok(self.scores(key)?.and_then(|scores| scores.get(member).copied()))
    }

    pub(super) fn zrem(&mut self, key: &str, member: &[u8]) -> Result<(), Error> {
        if self.scores(key)?.is_some() {
            let scores = self.make_scores(key)?;
            scores.remove(member);
            if scores.is_empty() {
                self.del(key);
            }
        }
        Ok(())
    }

    /// Returns members whose scores are above `first`.
    pub(super) fn zrange_above(&mut self, key: &str, first: f64) -> Result<Vec<Vec<u8>>, Error> {
        let Some(scores) = self.scores(key)? else { return Ok(Vec::new()) };
        Ok(scores.iter().filter(|(_, score)| **score > first).map(|(member, _)| member.clone()).collect())
    }

    /// Returns members whose scores are not above `last`, the lowest scores first.
    pub(super) fn zrange_to(&mut self, key: &str, last: f64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let Some(scores) = self.scores(key)? else { return Ok(Vec::new()) };
        let mut found: Vec<(f64, &Vec<u8>)> = scores
            .iter()
            .map(|(member, score)| (*score, member))
            .filter(|(score, _)| *score <= last)
            .collect();
        // Members with equal scores stay in their order.
        found.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Ok(found.into_iter().take(limit).map(|(_, member)| member.clone()).collect())
    }
}

/// Returns the number that Redis reads: decimal digits without leading zeros, and perhaps a sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
