//! Locks of an open file description. They count inside a process too, unlike `SQLite`'s own. Where the system or the
//! file system has none, a lost log is only noticed.

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use crate::threads::deadline::pause;

    /// How long, and how often, a lock is tried that a second copy of `SQLite` holds while it closes.
    const PAUSE: Duration = Duration::from_millis(1);
    const TRIES: usize = 50;

    pub fn share(file: &File, range: (i64, i64)) {
        for _ in 0..TRIES {
            match set(file, range, libc::F_RDLCK) {
                Err(Errno::EAGAIN | Errno::EACCES) => pause(PAUSE),
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
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;

    pub const fn share(_file: &File, _range: (i64, i64)) {}

    pub const fn release(_file: &File, _range: (i64, i64)) {}

    /// Nobody can tell here.
    pub const fn is_free(_file: &File, _range: (i64, i64)) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
pub use linux::{is_free, release, share};
#[cfg(not(target_os = "linux"))]
pub use other::{is_free, release, share};

/// Bytes of the database file: every connection shares a lock of them, and the connection that removes the log locks
/// them exclusively.
pub const CONNECTED: (i64, i64) = (0x4000_0002, 510);
/// A byte of the log's index: everybody who has the index open shares a lock of it; a connection that finds it free
/// empties the index.
pub const INDEX_OPEN: (i64, i64) = (128, 1);
