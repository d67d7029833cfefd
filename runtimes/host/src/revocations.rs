//! The revoked credentials of a process.
//!
//! An operator revokes by the control port of any process. Processes that serve at the same time, because one is the successor of
//! the other, pass them to each other: see [`RevocationTable::connect`].

use std::collections::HashMap;
use std::io::{self, BufRead, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_core::handshake::{Identity, Revocation, Revocations};

use crate::channels::Node;

/// The revoked credentials of a process, and the processes to which they are passed.
#[derive(Debug)]
pub(crate) struct RevocationTable {
    state: RwLock<State>,
    /// Reaches the workers.
    node: Arc<Node>,
}

/// A revocation, and how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) revocation: Arc<Revocation>,
    /// When the revoked tokens have expired, in seconds since 1970.
    pub(crate) until: u64,
}

/// The table has as many revocations as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Default)]
struct State {
    /// The entries by their most specific condition.
    entries: HashMap<Condition, Vec<Entry>>,
    /// The number of entries.
    count: usize,
    peers: Vec<Peer>,
    /// The number of peers since the start.
    connected: usize,
}

/// A process that gets the entries.
#[derive(Debug)]
struct Peer {
    number: usize,
    entries: Sender<Entry>,
}

/// The most specific condition of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Condition {
    Token(Box<str>),
    Session(Box<str>),
    User(Box<str>),
    Time,
}

impl Revocations for RevocationTable {
    fn are_revoked(&self, identity: &Identity) -> bool {
        let state = self.read();
        if state.count == 0 {
            return false;
        }
        let now = unix_time();
        let conditions = [
            identity.token().id.map(|id| Condition::Token(id.into())),
            identity.session_id().map(|id| Condition::Session(id.into())),
            Some(Condition::User(identity.id().into())),
            Some(Condition::Time),
        ];
        let mut entries = conditions.into_iter().flatten().filter_map(|of| state.entries.get(&of)).flatten();
        entries.any(|entry| now < entry.until && entry.revocation.matches(identity))
    }
}

impl RevocationTable {
    /// Creates the table of a process with these workers.
    pub(crate) fn new(node: &Arc<Node>) -> Arc<RevocationTable> {
        Arc::new(RevocationTable { state: RwLock::default(), node: node.clone() })
    }

    /// Returns the number of entries, including those that have expired and are not removed yet.
    pub(crate) fn len(&self) -> usize {
        self.read().count
    }

