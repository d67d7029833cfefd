//! Reserved descriptors, for when the process has no other left.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

/// Open descriptors that are otherwise unused. Closing one allows an accept that would fail otherwise.
#[derive(Debug)]
pub(crate) struct FdReserve {
    spare: Vec<OwnedFd>,
    size: usize,
}

impl FdReserve {
    /// Opens `size` descriptors.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(crate) fn new(size: usize) -> io::Result<FdReserve> {
        let mut reserve = FdReserve { spare: vec![placeholder()?], size };
        reserve.refill(0);
        Ok(reserve)
    }

    /// Closes one descriptor. Returns false if all are closed already.
    pub(crate) fn release(&mut self) -> bool {
        self.spare.pop().is_some()
    }

    /// Opens descriptors until their number and `in_use` are the size of the reserve, as far as the system allows it.
    pub(crate) fn refill(&mut self, in_use: usize) {
        while self.spare.len() + in_use < self.size
            && let Ok(descriptor) = placeholder()
        {
            self.spare.push(descriptor);
        }
    }

    /// Returns the number of open descriptors.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.spare.len()
    }
}

/// Returns an unconnected socket. An image with one program may contain no file to open, and a duplicate of a
/// descriptor does not count against the limit of the whole system.
fn placeholder() -> io::Result<OwnedFd> {
    Ok(Socket::new(Domain::UNIX, Type::DGRAM, None)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_are_not_in_use_are_taken_back() {
        let mut reserve = FdReserve::new(3).unwrap();
        assert!(reserve.release() && reserve.release() && reserve.release());
        assert!(!reserve.release());
        reserve.refill(2);
        assert_eq!(reserve.len(), 1);
        reserve.refill(0);
        assert_eq!(reserve.len(), 3);
    }
}
