//! The lock of a snowflake node: a file in a directory that processes share, and on Linux a socket address.
//!
//! Other users may write to the directory, so nothing in it is trusted: links are not followed, and a name that is not
//! a regular file's is passed over. A locked file can be removed. Then the address still holds the node among the
//! processes of one machine; for those that share no more than the directory there is [`NodeLock::is_held`].

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

#[cfg(not(unix))]
use portable::{Address, Opened, is_at, open_directory, open_file};
#[cfg(unix)]
use unix::{Address, Opened, is_at, open_directory, open_file};

/// Where locks are without `$MINTKEY_NODE_DIR`.
#[cfg(unix)]
pub(crate) const DIRECTORY: &str = "/tmp/mintkey-nodes";
#[cfg(not(unix))]
pub(crate) const DIRECTORY: &str = r"C:\ProgramData\mintkey-nodes";

/// A node that this process holds until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct NodeLock {
    file: File,
    path: PathBuf,
    _address: Address,
}

impl NodeLock {
    /// Whether other processes still find the lock.
    pub(crate) fn is_held(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

/// What a try to lock a node came to.
pub(crate) enum Attempt {
    Locked(NodeLock),
    /// Another process has the node.
    Held,
    /// Why no process can have the node.
    Unusable(String),
    /// The file or the directory was removed in the meantime: open the directory again.
    Removed,
}

/// What is at the name of a lock file.
enum Found {
    File(File),
    /// What it is instead.
    Unusable(String),
    /// It was there, and then it was not, or the other way round.
    Removed,
}

/// A directory of locks.
pub(crate) struct Directory {
    path: PathBuf,
    opened: Opened,
}

impl Directory {
    /// Opens the directory; makes it for all users where it is missing.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        // With a separator at its end a link would be followed.
        let path: PathBuf = path.components().collect();
        match open_directory(&path) {
            Ok(opened) => Ok(Self { path, opened }),
            Err(why) => Err(refusal(&path, &why)),
        }
    }

    /// Tries to lock a node.
    ///
    /// # Errors
    /// Why no node can be locked.
    pub(crate) fn lock(&self, node: u16) -> Result<Attempt, String> {
        let name = format!("{node}.lock");
        let path = self.path.join(&name);
        let file = match open_file(&self.opened, &path, &name) {
            Ok(Found::File(file)) => file,
            Ok(Found::Unusable(what)) => {
                return Ok(Attempt::Unusable(format!("{}: {what}", path.display())));
            }
            Ok(Found::Removed) => return Ok(Attempt::Removed),
            Err(error) => return Err(refusal(&path, &error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Held),
            Err(TryLockError::Error(error)) => return Err(refusal(&path, &error)),
        }
        if !is_at(&file, &path) {
            return Ok(Attempt::Removed);
        }
        Ok(match Address::hold(&self.path, node) {
            Some(address) => Attempt::Locked(NodeLock {
                file,
                path,
                _address: address,
            }),
            None => Attempt::Held,
        })
    }
}

fn refusal(path: &Path, why: &dyn Display) -> String {
    format!(
        "cannot use {}, which keeps two processes from sharing a snowflake node: {why}; set \
         $MINTKEY_NODE_DIR to a directory that every process may write to",
        path.display()
    )
}

#[cfg(unix)]
mod unix {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, mkdirat, openat};
    use rustix::io::Errno;

    use super::Found;

    /// For all users, sticky as `/tmp` is: nobody may remove the locks of others.
    const SHARED: Mode = Mode::RWXU
        .union(Mode::RWXG)
        .union(Mode::RWXO)
        .union(Mode::SVTX);
    const READABLE: Mode = Mode::RUSR
        .union(Mode::WUSR)
        .union(Mode::RGRP)
        .union(Mode::ROTH);

    pub(super) type Opened = OwnedFd;

    pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, String> {
        let directory = open_or_make(path).map_err(|error| {
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
                format!(
                    "{} is a symbolic link, which another user may have made",
                    path.display()
                )
            } else {
                error.to_string()
            }
        })?;
        let mode = fstat(&directory)
            .map_err(|error| error.to_string())?
            .st_mode;
        if Mode::from_raw_mode(mode) & (Mode::WOTH | Mode::SVTX) == Mode::WOTH {
            return Err(format!(
                "every user may remove the locks of others: run chmod +t {}",
                path.display()
            ));
        }
        Ok(directory)
    }