    /// Adds an entry, and passes it to all peers. The caller ends the connections of this process.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn add(&self, entry: &Entry) -> Result<(), Full> {
        self.add_from(entry, None)
    }

    fn add_from(&self, entry: &Entry, from: Option<usize>) -> Result<(), Full> {
        let mut state = self.write();
        if !state.insert(entry) {
            return Err(Full);
        }
        // A peer that has ended needs nothing.
        state.peers.retain(|peer| from == Some(peer.number) || peer.entries.send(entry.clone()).is_ok());
        Ok(())
    }

    /// Sends all entries to another process, over `channel`, now and until it ends. An empty line follows those that
    /// exist. Returns the number of the peer.
    ///
    /// # Errors
    /// No descriptor or no thread is left.
    pub(crate) fn connect(&self, channel: &UnixStream) -> io::Result<usize> {
        let channel = channel.try_clone()?;
        let (sender, receiver) = mpsc::channel();
        let mut state = self.write();
        state.connected += 1;
        let number = state.connected;
        let known: Vec<Entry> = state.entries.values().flatten().cloned().collect();
        state.peers.push(Peer { number, entries: sender });
        drop(state);
        thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || drop(send_all(&channel, &known, &receiver)))?;
        Ok(number)
    }

    /// Receives the entries that a predecessor has sent, up to the empty line.
    ///
    /// # Errors
    /// It does not send them in time, or they have another form.
    pub(crate) fn receive_known(&self, channel: &mut impl BufRead) -> io::Result<()> {
        for line in channel.lines() {
            let line = line?;
            if line.is_empty() {
                return Ok(());
            }
            let entry = Entry::parse(&line).ok_or(io::ErrorKind::InvalidData)?;
            // The predecessor has the same limit.
            let _ = self.add(&entry);
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Receives the entries of the peer with this number until it ends, and ends their connections in this process.
    pub(crate) fn receive(&self, channel: impl BufRead, peer: usize) {
        for line in channel.lines() {
            let Ok(line) = line else { return };
            // It sends an empty line after those that it has had before.
            let Some(entry) = Entry::parse(&line) else { continue };
            if self.add_from(&entry, Some(peer)).is_ok() {
                self.node.revoke(&entry.revocation);
            }
        }
    }

    /// Adds entries of other nodes, and ends their connections in this process. Known ones have no effect.
    pub(crate) fn add_remote(&self, lines: &[Vec<u8>]) {
        for line in lines {
            let entry = str::from_utf8(line).ok().and_then(Entry::parse);
            let Some(entry) = entry.filter(|entry| unix_time() < entry.until) else { continue };
            if self.add(&entry).is_ok() {
                self.node.revoke(&entry.revocation);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // No code that holds the lock panics while the state is inconsistent.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds an entry, or extends one with the same conditions. Returns `false` if the table is full.
    fn insert(&mut self, entry: &Entry) -> bool {
        let new = &*entry.revocation;
        let is_same = |known: &&mut Entry| {
            let known = &*known.revocation;
            (&known.user, &known.session, &known.token_id) == (&new.user, &new.session, &new.token_id)
                && known.issued_before.is_some() == new.issued_before.is_some()
        };
        let condition = Condition::of(new);
        if let Some(known) = self.entries.get_mut(&condition).and_then(|list| list.iter_mut().find(is_same)) {
            // A later time includes an earlier one.
            if known.revocation.issued_before < new.issued_before {
                known.revocation = entry.revocation.clone();
            }
            known.until = known.until.max(entry.until);
            return true;
        }
        if self.count >= MOST {
            self.remove_expired(unix_time());
        }
        if self.count >= MOST {
            return false;
        }
        self.entries.entry(condition).or_default().push(entry.clone());
        self.count += 1;
        true
    }

    fn remove_expired(&mut self, now: u64) {
        self.entries.retain(|_, list| {
            list.retain(|entry| now < entry.until);
            !list.is_empty()
        });
        self.count = self.entries.values().map(Vec::len).sum();
    }
}

impl Condition {
    fn of(revocation: &Revocation) -> Condition {
        let Revocation { user, session, token_id, issued_before: _ } = revocation;
        let token = token_id.clone().map(Condition::Token);
        let session = || session.clone().map(Condition::Session);
        let user = || user.clone().map(Condition::User);
        token.or_else(session).or_else(user).unwrap_or(Condition::Time)
    }
}

impl Entry {
    /// Writes the entry as a line. No value has a control character.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Revocation { user, session, token_id, issued_before } = &*self.revocation;
        let time = issued_before.map(|time| time.to_string()).unwrap_or_default();
        let [user, session, token_id] =
            [user, session, token_id].map(|text| text.as_deref().unwrap_or_default());
        writeln!(out, "{}\t{time}\t{user}\t{session}\t{token_id}", self.until)
    }

    /// Returns the entry as a line, without its end.
    pub(crate) fn to_line(&self) -> String {
        let mut line = Vec::new();
        // Writing to a vector does not fail.
        let _ = self.write(&mut line);
        String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()
    }

    /// Parses a line that [`to_line`](Entry::to_line) has returned in another process.
    pub(crate) fn from_line(line: &str) -> Option<Entry> {
        Entry::parse(line)
    }

    /// Parses a line.
    fn parse(line: &str) -> Option<Entry> {
        let parts: Vec<&str> = line.split('\t').collect();
        let [until, time, user, session, token_id] = parts[..] else { return None };
        let [user, session, token_id] =
            [user, session, token_id].map(|text| (!text.is_empty()).then(|| text.into()));
        let issued_before = if time.is_empty() { None } else { Some(time.parse().ok()?) };
        let revocation = Arc::new(Revocation { user, session, token_id, issued_before });
        Some(Entry { revocation, until: until.parse().ok()? })
    }
}

/// Sends entries until the other process ends.
fn send_all(channel: &UnixStream, known: &[Entry], entries: &Receiver<Entry>) -> io::Result<()> {
    let mut out = BufWriter::new(channel);
    known.iter().try_for_each(|entry| entry.write(&mut out))?;
    out.write_all(b"\n")?;
    out.flush()?;
    for entry in entries {
        entry.write(&mut out)?;
        out.flush()?;
    }
    Ok(())
}

/// Returns the time in seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The most entries: about 20 MiB.
pub(crate) const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::time::Duration;

    use postern_channels::ChannelsConfig;
    use postern_core::handshake::{IdentityRules, IdentityValues};

    use super::*;

    fn table() -> Arc<RevocationTable> {
        RevocationTable::new(&Node::new(
            1,
            usize::MAX,
            Arc::new(ChannelsConfig::default()),
            crate::hooks::Hooks::default(),
        ))
    }

    fn identity(id: &str, session: &str) -> Identity {
        let values = IdentityValues {
            id: id.as_bytes(),
            session_id: session.as_bytes(),
            token_id: b"t",
            token_issued_at: b"100",
            ..IdentityValues::default()
        };
        IdentityRules::default().identity(&values).unwrap()
    }

    fn entry(line: &str) -> Entry {
        Entry::parse(&line.replace(' ', "\t")).unwrap_or_else(|| panic!("{line:?}"))
    }

    #[test]
    fn an_entry_is_a_line() {
        for line in ["7 100 1 s t", "7  1  ", "7 100   ", "7   s ", "7    t"] {
            let mut written = Vec::new();
            entry(line).write(&mut written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), line.replace(' ', "\t") + "\n");
        }
        for bad in ["", "7", "x\t\t1\t\t", "7\tx\t1\t\t", "7\t\t1\t\t\t"] {
            assert_eq!(Entry::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn credentials_are_revoked_until_the_time() {
        let table = table();
        assert!(!table.are_revoked(&identity("1", "s")));
        let until = unix_time() + 100;
        for (line, revoked) in [
            ("0  1  ", [false, false, false]),
            ("U   s-1 ", [false, true, false]),
            ("U  2 s ", [false, true, false]),
            ("U 100   ", [false, true, false]),
            ("U 101 3  ", [false, true, true]),
            ("U    t", [true, true, true]),
        ] {
            table.add(&entry(&line.replace('U', &until.to_string()))).unwrap();
            let users = [("1", "s"), ("2", "s-1"), ("3", "s")];
            assert_eq!(
                users.map(|(id, session)| table.are_revoked(&identity(id, session))),
                revoked,
                "{line}"
            );
        }
    }

    #[test]
    fn the_same_conditions_take_one_entry() {
        let table = table();
        let until = unix_time() + 100;
        for line in ["U 50 1  ", "U 200 1  ", "U 60 1  ", "U  1  ", "U  1  "] {
            table.add(&entry(&line.replace('U', &until.to_string()))).unwrap();
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_expired_entries_make_room() {
        let table = table();
        let add = |until: u64, number: usize| table.add(&entry(&format!("{until}  {number}  ")));
        (0..MOST).for_each(|number| add(1, number).unwrap());
        assert_eq!((add(u64::MAX, MOST), table.len()), (Ok(()), 1));
        (0..MOST - 1).for_each(|number| add(u64::MAX, number).unwrap());
        assert_eq!(add(u64::MAX, MOST + 1), Err(Full));
        assert_eq!(add(u64::MAX, 1), Ok(()), "it has an entry");
    }

    #[test]
    fn processes_pass_entries_to_each_other_and_on() {
        let [first, second, third] = [table(), table(), table()];
        let until = unix_time() + 100;
        let revoke = |table: &RevocationTable, user: &str| {
            table.add(&entry(&format!("{until}  {user}  "))).unwrap();
        };
        revoke(&first, "before");
        let link = |old: &Arc<RevocationTable>, new: &Arc<RevocationTable>| {
            let (here, there) = UnixStream::pair().unwrap();
            let peer = old.connect(&here).unwrap();
            let mut there = BufReader::new(there);
            new.receive_known(&mut there).unwrap();
            let number = new.connect(there.get_ref()).unwrap();
            let here = BufReader::new(here);
            for (table, channel, peer) in [(old.clone(), here, peer), (new.clone(), there, number)] {
                thread::spawn(move || table.receive(channel, peer));
            }
        };
        link(&first, &second);
        assert!(second.are_revoked(&identity("before", "")));
        link(&second, &third);
        revoke(&third, "new");
        revoke(&first, "old");
        let is_everywhere =
            |user: &str| [&first, &second, &third].iter().all(|table| table.are_revoked(&identity(user, "")));
        for _ in 0..1_000 {
            if ["before", "new", "old"].iter().all(|user| is_everywhere(user)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("an entry is missing: {first:?} {second:?} {third:?}");
    }
}
