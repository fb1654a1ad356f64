//! Lock files on Unix, and socket addresses on Linux.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::found::Found;

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
    let directory = open_or_create(path).map_err(|error| {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            format!(
                "{} is a symbolic link, which another user may have created",
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

fn open_or_create(path: &Path) -> io::Result<OwnedFd> {
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
        created => {
            created?;
            let directory = open()?;
            // Independent of the umask.
            fchmod(&directory, SHARED)?;
            Ok(directory)
        }
    }
}

/// Opens the file of this name, without waiting for the other end of a FIFO.
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
                created => {
                    let file = created?;
                    // Independent of the umask: other users have to open it, too.
                    fchmod(&file, READABLE)?;
                    return Ok(Found::File(file.into()));
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
        // A file of another user, a socket, or a device without a driver.
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

/// A socket address of the machine, which needs no cleanup. Nothing is ever sent to it.
#[derive(Debug)]
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) struct Address {
    _socket: Option<std::os::unix::net::UnixDatagram>,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Address {
    /// Binds the address of a node; `None` if another process has it. If the system refuses sockets, only the
    /// file is locked.
    pub(super) fn hold(directory: &Path, node: u16) -> Option<Self> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};

        let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        // FNV-1a: an address must be shorter than a path may be.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
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

/// On these systems addresses are files, which are not needed in addition.
#[derive(Debug)]
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) struct Address;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Address {
    pub(super) fn hold(_: &Path, _: u16) -> Option<Self> {
        Some(Self)
    }
}
