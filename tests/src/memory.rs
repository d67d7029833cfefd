//! The memory of a process, searched for secrets.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use crate::canary::search::Search;
use crate::canary::{Kind, Secret};

/// A copy of a secret in the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The form of the secret.
    pub form: &'static str,
    /// The mapping that contains it: `[heap]`, `[stack]`, a file, or `anonymous`.
    pub mapping: String,
    /// Its address.
    pub address: u64,
    /// The number of bytes of the secret that are there.
    pub len: usize,
    /// The bytes around it, escaped, with dots for the bytes of the secret.
    pub around: String,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Copy { form, mapping, address, len, around } = self;
        write!(f, "{len} bytes {form} at {address:#x} in {mapping}: {around}")
    }
}

/// Returns the copies of secrets, or of 16 bytes of them, in all memory that a process can read and write, in each form that the
/// [canary](crate::canary) knows. Its registers and its data in the kernel are not searched.
///
/// # Panics
///
/// If the memory cannot be read. A process may read the memory of its children, unless the system forbids it to all processes.
#[track_caller]
pub fn copies(process: u32, secrets: &[Vec<u8>]) -> Vec<Copy> {
    let secrets = secrets.iter().map(|bytes| Secret { kind: Kind::Token, bytes: bytes.clone() });
    let found = search(process, &Search::new(&secrets.collect::<Vec<_>>()));
    found.unwrap_or_else(|error| {
        panic!(
            "the memory of the process {process} cannot be read: {error}. This test needs the permission to read the memory of its \
             children: see ptrace(2), kernel.yama.ptrace_scope"
        )
    })
}

fn search(process: u32, search: &Search) -> io::Result<Vec<Copy>> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let mut copies = Vec::new();
    let mut searched = 0;
    for line in maps.lines() {
        // proc_pid_maps(5): `start-end permissions offset device inode path`.
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(permissions)) = (fields.next(), fields.next()) else { continue };
        if !permissions.starts_with("rw") {
            continue;
        }
        let mapping = fields.nth(3).unwrap_or("anonymous");
        let (start, end) = range.split_once('-').unwrap_or_default();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap_or_default());
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or_default()];
        match memory.read_exact_at(&mut bytes, start) {
            Ok(()) => {}
            // The mapping has ended, or is not backed by memory.
            Err(error)
                if matches!(error.raw_os_error(), Some(5)) || error.kind() == ErrorKind::UnexpectedEof =>
            {
                continue;
            }
            Err(error) => return Err(error),
        }
        searched += bytes.len();
        for leak in search.leaks(&bytes, |_| true) {
            let before = bytes.get(leak.place.start.saturating_sub(24)..leak.place.start).unwrap_or_default();
            let after = bytes.get(leak.place.end..).unwrap_or_default();
            let after = after.get(..24).unwrap_or(after);
            copies.push(Copy {
                form: leak.form,
                mapping: mapping.to_owned(),
                address: start + leak.place.start as u64,
                len: leak.place.len(),
                around: format!("{}…{}", before.escape_ascii(), after.escape_ascii()),
            });
        }
    }
    if searched == 0 {
        return Err(io::Error::other("no mapping of it can be read"));
    }
    Ok(copies)
}
