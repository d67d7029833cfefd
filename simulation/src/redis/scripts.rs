//! The scripts of [`postern_channels::relay::scripts`] as functions on the data of the model. Each has the same steps in the same
//! order, so an error leaves the same part of them done.

use std::collections::{BTreeMap, BTreeSet};

use postern_channels::exchange::HistoryOptions;
use postern_channels::relay::command::{
    AddPresence, Entry, PublishCommand, PublishResult, Range, ReadCommand, RemovePresence, Topic, WriteUser,
};

use super::data::{Data, Error, Id, Item};
use super::{Answer, Published, REVOCATIONS, hexadecimal};

/// The data as a script sees it: only its first write can be refused.
pub(super) struct Script<'d> {
    pub(super) data: &'d mut Data,
    pub(super) is_full: bool,
    pub(super) is_replica: bool,
    /// Whether the script has changed the data.
    pub(super) has_written: bool,
    /// The messages that it has published.
    pub(super) messages: Vec<(String, Vec<u8>)>,
}

impl Script<'_> {
    /// Begins a command that changes data, and that may need memory.
    fn write(&mut self, needs_memory: bool) -> Result<&mut Data, Error> {
        if self.is_replica && !self.has_written {
            return Err(Error::ReadOnly);
        }
        if self.is_full && needs_memory && !self.has_written {
            return Err(Error::Memory);
        }
        self.has_written = true;
        Ok(self.data)
    }

    fn say(&mut self, topic: String, message: Vec<u8>) {
        self.messages.push((topic, message));
    }

    pub(super) fn publish(&mut self, command: &PublishCommand) -> Answer<Published> {
        let PublishCommand { channel, body, history, key, version, stream } = command;
        let (meta, entries) = (format!("m:{{{channel}}}"), format!("s:{{{channel}}}"));
        let topic = Topic::Channel(channel.clone()).name();
        let key = key.as_ref().map(|key| format!("i:{{{channel}}}:{key}"));
        if let Some(key) = &key
            && let Some(known) = self.data.get(key)?
        {
            let (epoch, offset) = position_text(&known).unwrap_or_default();
            return Ok(Published { outcome: PublishResult::Duplicate, epoch, offset });
        }
        let Some(HistoryOptions { size, ttl, meta_ttl, .. }) = *history else {
            if let Some(key) = &key {
                self.write(true)?.set(key, Vec::new(), Some(IDEMPOTENCY));
            }
            self.say(topic, [b"-:", &**body].concat());
            return Ok(Published {
                outcome: PublishResult::Published,
                epoch: Vec::new(),
                offset: Vec::new(),
            });
        };
        let [e, s, r, v, w] = [b"e", b"s", b"r", b"v", b"w"].map(|field| self.data.hget(&meta, field));
        let (r, v, w) = (r?, v?, w?);
        let (epoch, offset) = match (e?, s?) {
            (Some(epoch), Some(_))
                if !stream.replication.is_empty() && r.as_deref() != Some(stream.replication.as_bytes()) =>
            {
                drop(epoch);
                (stream.epoch.as_str().into(), self.data.hget(&meta, b"s")?.unwrap_or_default())
            }
            (Some(epoch), Some(offset)) => (epoch, offset),
            (_, _) => {
                self.write(false)?.del(&entries);
                (stream.epoch.as_str().into(), b"0".to_vec())
            }
        };
        // Lua has no other numbers.
        let number = version.as_ref().map(|version| version.number as f64).filter(|number| *number != 0.0);
        if let (Some(number), Some(version), Some(v)) = (number, version, v)
            && w.as_deref() == Some(version.epoch.as_bytes())
        {
            let last: f64 = str::from_utf8(&v).ok().and_then(|v| v.parse().ok()).ok_or(Error::Malformed)?;
            if last >= number {
                return Ok(Published { outcome: PublishResult::Outdated, epoch, offset });
            }
        }
        let data = self.write(true)?;
        data.hset(&meta, b"e", epoch.clone())?;
        data.hset(&meta, b"s", offset)?;
        data.hset(&meta, b"r", stream.replication.as_bytes().into())?;
        if let Some(version) = version.as_ref().filter(|version| version.number != 0) {
            data.hset(&meta, b"v", version.number.to_string().into_bytes())?;
            data.hset(&meta, b"w", version.epoch.as_bytes().into())?;
        }
        let offset = data.hincrby(&meta, b"s", 1)?;
        data.pexpire(&meta, milliseconds(meta_ttl));
        let id = u64::try_from(offset).map_err(|_| Error::Malformed)?;
        let fields = vec![(b"d".to_vec(), body.to_vec())];
        data.xadd(&entries, Some(size), (id, 0), fields)?;
        data.pexpire(&entries, milliseconds(ttl));
        let offset = offset.to_string().into_bytes();
        self.say(topic, [&epoch, &offset, b":".as_slice(), body].concat());
        if let Some(key) = &key {
            let known = [&epoch, b":".as_slice(), &offset].concat();
            self.write(true)?.set(key, known, Some(IDEMPOTENCY));
        }
        Ok(Published { outcome: PublishResult::Published, epoch, offset })
    }

    /// Returns the epoch, the offset and the entries.
    pub(super) fn read(&mut self, command: &ReadCommand) -> Answer<(Vec<u8>, Vec<u8>, Vec<Item>)> {
        let ReadCommand { channel, history, range, stream } = command;
        let (meta, key) = (format!("m:{{{channel}}}"), format!("s:{{{channel}}}"));
        let [e, s, r] = [b"e", b"s", b"r"].map(|field| self.data.hget(&meta, field));
        let r = r?;
        let replication = stream.replication.as_bytes();
        let (epoch, offset) = match (e?, s?) {
            (Some(_), Some(offset)) if !replication.is_empty() && r.as_deref() != Some(replication) => {
                let epoch = stream.epoch.as_str().as_bytes().to_vec();
                let data = self.write(true)?;
                data.hset(&meta, b"e", epoch.clone())?;
                data.hset(&meta, b"r", replication.to_vec())?;
                (epoch, offset)
            }
            (Some(epoch), Some(offset)) => (epoch, offset),
            (_, _) => {
                let epoch = stream.epoch.as_str().as_bytes().to_vec();
                self.write(false)?.del(&key);
                let data = self.write(true)?;
                data.hset(&meta, b"e", epoch.clone())?;
                data.hset(&meta, b"s", b"0".to_vec())?;
                data.hset(&meta, b"r", replication.to_vec())?;
                (epoch, b"0".to_vec())
            }
        };
        self.write(false)?.pexpire(&meta, milliseconds(history.meta_ttl));
        let Range { since, is_reverse, limit } = *range;
        if limit == Some(0) {
            return Ok((epoch, offset, Vec::new()));
        }
        let (first, last): (Id, Id) = match (since, is_reverse) {
            (None, _) => (FIRST, LAST),
            (Some(since), false) => ((since.saturating_add(1), 0), LAST),
            (Some(since), true) => (FIRST, (since.saturating_sub(1), u64::MAX)),
        };
        let mut entries = self.data.xrange(&key, first, last)?;
        if is_reverse {
            entries.reverse();
        }
        entries.truncate(limit.unwrap_or(usize::MAX));
        Ok((epoch, offset, entries))
    }

    /// Returns whether the lease is new, and leases that have expired.
    pub(super) fn renew_lease(
        &mut self,
        lease: u64,
        time: u64,
        description: &[u8],
    ) -> Answer<(bool, Vec<Vec<u8>>)> {
        let now = self.data.now;
        let is_new = self.write(true)?.zadd(LEASES, (now + time) as f64, hexadecimal(lease))?;
        if !description.is_empty() {
            // A failure has no effect.
            let _ = self.write(true)?.hset(NODES, &hexadecimal(lease), description.to_vec());
        }
        Ok((is_new, self.data.zrange_to(LEASES, now as f64, 10)?))
    }

    pub(super) fn read_nodes(&mut self) -> Answer<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        for lease in self.data.zrange_above(LEASES, self.data.now as f64)? {
            found.extend(self.data.hget(NODES, &lease)?);
        }
        Ok(found)
    }

    /// Returns whether nothing is left. `choose` orders the channels of the lease.
    pub(super) fn reap(
        &mut self,
        lease: u64,
        is_announced: bool,
        choose: &mut impl FnMut(&mut Vec<Vec<u8>>),
    ) -> Answer<bool> {
        let (name, now) = (hexadecimal(lease), self.data.now as f64);
        let own = format!("pk:{lease:016x}");
        if is_announced && self.data.zscore(LEASES, &name)?.is_some_and(|score| score > now) {
            return Ok(true);
        }
        let mut channels = self.data.smembers(&own)?;
        choose(&mut channels);
        let prefix = [&name, b"/".as_slice()].concat();
        for channel in channels.into_iter().take(20) {
            let name = String::from_utf8_lossy(&channel).into_owned();
            let key = format!("p:{{{name}}}");
            for (field, info) in self.data.hgetall(&key)? {
                if field.starts_with(&prefix) {
                    self.write(false)?.hdel(&key, &field)?;
                    if is_announced {
                        self.say(format!("ch:{{{name}}}"), [b"~0000000000000000:", &*info].concat());
                    }
                }
            }
            self.write(false)?.srem(&own, &channel)?;
        }
        let of_users = format!("uk:{lease:016x}");
        let mut users = self.data.smembers(&of_users)?;
        if !users.is_empty() {
            choose(&mut users);
        }
        for user in users.into_iter().take(20) {
            let key = format!("u:{{{}}}", String::from_utf8_lossy(&user));
            for (field, _) in self.data.hgetall(&key)? {
                if field == SINCE || field.starts_with(&prefix) {
                    self.write(false)?.hdel(&key, &field)?;
                }
            }
            self.write(false)?.srem(&of_users, &user)?;
        }
        if !self.data.smembers(&own)?.is_empty() || !self.data.smembers(&of_users)?.is_empty() {
            return Ok(false);
        }
        let _ = self.write(false)?.hdel(NODES, &name);
        self.write(false)?.zrem(LEASES, &name)?;
        Ok(true)
    }

    /// Returns whether the lease was known.
    pub(super) fn add_presence(&mut self, add: &AddPresence) -> Answer<bool> {
        let AddPresence { channel, lease, time, clients, join } = add;
        for (client, info) in clients {
            let field = format!("{lease:016x}/{client}").into_bytes();
            self.write(true)?.hset(&format!("p:{{{channel}}}"), &field, info.to_vec())?;
        }
        self.write(true)?.sadd(&format!("pk:{lease:016x}"), channel.as_bytes().to_vec())?;
        let (score, name) = ((self.data.now + milliseconds(*time)) as f64, hexadecimal(*lease));
        let was_known = self.data.zscore(LEASES, &name)?.is_some();
        if !was_known {
            self.write(true)?.zadd(LEASES, score, name)?;
        }
        if let Some(join) = join {
            self.say(Topic::Channel(channel.clone()).name(), join.to_vec());
        }
        Ok(was_known)
    }

    pub(super) fn remove_presence(&mut self, remove: &RemovePresence) -> Answer<()> {
        let RemovePresence { channel, lease, client, is_last, leave } = remove;
        let (key, field) = (format!("p:{{{channel}}}"), format!("{lease:016x}/{client}").into_bytes());
        if self.write(false)?.hdel(&key, &field)? {
            self.say(Topic::Channel(channel.clone()).name(), leave.to_vec());
        }
        let prefix = format!("{lease:016x}/");
        let is_of_lease = |(field, _): &(Vec<u8>, Vec<u8>)| field.starts_with(prefix.as_bytes());
        if *is_last && !self.data.hgetall(&key)?.iter().any(is_of_lease) {
            self.write(false)?.srem(&format!("pk:{lease:016x}"), channel.as_bytes())?;
        }
        Ok(())
    }

    /// Returns whether the lease was known, its connections that are too many, and the milliseconds for which there have been
    /// too many.
    pub(super) fn write_user(&mut self, write: &WriteUser) -> Answer<(bool, Vec<u64>, u64)> {
        let WriteUser { user, lease, time, node, limit, connections } = write;
        let (key, own, now) = (format!("u:{{{user}}}"), hexadecimal(*lease), self.data.now);
        let node = format!("{node:016x}");
        let field = |connection: &u64| format!("{lease:016x}/{connection}").into_bytes();
        let mut listed: BTreeMap<Vec<u8>, u64> = connections
            .iter()
            .map(|(connection, age)| (field(connection), now - age.as_millis() as u64))
            .collect();
        let (mut gone, mut since) = (Vec::new(), None);
        // By node and connection.
        let mut found = BTreeMap::<Vec<u8>, (f64, Vec<u8>, String)>::new();
        let mut count = |at: f64, field: Vec<u8>, node: String| {
            let connection = [node.as_bytes(), field.get(16..).unwrap_or_default()].concat();
            let first = found.entry(connection).or_insert((at, field, node));
            first.0 = first.0.min(at);
        };
        for (field, value) in self.data.hgetall(&key)? {
            if field == SINCE {
                since = Some(value);
                continue;
            }
            let of = field.get(..16).unwrap_or(&field);
            let is_valid = of == own || self.data.zscore(LEASES, of)?.is_some_and(|score| score > now as f64);
            match admission(&value) {
                Some((at, of_node)) if is_valid && (of != own || listed.contains_key(&field)) => {
                    // An entry of another lease of the node does not count.
                    if of == own || of_node != node {
                        listed.remove(&field);
                        count(at, field, of_node);
                    }
                }
                Some(_) | None => gone.push(field),
            }
        }
        let has_changed = !gone.is_empty() || !listed.is_empty();
        for field in gone {
            self.write(false)?.hdel(&key, &field)?;
        }
        for (field, at) in listed {
            self.write(true)?.hset(&key, &field, format!("{at}/{node}").into_bytes())?;
            count(at as f64, field, node.clone());
        }
        let set = format!("uk:{lease:016x}");
        let mut was_known = true;
        if connections.is_empty() {
            self.write(false)?.srem(&set, user.as_bytes())?;
        } else {
            self.write(true)?.sadd(&set, user.as_bytes().to_vec())?;
            was_known = self.data.zscore(LEASES, &own)?.is_some();
            if !was_known {
                self.write(true)?.zadd(LEASES, (now + milliseconds(*time)) as f64, own.clone())?;
            }
        }
        // Sorting is stable, so the connections are in order at the same time.
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by(|one, other| one.0.total_cmp(&other.0));
        let many = found.len().saturating_sub(limit.most);
        let range = if limit.closes_newest { found.len() - many..found.len() } else { 0..many };
        let mut above = 0;
        if limit.closes_newest && many > 0 {
            match since.as_deref().and_then(digits).filter(|at| *at <= now as f64) {
                Some(at) => above = now - at as u64,
                None => self.write(true)?.hset(&key, SINCE, now.to_string().into_bytes())?,
            }
        } else if since.is_some() {
            let _ = self.write(false)?.hdel(&key, SINCE)?;
        }
        let (mut excess, mut told) = (Vec::new(), BTreeSet::new());
        for (_, field, node) in found.drain(range) {
            if field.get(..16) == Some(&own) {
                let number =
                    field.get(17..).and_then(|number| str::from_utf8(number).ok()?.parse::<u64>().ok());
                excess.extend(number);
            } else if has_changed && told.insert(node.clone()) {
                self.say(format!("n:{node}"), [b"u", user.as_bytes()].concat());
            }
        }
        Ok((was_known, excess, above))
    }

    /// `XADD`, which is not a script.
    pub(super) fn add_revocation(&mut self, revocation: &[u8]) -> Answer<()> {
        self.write(true)?.xadd_now(REVOCATIONS, vec![(b"d".to_vec(), revocation.to_vec())])
    }

    /// `DEL`, which is not a script.
    pub(super) fn clear(&mut self, channel: &str) -> Answer<()> {
        self.write(false)?.del(&format!("s:{{{channel}}}"));
        Ok(())
    }
}