    fn open_or_make(path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(CWD, path, flags, Mode::empty());
        match open() {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match mkdirat(CWD, path, SHARED) {
            Err(Errno::EXIST) => Ok(open()?),
            made => {
                made?;
                let directory = open()?;
                // Whatever the process masks.
                fchmod(&directory, SHARED)?;
                Ok(directory)
            }
        }
    }

    /// Opens what is at the name, without waiting for the other end of a FIFO.
    pub(super) fn open_file(directory: &OwnedFd, _: &Path, name: &str) -> io::Result<Found> {
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                match openat(
                    directory,
                    name,
                    flags | OFlags::CREATE | OFlags::EXCL,
                    READABLE,
                ) {
                    Err(Errno::EXIST | Errno::NOENT) => return Ok(Found::Removed),
                    made => {
                        let made = made?;
                        // Whatever the process masks: other users have to open it, too.
                        fchmod(&made, READABLE)?;
                        return Ok(Found::File(made.into()));
                    }
                }
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::MLINK) => {
                return Ok(Found::Unusable("it is a symbolic link".to_owned()));
            }
            // Another user's file, a socket, a device that nobody serves.
            Err(error @ (Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV)) => {
                return Ok(Found::Unusable(io::Error::from(error).to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(if file.metadata()?.is_file() {
            Found::File(file)
        } else {
            Found::Unusable("it is not a regular file".to_owned())
        })
    }

    pub(super) fn is_at(file: &File, path: &Path) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        match (file.metadata(), fs::symlink_metadata(path)) {
            (Ok(ours), Ok(found)) => identity(ours) == identity(found),
            _ => false,
        }
    }

    /// A socket address of the machine that leaves nothing to remove. Nothing is ever sent to it.
    #[derive(Debug)]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) struct Address {
        _socket: Option<std::os::unix::net::UnixDatagram>,
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    impl Address {
        /// Holds the address of a node; `None` when another process does. Where the system refuses sockets, the
        /// file alone has to do.
        pub(super) fn hold(directory: &Path, node: u16) -> Option<Self> {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::ffi::OsStrExt;
            use std::os::unix::net::{SocketAddr, UnixDatagram};

            let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
            // FNV-1a: an address is shorter than a path.
            let hash =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            let path = directory.as_os_str().as_bytes();
            let directory = path.iter().fold(0xcbf2_9ce4_8422_2325, hash);
            let name = format!("mintkey-node-{directory:016x}-{node}");
            let bound = SocketAddr::from_abstract_name(name)
                .and_then(|address| UnixDatagram::bind_addr(&address));
            match bound {
                Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                bound => Some(Self {
                    _socket: bound.ok(),
                }),
            }
        }
    }

    /// Here addresses are files, too.
    #[derive(Debug)]
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) struct Address;

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    impl Address {
        pub(super) fn hold(_: &Path, _: u16) -> Option<Self> {
            Some(Self)
        }
    }
}

#[cfg(not(unix))]
mod portable {
    use std::fs::{File, OpenOptions, create_dir_all};
    use std::io;
    use std::path::Path;

    use super::Found;

    pub(super) type Opened = ();

    pub(super) fn open_directory(path: &Path) -> io::Result<()> {
        create_dir_all(path)
    }

    pub(super) fn open_file((): &(), path: &Path, _: &str) -> io::Result<Found> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(path).map(Found::File)
    }

    /// Here nobody can remove a file that is open.
    pub(super) fn is_at(_: &File, _: &Path) -> bool {
        true
    }

    #[derive(Debug)]
    pub(super) struct Address;

    impl Address {
        pub(super) fn hold(_: &Path, _: u16) -> Option<Self> {
            Some(Self)
        }
    }
}
