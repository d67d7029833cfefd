//! Unix sockets. The mode and the owner of the socket's file decide which processes can connect. This authenticates a gateway
//! on the same host.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_core::handshake::Peer;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, BACKLOG, Listener, SocketOwner};

/// The mode and the owner of a socket's file: processes with write permission can connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The mode of the file. Default 0660: its owner and its group.
    pub mode: u32,
    /// The owner of the file. Default: the user and group of this process.
    pub owner: Owner,
}

impl Default for Access {
    fn default() -> Access {
        Access { mode: 0o660, owner: Owner::default() }
    }
}

/// A user and a group, by their numbers. `None` leaves them unchanged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<u32>,
    /// The group.
    pub group: Option<u32>,
}

/// The file of a socket that listens. Dropping this removes the file if this process owns it and
/// the path still names the same file.
#[derive(Debug)]
pub(super) struct SocketFileGuard {
    path: PathBuf,
    /// The device and the inode.
    identity: (u64, u64),
    ownership: FileOwnership,
}

impl SocketFileGuard {
    pub(super) fn new(path: &Path, ownership: FileOwnership) -> io::Result<SocketFileGuard> {
        let file = fs::symlink_metadata(path)?;
        Ok(SocketFileGuard { path: path.to_owned(), identity: (file.dev(), file.ino()), ownership })
    }

    pub(super) fn ownership(&self) -> &FileOwnership {
        &self.ownership
    }
}

/// Whether this process removes the file of a socket in the end. A successor takes this over with the socket.
#[derive(Debug, Clone)]
pub(crate) struct FileOwnership(Arc<AtomicBool>);

impl FileOwnership {
    pub(super) fn new(is_ours: bool) -> FileOwnership {
        FileOwnership(Arc::new(AtomicBool::new(is_ours)))
    }

    /// Makes this process remove the file.
    pub(crate) fn acquire(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Leaves the file to another process.
    pub(crate) fn release(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_ours(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for SocketFileGuard {
    fn drop(&mut self) {
        if !self.ownership.is_ours() {
            return;
        }
        let is_ours =
            |file: fs::Metadata| file.file_type().is_socket() && (file.dev(), file.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // A file that remains does no harm: the next start detects that it has no listener.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn listen(path: &Path, access: &Access) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // If anything below fails, dropping this removes the file.
    let file = SocketFileGuard::new(path, FileOwnership::new(true))?;
    // No client can connect before the socket listens, so there is no moment with another mode or owner.
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode))?;
    let Owner { user, group } = access.owner;
    if user.is_some() || group.is_some() {
        lchown(path, user, group).map_err(|error| {
            let advice =
                "cannot give the socket to POSTERN_LISTEN_OWNER: only root may, or a member of the group";
            io::Error::new(error.kind(), format!("{advice}: {}", error.kind()))
        })?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let address = Address::Unix(path.to_owned());
    Ok(Listener {
        address,
        owner: SocketOwner::Process,
        file: Some(file),
        passes_no_delay: false,
        socket: socket.into(),
    })
}

pub(super) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Peer)> {
    // The peer has no address, because a client need not bind.
    let stream = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((stream, Peer::Unix))
}

/// Removes the file of a socket without a listener, which a killed process leaves. Any other file is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        let message = "something that is not a socket is there; remove it, or choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Another process has removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;
    use crate::listen::bind;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postern.sock");
        (folder, path)
    }

    fn bound(path: &Path, access: &Access) -> Result<Listener, String> {
        let mut listeners =
            bind(&[Address::Unix(path.to_owned())], access).map_err(|error| error.to_string())?;
        Ok(listeners.remove(0))
    }

    #[test]
    fn it_accepts_and_removes_its_file_when_it_is_dropped() {
        let (_folder, path) = folder();
        let listener = bound(&path, &Access::default()).unwrap();
        assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(&path).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, Peer::Unix);
        let mut buffer = [0; 8];
        let empty = crate::socket::receive(&stream, &mut buffer);
        assert_eq!(empty.unwrap_err().kind(), ErrorKind::WouldBlock);
        client.write_all(b"hello").unwrap();
        assert_eq!(crate::socket::receive(&stream, &mut buffer).unwrap(), 5);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_mode_does_not_depend_on_the_umask() {
        let (_folder, path) = folder();
        for mode in [0o600, 0o660, 0o666, 0o777] {
            let access = Access { mode, ..Access::default() };
            let listener = bound(&path, &access).unwrap();
            assert_eq!(listener.admits_everyone(), mode & 0o006 != 0);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{mode:o}");
        }
    }

    #[test]
    fn the_file_has_the_owner_of_the_settings() {
        let (_folder, path) = folder();
        let _listener = bound(&path, &Access::default()).unwrap();
        let ours = fs::metadata(&path).unwrap();
        drop(_listener);
        // Any user can set the current owner again; only root can set another one.
        let mut owners = vec![(ours.uid(), ours.gid())];
        if ours.uid() == 0 {
            owners.push((65_534, 65_534));
        }
        for (user, group) in owners {
            let owner = Owner { user: Some(user), group: Some(group) };
            let _listener = bound(&path, &Access { owner, ..Access::default() }).unwrap();
            let file = fs::metadata(&path).unwrap();
            assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (user, group, 0o660));
        }
    }

    #[test]
    fn the_file_of_a_killed_process_is_replaced() {
        let (_folder, path) = folder();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves it");
        let _listener = bound(&path, &Access::default()).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_in_use_and_a_regular_file_are_not_removed() {
        let (folder, path) = folder();
        let living = UnixListener::bind(&path).unwrap();
        let error = bound(&path, &Access::default()).unwrap_err();
        assert_eq!(
            error,
            format!(
                "cannot listen on unix:{}: address in use; end the process that listens there, or set another path in \
                 POSTERN_LISTEN",
                path.display()
            )
        );
        living.accept().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&file, &link] {
            let error = bound(path, &Access::default()).unwrap_err();
            assert!(error.ends_with("not a socket is there; remove it, or choose another path"), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn the_file_of_a_successor_is_left_alone() {
        let (_folder, path) = folder();
        let first = bound(&path, &Access::default()).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bound(&path, &Access::default()).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_said_in_one_line() {
        let error = bound(Path::new("/no/such/folder/x.sock"), &Access::default()).unwrap_err();
        assert_eq!(
            error,
            "cannot listen on unix:/no/such/folder/x.sock: entity not found; there is no folder /no/such/folder; create it, \
             or set another path in POSTERN_LISTEN"
        );
    }
}
