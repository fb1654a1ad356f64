//! Locks of an open file description on Linux.

use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::threads::sleep::sleep;

/// How long, and how often, a lock is tried that a second copy of `SQLite` holds while it closes.
const PAUSE: Duration = Duration::from_millis(1);
const TRIES: usize = 50;

pub fn share(file: &File, range: (i64, i64)) {
    for _ in 0..TRIES {
        match set(file, range, libc::F_RDLCK) {
            Err(Errno::EAGAIN | Errno::EACCES) => sleep(PAUSE),
            _ => return,
        }
    }
}

pub fn release(file: &File, range: (i64, i64)) {
    // It fails only where there are no such locks.
    let _ = set(file, range, libc::F_UNLCK);
}

/// Whether nobody, this process included, has a lock of these bytes.
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
