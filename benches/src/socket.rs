//! A socket in memory.

use std::hint::black_box;
use std::io::{self, Read, Write};

/// A socket in memory, the same for all servers. A read copies bytes of a template, as the kernel copies bytes of its
/// buffers. A write discards the bytes.
///
/// Sessions unmask in place, so each iteration needs a new copy. The copy is part of the measurement of all servers,
/// because it is also part of every real read.
#[derive(Debug)]
pub struct Socket {
    template: Vec<u8>,
    /// The number of bytes of the template that have been read. It starts again at 0 after the end of the template.
    at: usize,
    /// Number of reads.
    pub reads: usize,
    /// Number of writes.
    pub writes: usize,
    /// The written bytes, if they are recorded.
    pub kept: Option<Vec<u8>>,
}

impl Socket {
    /// Creates a socket whose reads return `template` repeatedly.
    pub fn new(template: &[u8]) -> Socket {
        Socket { template: template.to_vec(), at: 0, reads: 0, writes: 0, kept: None }
    }
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let mut rest = &self.template[self.at..];
        let n = rest.read(to)?;
        self.at = (self.at + n) % self.template.len();
        Ok(n)
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
