//! The protocol between a process and its successor, over the successor's standard input.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The purpose of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A listener for users.
    Users,
    /// A listener for users that the supervisor has opened.
    Supervised,
    /// The listener of the control port.
    Control,
}

impl Role {
    fn tag(self) -> u8 {
        match self {
            Role::Users => b'u',
            Role::Supervised => b's',
            Role::Control => b'c',
        }
    }

    fn from_tag(tag: u8) -> Option<Role> {
        [Role::Users, Role::Supervised, Role::Control].into_iter().find(|known| known.tag() == tag)
    }
}

/// Sends all descriptors in one message: the version of this protocol, then a tag for each.
///
/// # Errors
/// There are too many descriptors, or sending fails.
pub(super) fn send(channel: &UnixStream, descriptors: &[(Role, BorrowedFd<'_>)]) -> io::Result<()> {
    if descriptors.len() > MOST {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("more than {MOST} listeners")));
    }
    let tags: Vec<u8> = [VERSION].into_iter().chain(descriptors.iter().map(|(of, _)| of.tag())).collect();
    let bare: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, descriptor)| *descriptor).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&bare)) {
        return Err(io::Error::from(ErrorKind::InvalidInput));
    }
    // The message is much smaller than the socket's buffer.
    sendmsg(channel, &[IoSlice::new(&tags)], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the descriptors that [`send`] has sent.
///
/// # Errors
/// There is no message, or it has another format.
pub(super) fn receive(channel: &UnixStream) -> io::Result<Vec<(Role, OwnedFd)>> {
    let mut tags = [0; MOST + 1];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let length =
        recvmsg(channel, &mut [IoSliceMut::new(&mut tags)], &mut rights, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let wrong = || io::Error::new(ErrorKind::InvalidData, "it speaks another version of this protocol");
    let Some((&VERSION, tags)) = tags.get(..length).and_then(<[u8]>::split_first) else {
        return Err(wrong());
    };
    let uses: Vec<Role> = tags.iter().filter_map(|tag| Role::from_tag(*tag)).collect();
    if uses.len() != tags.len() || uses.len() != descriptors.len() {
        return Err(wrong());
    }
    Ok(uses.into_iter().zip(descriptors).collect())
}

/// Reports to the predecessor that the successor serves.
///
/// # Errors
/// The predecessor has ended.
pub(super) fn send_ready(mut channel: &UnixStream) -> io::Result<()> {
    channel.write_all(&[READY])
}

/// Waits for the report of [`send_ready`], up to the timeout of the channel.
///
/// # Errors
/// [`ErrorKind::UnexpectedEof`] if the successor has ended, [`ErrorKind::WouldBlock`] after the timeout.
pub(super) fn receive_ready(mut channel: &UnixStream) -> io::Result<()> {
    channel.read_exact(&mut [0])
}

/// The version of this protocol. A successor may be of a later version of the program.
const VERSION: u8 = 2;

/// The message of a successor that serves.
const READY: u8 = b'!';

/// The most descriptors of one message (`SCM_MAX_FD`).
const MOST: usize = 253;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST));

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_come_with_what_they_are_for() {
        let (here, there) = UnixStream::pair().unwrap();
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let uses = [Role::Users, Role::Control, Role::Supervised];
        let sent: Vec<_> = uses.into_iter().zip(sockets.iter().map(AsFd::as_fd)).collect();
        send(&here, &sent).unwrap();
        let received = receive(&there).unwrap();
        assert_eq!(received.iter().map(|(of, _)| *of).collect::<Vec<_>>(), uses);
        for ((_, received), sent) in received.into_iter().zip(&sockets) {
            let received = TcpListener::from(received);
            assert_eq!(received.local_addr().unwrap(), sent.local_addr().unwrap());
        }
        send_ready(&there).unwrap();
        receive_ready(&here).unwrap();
        drop(there);
        assert_eq!(receive_ready(&here).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn as_many_as_a_message_may_have_and_not_one_more() {
        let (here, there) = UnixStream::pair().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut many = vec![(Role::Users, socket.as_fd()); MOST];
        send(&here, &many).unwrap();
        assert_eq!(receive(&there).unwrap().len(), MOST);
        many.push((Role::Users, socket.as_fd()));
        assert_eq!(send(&here, &many).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn what_is_not_of_this_protocol_is_an_error() {
        for bytes in [&[VERSION + 1][..], &[VERSION, b'u'], &[VERSION, b'?']] {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(bytes).unwrap();
            assert_eq!(receive(&there).unwrap_err().kind(), ErrorKind::InvalidData, "{bytes:?}");
        }
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(receive(&there).is_err());
    }
}