/// Returns the entries of a channel's stream that are publications.
pub(super) fn entries(items: Vec<Item>) -> Vec<Entry> {
    let entry = |((offset, part), fields): Item| match <[_; 1]>::try_from(fields) {
        Ok([(name, body)]) if part == 0 && name == b"d" => Some(Entry { offset, body }),
        Ok(_) | Err(_) => None,
    };
    items.into_iter().filter_map(entry).collect()
}

/// Splits the value of an idempotency key.
fn position_text(known: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = known.iter().position(|&byte| byte == b':')?;
    let (epoch, offset) = (known.get(..colon)?, known.get(colon + 1..)?);
    let is_position = !epoch.is_empty()
        && !offset.is_empty()
        && epoch.iter().all(u8::is_ascii_alphabetic)
        && offset.iter().all(u8::is_ascii_digit);
    is_position.then(|| (epoch.to_vec(), offset.to_vec()))
}

/// Splits the value of a connection into the time of its admission and its node.
fn admission(value: &[u8]) -> Option<(f64, String)> {
    let (at, node) = str::from_utf8(value).ok()?.split_once('/')?;
    let is_node = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits(at.as_bytes()).filter(|_| is_node).map(|at| (at, node.to_owned()))
}

/// Parses a time that consists of digits.
fn digits(text: &[u8]) -> Option<f64> {
    let is_valid = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_valid)?.parse().ok()
}

/// The field of a user's hash with the time since which there are too many connections.
const SINCE: &[u8] = b"since";

/// Returns the milliseconds of a time, as the driver sends them.
fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, MOST)
}

const LEASES: &str = "leases";
const NODES: &str = "nodes";
const FIRST: Id = (0, 0);
const LAST: Id = (u64::MAX, u64::MAX);

/// The time of an idempotency key, in milliseconds.
const IDEMPOTENCY: u64 = 5 * 60 * 1000;

/// The longest time, in milliseconds.
const MOST: u64 = 100 * 366 * 24 * 60 * 60 * 1000;
