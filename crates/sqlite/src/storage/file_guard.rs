//! Keeps the locks of database files while connections are open, and notices when their files are lost.
//!
//! POSIX locks belong to a process and a file, not to a connection. That has two consequences.
//!
//! A second copy of `SQLite` in the same process, such as Python's `sqlite3`, never meets the locks of this one: when it
//! closes, it takes itself for the last one and removes the log, and what is committed afterwards goes into a file
//! without a name. Locks of an open file description do count inside a process. Two of them, held next to `SQLite`'s
//! own, tell every copy that somebody else is there.
//!
//! And closing any handle of a file drops all locks of the process on it, those of `SQLite` in the middle of a write
//! included. So the handles of a file are closed after its last connection, whichever store and whichever path it was
//! opened by. Files are therefore known by device and inode.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mintkey_store::{Error, Outcome, Result};

use crate::config::Config;
use crate::storage::guarded_file::{self, Fate, GuardedFile, Handle, Identity};
use crate::storage::location;
use crate::storage::notices;
use crate::threads::deadline::Watch;
use crate::threads::fork_gate::locked;
use crate::threads::sleep::sleep;

/// How often the names are followed, which is not cheap.
const LOOKS: Duration = Duration::from_millis(10);
/// Between two looks whether a last connection has been closed.
const PAUSE: Duration = Duration::from_millis(1);

/// Locked only inside the gate, so that it is free whenever a fork happens.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    entries: Vec::new(),
    spare: Vec::new(),
    last: 0,
});

/// A connection has been closed.
static CLOSED: Condvar = Condvar::new();

/// The database files that connections of this process have open.
struct Registry {
    entries: Vec<Entry>,
    /// Handles that cannot be closed yet, because connections may hold locks of the same file.
    spare: Vec<Handle>,
    last: u64,
}

struct Entry {
    id: FileId,
    file: Arc<GuardedFile>,
    /// The connections that nobody has begun to close. When there is none left, newcomers wait until the entry is gone.
    open: usize,
    /// Those, and the ones that are being closed.
    connections: usize,
}

/// Names one entry; no two of a process have the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileId(pub u64);

impl FileId {
    /// Where there is no file.
    pub const MEMORY: Self = Self(0);
}

/// What a store finds that wants a connection.
pub enum Joined {
    /// The file, and what to drop before `SQLite`'s connection.
    Guarded(FileGuard, BeforeClose),
    /// Connections of this process have files open that are no longer in their place. They must be closed first, because
    /// `SQLite` would give a new connection the index of the lost log.
    Lost(FileId),
}

/// A connection's share of an entry, to be dropped after `SQLite`'s connection.
pub struct FileGuard {
    // The order matters: it is the order in which they are dropped.
    file: Arc<GuardedFile>,
    /// The store's own path, if links lead from it to the file.
    linked: Option<PathBuf>,
    /// When this connection last followed the names.
    looked: Cell<Option<Instant>>,
    /// Whether it found that they lead elsewhere.
    lost: Cell<bool>,
    after_close: AfterClose,
}

/// Announces that a connection is about to be closed. To be dropped before `SQLite`'s connection.
pub struct BeforeClose(FileId);

/// Announces that a connection has been closed.
struct AfterClose(FileId);

/// What the registry says about a file that was found, or not, under a canonical path.
enum Known {
    Join(FileId),
    Lost(FileId),
    /// The last connection is being closed.
    Closing,
    /// The same file under another path.
    Elsewhere(PathBuf),
    New,
}

