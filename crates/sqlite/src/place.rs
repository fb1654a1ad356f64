//! Keeps a database's files where they are while connections are open, and notices when they are not.
//!
//! POSIX locks belong to a process, not to a connection. A second copy of `SQLite` in the same process,
//! such as Python's `sqlite3`, therefore never meets the locks of this one: when it closes, it takes
//! itself for the last one and removes the log, and what is committed afterwards goes into a file
//! without a name. Locks of an open file description do count inside a process. Two of them, held
//! beside `SQLite`'s own, tell every copy that somebody else is there.
//!
//! Closing any handle of a file drops all locks of the process on it. So the handles are opened with
//! the first connection of the process to a file, and closed after the last.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::gate::locked;
use crate::watch::pause;

/// How often the names are followed, which is not cheap.
const LOOKS: Duration = Duration::from_millis(10);
/// A look whether a last connection has been closed.
const PAUSE: Duration = Duration::from_millis(1);

/// The databases that this process has connections to. Locked only inside the gate.
static PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

struct Place {
    path: PathBuf,
    connections: usize,
    /// Known once the first connection has opened them all.
    files: Option<Arc<Files>>,
    /// The last connection is closing.
    closing: bool,
}

/// One file, whatever its name is by now.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(found: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (found.dev(), found.ino())
}

#[cfg(unix)]
fn is_removed(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    found.nlink() == 0
}

// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
const fn identity(_found: &fs::Metadata) -> Identity {
    (0, 0)
}

#[cfg(not(unix))]
const fn is_removed(_found: &fs::Metadata) -> bool {
    false
}

/// A file and a handle of it beside `SQLite`'s own.
struct Held {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl Held {
    fn open(path: PathBuf) -> Option<Self> {
        let file = File::open(&path).ok()?;
        let identity = identity(&file.metadata().ok()?);
        Some(Self {
            path,
            file,
            identity,
        })
    }

    /// Whether any name leads to it. This costs a third of a microsecond, following its own name three
    /// times as much and more.
    fn has_a_name(&self) -> bool {
        self.file.metadata().is_ok_and(|found| !is_removed(&found))
    }

    /// The file its name leads to by now.
    fn found(&self) -> Option<Identity> {
        fs::metadata(&self.path).ok().map(|found| identity(&found))
    }

    fn in_place(&self) -> bool {
        self.found() == Some(self.identity)
    }
}

/// The files as the connections of this process have them open.
pub struct Files {
    database: Held,
    log: Held,
    index: Held,
    opened: Instant,
    /// When somebody last followed the names, in microseconds since then.
    looked: AtomicU64,
}

impl Files {
    /// Finds the files that were just opened, and locks them. `None`: they are gone already.
    fn hold(path: &Path) -> Option<Self> {
        let beside = |suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            Held::open(name.into())
        };
        let (database, index) = (beside("")?, beside("-shm")?);
        lock::take(&database.file, lock::SHARED);
        lock::take(&index.file, lock::OPEN);
        Some(Self {
            database,
            // From here on no other copy removes it.
            log: beside("-wal")?,
            index,
            opened: Instant::now(),
            looked: AtomicU64::new(0),
        })
    }

    /// Lets the locks go, but not the handles.
    fn release(&self) {
        lock::release(&self.database.file, lock::SHARED);
        lock::release(&self.index.file, lock::OPEN);
    }

    /// Whether the names still lead to the files that are open. An open file keeps its number.
    pub fn in_place(&self) -> bool {
        self.log.in_place() && self.has_database()
    }

    /// Whether the database's name still leads to it.
    pub fn has_database(&self) -> bool {
        self.database.in_place()
    }

    /// Whether another database has taken the name, beside which the log of this one still lies.
    /// `SQLite` would take it for the log of that one.
    fn is_mixed_up(&self) -> bool {
        let replaced = self.database.found();
        replaced.is_some_and(|found| found != self.database.identity) && self.log.in_place()
    }

    /// What a writer looks at after each commit.
    pub fn keep_commits(&self) -> bool {
        self.log.has_a_name() && self.database.has_a_name() && self.seem_in_place()
    }

    /// Looks now and then.
    pub fn seem_in_place(&self) -> bool {
        let now = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.looked.load(Ordering::Relaxed);
        if Duration::from_micros(now.saturating_sub(before)) < LOOKS {
            return true;
        }
        let in_place = self.in_place();
        if in_place {
            self.looked.store(now, Ordering::Relaxed);
        }
        in_place
    }
}

