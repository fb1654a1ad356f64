//! Holds locks of database files while connections are open, and detects lost files.
//!
//! POSIX locks belong to a process and a file, not to a connection. This has two consequences.
//!
//! A second copy of `SQLite` in the same process, such as Python's `sqlite3`, does not see the locks of this one. When
//! its connection closes, it takes that for the last one and removes the log; later commits go into a file without a
//! name. Locks of an open file description do count inside a process. Two of them, next to the locks of `SQLite`, show
//! every copy that another connection exists.
//!
//! And closing any handle of a file releases all POSIX locks of the process on it, also those of a `SQLite` connection
//! in the middle of a write. So the handles of a file are closed after its last connection, whichever store opened it
//! under whichever path. Files are therefore identified by device and inode.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mintkey_runtime::{Deadline, locked, pause};
use mintkey_store::{Error, Outcome, Result};

use crate::config::Config;
use crate::storage::guarded_file::{self, GuardedFile, Handle, Identity, LossOutcome};
use crate::storage::location;
use crate::storage::notices;

/// The shortest time between two checks of the names, which cost several system calls.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// The time between two checks whether a last connection has been closed.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Locked only inside the fork gate, so that it is free whenever a fork happens.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    open: Vec::new(),
    spare: Vec::new(),
    last: 0,
});

/// Notified when a connection has been closed.
static CLOSED: Condvar = Condvar::new();

/// The database files that connections of this process have open.
struct Registry {
    open: Vec<OpenFile>,
    /// Handles that cannot be closed yet, because connections may hold locks of the same files.
    spare: Vec<Handle>,
    last: u64,
}

struct OpenFile {
    id: FileId,
    file: Arc<GuardedFile>,
    /// The connections that are not being closed. At zero, new connections wait until the file has left the registry.
    open: usize,
    /// All connections, including those that are being closed.
    connections: usize,
}

/// Identifies one file in the registry; ids are never used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileId(pub u64);

impl FileId {
    /// The id of databases in memory.
    pub const MEMORY: Self = Self(0);
}

/// What a store gets that opens a connection.
pub enum Joined {
    /// The file, and what to drop before `SQLite`'s connection.
    Guarded(FileGuard, BeforeClose),
    /// Connections of this process have files open that are no longer in their place. They must be closed first,
    /// because `SQLite` would give a new connection the index of the lost log.
    Lost(FileId),
}

/// A connection's share of an open file, to be dropped after `SQLite`'s connection.
pub struct FileGuard {
    // The fields are dropped in this order.
    file: Arc<GuardedFile>,
    /// The store's own path, if links lead from it to the file.
    linked: Option<PathBuf>,
    /// When this connection last found all names in place.
    checked: Cell<Option<Instant>>,
    /// Whether the last check found that a name leads elsewhere.
    lost: Cell<bool>,
    after_close: AfterClose,
}

/// Records that a connection is being closed. To be dropped before `SQLite`'s connection.
pub struct BeforeClose(FileId);

/// Records that a connection has been closed.
struct AfterClose(FileId);

/// What the registry knows about a canonical path, and about the file that was found there, if any.
enum Lookup {
    Join(FileId),
    Lost(FileId),
    /// The last connection is being closed.
    Closing,
    /// The same file is open under another path.
    Elsewhere(PathBuf),
    New,
}

impl Registry {
    fn get(&mut self, id: FileId) -> Option<&mut OpenFile> {
        self.open.iter_mut().find(|open| open.id == id)
    }

    fn look_up(&self, path: &Path, found: Option<Identity>) -> Lookup {
        let named = self.open.iter().find(|open| open.file.path == path);
        let same = self
            .open
            .iter()
            .find(|open| Some(open.file.identity()) == found);
        let index = self.open.iter().find(|open| open.file.has_index(found));
        match (named, same) {
            (Some(open), _) | (_, Some(open)) if open.open == 0 => Lookup::Closing,
            (Some(open), _) if open.file.is_in_place() => Lookup::Join(open.id),
            (None, Some(open)) if open.file.is_named() => Lookup::Elsewhere(open.file.path.clone()),
            // The file was replaced or renamed.
            (Some(open), _) | (None, Some(open)) => Lookup::Lost(open.id),
            (None, None) => index.map_or(Lookup::New, |open| {
                Lookup::Elsewhere(open.file.index_path.clone())
            }),
        }
    }

    fn add(&mut self, file: GuardedFile) -> FileId {
        self.last += 1;
        let id = FileId(self.last);
        self.open.push(OpenFile {
            id,
            file: Arc::new(file),
            open: 0,
            connections: 0,
        });
        id
    }

    /// Records a new connection.
    fn connect(&mut self, id: FileId, path: &Path) -> Option<Joined> {
        let open = self.get(id)?;
        open.open += 1;
        open.connections += 1;
        let file = Arc::clone(&open.file);
        let guard = FileGuard {
            linked: (path != file.path).then(|| path.to_owned()),
            file,
            checked: Cell::new(None),
            lost: Cell::new(false),
            after_close: AfterClose(id),
        };
        Some(Joined::Guarded(guard, BeforeClose(id)))
    }