impl Registry {
    fn entry(&mut self, id: FileId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn look_up(&self, path: &Path, found: Option<Identity>) -> Known {
        let named = self.entries.iter().find(|entry| entry.file.path == path);
        let same = self
            .entries
            .iter()
            .find(|entry| Some(entry.file.identity()) == found);
        match (named, same) {
            (Some(entry), _) | (_, Some(entry)) if entry.open == 0 => Known::Closing,
            (Some(entry), _) if entry.file.is_in_place() => Known::Join(entry.id),
            (None, Some(entry)) if entry.file.is_named() => {
                Known::Elsewhere(entry.file.path.clone())
            }
            // It was replaced or moved.
            (Some(entry), _) | (None, Some(entry)) => Known::Lost(entry.id),
            (None, None) => Known::New,
        }
    }

    fn add(&mut self, file: GuardedFile) -> FileId {
        self.last += 1;
        let id = FileId(self.last);
        self.entries.push(Entry {
            id,
            file: Arc::new(file),
            open: 0,
            connections: 0,
        });
        id
    }

    /// Announces a connection.
    fn connect(&mut self, id: FileId, path: &Path) -> Option<Joined> {
        let entry = self.entry(id)?;
        entry.open += 1;
        entry.connections += 1;
        let file = Arc::clone(&entry.file);
        let guard = FileGuard {
            linked: (path != file.path).then(|| path.to_owned()),
            file,
            looked: Cell::new(None),
            lost: Cell::new(false),
            after_close: AfterClose(id),
        };
        Some(Joined::Guarded(guard, BeforeClose(id)))
    }

    /// Closes the handles of files that no connection has open.
    fn close_spare(&mut self) {
        let entries = &self.entries;
        self.spare.retain(|handle| {
            entries
                .iter()
                .any(|entry| entry.file.may_use(handle.identity))
        });
    }
}

/// Announces a connection to the store's file, which is created if it is not there.
pub fn join(config: &Config, path: &Path, watch: &mut Watch) -> Result<Joined> {
    loop {
        if let Some(joined) = try_to_join(config, path)? {
            return Ok(joined);
        }
        if let Some(stop) = watch.look() {
            return Err(stop.error("opening the database", config.timeout, Outcome::NotApplied));
        }
        sleep(PAUSE);
    }
}

/// `None`: the last connection is being closed, or the name was moved in this moment.
fn try_to_join(config: &Config, path: &Path) -> Result<Option<Joined>> {
    let canonical = location::canonical(config, path)?;
    let mut registry = locked(&REGISTRY);
    let found = match fs::symlink_metadata(&canonical) {
        Ok(found) if found.is_symlink() => return Ok(None),
        Ok(found) => Some(Identity::of(location::regular(config, &canonical, &found)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(location::failure(config, error)),
    };
    match registry.look_up(&canonical, found) {
        Known::Join(id) => return Ok(registry.connect(id, path)),
        Known::Lost(id) => return Ok(Some(Joined::Lost(id))),
        Known::Closing => return Ok(None),
        Known::Elsewhere(other) => return Err(two_names(config, &canonical, &other)),
        Known::New => {}
    }
    let opened = match found {
        Some(_) => guarded_file::open(&canonical),
        None => guarded_file::create(&canonical, config.mode),
    };
    match (opened, found) {
        (Ok(handle), Some(found)) if handle.identity != found => {
            registry.spare.push(handle);
            registry.close_spare();
            Ok(None)
        }
        (Ok(handle), _) => {
            let id = registry.add(GuardedFile::new(canonical, handle));
            Ok(registry.connect(id, path))
        }
        (Err(error), found) if location::was_moved(&error, &canonical, found.is_some()) => Ok(None),
        (Err(error), _) => Err(location::failure(config, error)),
    }
}

fn two_names(config: &Config, path: &Path, other: &Path) -> Error {
    Error::configuration(format!(
        "{}: {} and {}, which this process has open, are two names of one file (a hard link, or a second mount). \
         SQLite keeps a log for each name, which would damage the file: use one name",
        config.address,
        path.display(),
        other.display()
    ))
}

/// Whether another database lies where the connections of this entry have one open.
pub fn is_mixed_up(id: FileId) -> bool {
    locked(&REGISTRY)
        .entry(id)
        .is_some_and(|entry| entry.file.is_mixed_up())
}

impl Drop for BeforeClose {
    fn drop(&mut self) {
        let mut registry = locked(&REGISTRY);
        // One after the other: of two connections that close at once, SQLite takes neither for the last, and leaves the
        // log behind.
        while registry
            .entry(self.0)
            .is_some_and(|entry| entry.open < entry.connections)
        {
            registry = CLOSED
                .wait(registry)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(entry) = registry.entry(self.0) {
            entry.open -= 1;
            if entry.open == 0 {
                // Else SQLite would not find that it closes its last connection.
                entry.file.release();
            }
        }
    }
}

impl Drop for AfterClose {
    fn drop(&mut self) {
        let mut registry = locked(&REGISTRY);
        if let Some(entry) = registry.entry(self.0) {
            entry.connections -= 1;
        }
        let closed = |entry: &mut Entry| entry.connections == 0;
        while let Some(place) = registry.entries.iter_mut().position(closed) {
            let Entry { file, .. } = registry.entries.swap_remove(place);
            if let Some(fate) = file.fate() {
                if matches!(fate, Fate::Removed | Fate::Renamed { saved: true }) {
                    file.remove_log();
                }
                notices::report_loss(&file.path, fate);
            }
            let handles = Arc::into_inner(file).map(GuardedFile::into_handles);
            registry.spare.extend(handles.into_iter().flatten());
        }
        registry.close_spare();
        drop(registry);
        CLOSED.notify_all();
    }
}

impl FileGuard {
    /// Which entry it belongs to.
    pub const fn id(&self) -> FileId {
        self.after_close.0
    }

    /// The path to give to `SQLite`.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether the name leads to this file, so that `SQLite` opened no other.
    pub fn is_named(&self) -> bool {
        self.file.is_named()
    }

    /// Opens and locks the files next to the database, once `SQLite` has made them. False: the files are not in their
    /// place.
    pub fn settle(&self) -> bool {
        let mut registry = locked(&REGISTRY);
        let opened = self.file.open_sidecars(&mut registry.spare);
        registry.close_spare();
        drop(registry);
        opened && self.is_in_place()
    }

    /// Whether the names, the store's own included, still lead to the files that are open.
    pub fn is_in_place(&self) -> bool {
        let in_place = self.is_linked() && self.file.is_in_place();
        self.lost.set(!in_place);
        in_place
    }

    fn is_linked(&self) -> bool {
        self.linked.as_ref().is_none_or(|path| {
            fs::metadata(path).is_ok_and(|found| Identity::of(&found) == self.file.identity())
        })
    }

    /// Whether the names of the database, the store's own included, still lead to it.
    pub fn has_database(&self) -> bool {
        self.is_linked() && self.file.has_database()
    }

    /// Whether the latest look found that the names lead elsewhere.
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// The same, looked at now and then: for a reader, who may see what was there a moment ago.
    pub fn seems_in_place(&self) -> bool {
        let now = Instant::now();
        let looked = self.looked.get();
        if looked.is_some_and(|looked| now.duration_since(looked) < LOOKS) {
            return true;
        }
        let in_place = self.is_in_place();
        if in_place {
            self.looked.set(Some(now));
        }
        in_place
    }

    /// What a writer looks at after each commit.
    pub fn keeps_commits(&self) -> bool {
        if self.file.have_names() {
            self.seems_in_place()
        } else {
            self.is_in_place()
        }
    }

    /// The files, whatever path leads to them.
    pub fn file(&self) -> &GuardedFile {
        &self.file
    }

    /// Whether another database has taken the name.
    pub fn is_mixed_up(&self) -> bool {
        self.file.is_mixed_up()
    }
}
