//! Locks of an open file description on Linux.

use std::fs::File;
use std::time::Duration;

use mintkey_runtime::pause;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long to wait for a lock that a second copy of `SQLite` holds while it closes a connection.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
const ATTEMPTS: usize = 50;

/// Locks a range of bytes together with others that share it.
pub fn share(file: &File, range: (i64, i64)) {
    for _ in 0..ATTEMPTS {
        match set(file, range, libc::F_RDLCK) {
            Err(Errno::EAGAIN | Errno::EACCES) => pause(RETRY_INTERVAL),
            _ => return,
        }
    }
}

pub fn release(file: &File, range: (i64, i64)) {
    // This fails only where such locks do not exist.
    let _ = set(file, range, libc::F_UNLCK);
}

/// Whether no process, including this one, holds a lock of these bytes.
pub fn is_free(file: &File, range: (i64, i64)) -> bool {
    let mut lock = wanted(range, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
        && libc::c_int::from(lock.l_type) == libc::F_UNLCK
}

fn set(file: &File, range: (i64, i64), kind: libc::c_int) -> nix::Result<()> {
    let lock = wanted(range, kind);
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

fn wanted((start, length): (i64, i64), kind: libc::c_int) -> libc::flock {
    libc::flock {
        // One of three small numbers.
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}