    /// Closes the handles of files that no connection has open.
    fn close_spare(&mut self) {
        let files = &self.open;
        self.spare
            .retain(|handle| files.iter().any(|open| open.file.may_use(handle.identity)));
    }
}

/// Records a new connection to the store's file, which is created if it does not exist.
pub fn join(config: &Config, path: &Path, deadline: &mut Deadline) -> Result<Joined> {
    loop {
        if let Some(joined) = try_to_join(config, path)? {
            return Ok(joined);
        }
        deadline.check().map_err(|stop| {
            stop.error(&config.address, "opening the database", Outcome::NotApplied)
        })?;
        pause(RETRY_INTERVAL);
    }
}

/// `None`: the last connection is being closed, or the file was renamed or created at this moment.
fn try_to_join(config: &Config, path: &Path) -> Result<Option<Joined>> {
    let canonical = location::canonical(config, path)?;
    let mut registry = locked(&REGISTRY);
    let found = match fs::symlink_metadata(&canonical) {
        Ok(found) if found.is_symlink() => return Ok(None),
        Ok(found) => Some(Identity::of(location::check_regular(
            config, &canonical, &found,
        )?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(location::failure(config, error)),
    };
    match registry.look_up(&canonical, found) {
        Lookup::Join(id) => return Ok(registry.connect(id, path)),
        Lookup::Lost(id) => return Ok(Some(Joined::Lost(id))),
        Lookup::Closing => return Ok(None),
        Lookup::Elsewhere(other) => return Err(two_names(config, &canonical, &other)),
        Lookup::New => {}
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

/// Whether the name of this open file leads to another database now.
pub fn is_replaced(id: FileId) -> bool {
    locked(&REGISTRY)
        .get(id)
        .is_some_and(|open| open.file.is_replaced())
}

impl Drop for BeforeClose {
    fn drop(&mut self) {
        let mut registry = locked(&REGISTRY);
        // Connections close one after the other: if two closed at once, SQLite would take neither for the last, and
        // would leave the log behind. This wait ends, because closing waits for no lock and no other thread.
        while registry
            .get(self.0)
            .is_some_and(|open| open.open < open.connections)
        {
            registry = CLOSED
                .wait(registry)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(open) = registry.get(self.0) {
            open.open -= 1;
            if open.open == 0 {
                // With these locks, SQLite would not see that its last connection closes.
                open.file.release();
            }
        }
    }
}

impl Drop for AfterClose {
    fn drop(&mut self) {
        let mut registry = locked(&REGISTRY);
        if let Some(open) = registry.get(self.0) {
            open.connections -= 1;
        }
        let is_closed = |open: &mut OpenFile| open.connections == 0;
        while let Some(index) = registry.open.iter_mut().position(is_closed) {
            let OpenFile { file, .. } = registry.open.swap_remove(index);
            if let Some(outcome) = file.loss_outcome() {
                if matches!(
                    outcome,
                    LossOutcome::Removed | LossOutcome::Renamed { saved: true }
                ) {
                    file.remove_log();
                }
                notices::report_loss(&file.path, outcome);
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

    /// Opens and locks the files next to the database, once `SQLite` has created them. False: the files are not in
    /// their place.
    pub fn open_sidecars(&self) -> bool {
        let mut registry = locked(&REGISTRY);
        let opened = self.file.open_sidecars(&mut registry.spare);
        registry.close_spare();
        drop(registry);
        opened && self.is_in_place()
    }

    /// Whether the names, including the store's own path, still lead to the files that are open.
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

    /// Whether the names of the database, including the store's own path, still lead to it.
    pub fn has_database(&self) -> bool {
        self.is_linked() && self.file.has_database()
    }

    /// Whether the last check found that a name leads elsewhere.
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Whether the files were in place within the last `CHECK_INTERVAL`. This is enough for a read, which may return
    /// rows of a moment ago.
    pub fn was_in_place(&self) -> bool {
        let now = Instant::now();
        let checked = self.checked.get();
        if checked.is_some_and(|checked| now.duration_since(checked) < CHECK_INTERVAL) {
            return true;
        }
        let in_place = self.is_in_place();
        if in_place {
            self.checked.set(Some(now));
        }
        in_place
    }

    /// Whether the files keep what was just committed: the check after each commit.
    pub fn keeps_commits(&self) -> bool {
        if self.file.have_names() {
            self.was_in_place()
        } else {
            self.is_in_place()
        }
    }

    /// The files, whatever path leads to them.
    pub fn file(&self) -> &GuardedFile {
        &self.file
    }

    /// Whether the name leads to another database now.
    pub fn is_replaced(&self) -> bool {
        self.file.is_replaced()
    }
}
