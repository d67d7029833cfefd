//! A socket without a kernel.

use std::hint::black_box;
use std::io::{self, Read, Write};

/// A socket in memory, the same for every side: a read copies out of a template, as the kernel copies out of
/// its own buffers, and a write takes all and looks at none of it.
///
/// Sessions unmask where the bytes lie, so each round needs fresh ones. That copy is inside of what is
/// measured, once on every side, because it is also inside of every real read.
#[derive(Debug)]
pub struct Socket {
    template: Vec<u8>,
    /// How much of the template this round's reads have handed out; starts again behind its end.
    at: usize,
    /// How often it was read from.
    pub reads: usize,
    /// How often it was written to.
    pub writes: usize,
    /// What was written, if anyone wants to know.
    pub kept: Option<Vec<u8>>,
}

impl Socket {
    /// A socket that hands out `template` over and over.
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