/// Locks that count inside this process too. Where the system or the file system has none, the loss of
/// the log is only noticed.
#[cfg(target_os = "linux")]
mod lock {
    use std::fs::File;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use crate::watch::pause;

    /// Where every connection to a database has a shared lock, and who closes it for good an exclusive
    /// one.
    pub const SHARED: (i64, i64) = (0x4000_0002, 510);
    /// Where everybody who has the log's index open has a shared lock; who finds none empties it.
    pub const OPEN: (i64, i64) = (128, 1);

    /// How long, and how often, a lock is tried for that another copy holds while it closes.
    const PAUSE: Duration = Duration::from_millis(1);
    const TRIES: usize = 50;

    pub fn take(file: &File, range: (i64, i64)) {
        for _ in 0..TRIES {
            match set(file, range, libc::F_RDLCK) {
                Err(Errno::EAGAIN | Errno::EACCES) => pause(PAUSE),
                _ => return,
            }
        }
    }

    pub fn release(file: &File, range: (i64, i64)) {
        // A lock that was never had is no loss.
        let _ = set(file, range, libc::F_UNLCK);
    }

    fn set(file: &File, (start, length): (i64, i64), kind: libc::c_int) -> nix::Result<()> {
        let lock = libc::flock {
            l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
            l_whence: 0,
            l_start: start,
            l_len: length,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

#[cfg(not(target_os = "linux"))]
mod lock {
    use std::fs::File;

    pub const SHARED: (i64, i64) = (0, 0);
    pub const OPEN: (i64, i64) = (0, 0);

    pub const fn take(_file: &File, _range: (i64, i64)) {}

    pub const fn release(_file: &File, _range: (i64, i64)) {}
}

/// Announces a connection, unless those that are there have lost their files.
fn arrive(path: &Path) -> bool {
    loop {
        let mut places = locked(&PLACES);
        match places.iter_mut().find(|place| place.path == path) {
            Some(place) if place.closing => {}
            Some(place) => {
                if place.files.as_ref().is_some_and(|files| !files.in_place()) {
                    return false;
                }
                place.connections += 1;
                return true;
            }
            None => {
                places.push(Place {
                    path: path.to_owned(),
                    connections: 1,
                    files: None,
                    closing: false,
                });
                return true;
            }
        }
        drop(places);
        pause(PAUSE);
    }
}

/// What a connection does before `SQLite` closes it. To be dropped before that connection.
pub struct Leaving(PathBuf);

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut places = locked(&PLACES);
        if let Some(place) = places.iter_mut().find(|place| place.path == self.0) {
            place.connections = place.connections.saturating_sub(1);
            if place.connections == 0 {
                place.closing = true;
                // Else SQLite would not believe that it is the last, and leave the log behind.
                if let Some(files) = &place.files {
                    files.release();
                }
            }
        }
    }
}

/// What is done once `SQLite` has closed a connection. To be dropped after it.
pub struct Ending(PathBuf);

impl Drop for Ending {
    fn drop(&mut self) {
        locked(&PLACES).retain(|place| !(place.closing && place.path == self.0));
    }
}

/// What a connection drops before and after `SQLite`'s own. `None`: those that are there have lost
/// their files, and no connection may be opened before they are closed, for `SQLite` would give it the
/// index of the lost log.
pub fn take(path: &Path) -> Option<(Leaving, Ending)> {
    arrive(path).then(|| (Leaving(path.to_owned()), Ending(path.to_owned())))
}

/// The files that a connection has just opened, the same for all of the process. `None`: they are not
/// in their place.
pub fn settle(path: &Path) -> Option<Arc<Files>> {
    let mut places = locked(&PLACES);
    let place = places.iter_mut().find(|place| place.path == path)?;
    if place.files.is_none() {
        place.files = Some(Arc::new(Files::hold(path)?));
    }
    place.files.clone().filter(|files| files.in_place())
}

/// Whether another database lies where the connections of this process have one open.
pub fn is_mixed_up(path: &Path) -> bool {
    let places = locked(&PLACES);
    let place = places.iter().find(|place| place.path == path);
    place
        .and_then(|place| place.files.as_ref())
        .is_some_and(|files| files.is_mixed_up())
}
