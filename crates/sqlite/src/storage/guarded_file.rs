//! A database file that connections of this process have open, with its log and the log's index.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use nix::libc;

use crate::storage::ofd_lock;

/// A file, whatever its name is: its device and its number there. An open file keeps its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity(u64, u64);

impl Identity {
    pub fn of(found: &Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

/// Opens an existing file for a handle next to `SQLite`'s own, as `SQLite` does: without following a link.
pub fn open(path: &Path) -> io::Result<Handle> {
    let mut options = OpenOptions::new();
    // A pipe in its place would be waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    Handle::new(options.read(true).custom_flags(flags).open(path)?)
}

/// Creates a file that is not there, for its owner alone unless there is a mode.
pub fn create(path: &Path, mode: Option<u32>) -> io::Result<Handle> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.mode(mode.unwrap_or(0o600)).open(path)?;
    if let Some(mode) = mode {
        // The umask has taken away what it does not allow by default.
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Handle::new(file)
}

/// A handle of a file next to `SQLite`'s own. Closing it drops all POSIX locks of the process on the file.
pub struct Handle {
    file: File,
    pub identity: Identity,
}

impl Handle {
    fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { file, identity })
    }

    /// Whether any name leads to the file. This costs a third of a microsecond, following a name three times as much
    /// and more.
    fn has_any_name(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }

    /// Whether this name leads to the file.
    fn has_name(&self, path: &Path) -> bool {
        self.look(path) == Name::InPlace
    }

    fn look(&self, path: &Path) -> Name {
        match fs::symlink_metadata(path) {
            Ok(found) if Identity::of(&found) == self.identity => Name::InPlace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Name::Free,
            _ => Name::Taken,
        }
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Name {
    /// The file that is open.
    InPlace,
    Free,
    /// Another file.
    Taken,
}

/// What can still be done for a database whose files are not in their place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loss {
    /// Nobody else has written to the database since, as far as can be seen: what only the log holds can be copied
    /// into it.
    pub recoverable: bool,
    /// `SQLite` may remove the files that have the names of the log and its index: they are its own.
    pub removable: bool,
}

/// How a loss ended, once the last connection has been closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The database file was removed or replaced, and its rows with it.
    Removed,
    /// The log or its index is not in its place; whether all it held is in the database.
    Log { saved: bool },
    /// The database file has another name; whether it holds all that the log held.
    Renamed { saved: bool },
}

/// The files that `SQLite` keeps next to a database while it is open.
struct Sidecars {
    log: Handle,
    index: Handle,
}

/// A database file, and handles of it, its log and the log's index next to `SQLite`'s own.
pub struct GuardedFile {
    /// Without symbolic links: `SQLite` names the log after it.
    pub path: PathBuf,
    database: Handle,
    log_path: PathBuf,
    index_path: PathBuf,
    /// Known once the first connection has opened them.
    sidecars: OnceLock<Sidecars>,
    /// When the database was last written, as seen while all files had names.
    written: AtomicI64,
    /// Whether the latest connection that was closed found the files lost, and could not save all that the log holds.
    lost: AtomicBool,
    unsaved: AtomicBool,
}

impl GuardedFile {
    /// A database that no connection has open yet.
    pub fn new(path: PathBuf, database: Handle) -> Self {
        let next_to = |suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            log_path: next_to("-wal"),
            index_path: next_to("-shm"),
            path,
            database,
            sidecars: OnceLock::new(),
            written: AtomicI64::new(i64::MIN),
            lost: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
        }
    }

    pub const fn identity(&self) -> Identity {
        self.database.identity
    }

    /// Whether connections may have this file open; of an index that is not known yet nobody can tell.
    pub fn may_use(&self, identity: Identity) -> bool {
        identity == self.database.identity
            || self
                .sidecars
                .get()
                .is_none_or(|files| identity == files.index.identity)
    }

    /// Opens and locks the files that the first connection has just made or found. False: they are gone already. Handles
    /// that are of no use go to `spare`.
    pub fn open_sidecars(&self, spare: &mut Vec<Handle>) -> bool {
        if self.sidecars.get().is_some() {
            return true;
        }
        let Ok(index) = open(&self.index_path) else {
            return false;
        };
        ofd_lock::share(&self.database.file, ofd_lock::CONNECTED);
        ofd_lock::share(&index.file, ofd_lock::INDEX_OPEN);
        // From here on no other copy of SQLite in this process removes the log.
        let Ok(log) = open(&self.log_path) else {
            ofd_lock::release(&self.database.file, ofd_lock::CONNECTED);
            spare.push(index);
            return false;
        };
        if let Err(files) = self.sidecars.set(Sidecars { log, index }) {
            spare.extend([files.log, files.index]);
        }
        true
    }

    /// Releases the locks, so that `SQLite` sees when its last connection closes.
    pub fn release(&self) {
        ofd_lock::release(&self.database.file, ofd_lock::CONNECTED);
        if let Some(files) = self.sidecars.get() {
            ofd_lock::release(&files.index.file, ofd_lock::INDEX_OPEN);
        }
    }

    /// The handles, to be closed where that drops no lock of a connection.
    pub fn into_handles(self) -> Vec<Handle> {
        let mut handles = vec![self.database];
        if let Some(files) = self.sidecars.into_inner() {
            handles.extend([files.log, files.index]);
        }
        handles
    }

    /// Whether the names still lead to the files that are open.
    pub fn is_in_place(&self) -> bool {
        let sidecars = self.sidecars.get().is_none_or(|files| {
            files.log.has_name(&self.log_path) && files.index.has_name(&self.index_path)
        });
        sidecars
            && fs::symlink_metadata(&self.path).is_ok_and(|found| {
                let in_place = Identity::of(&found) == self.identity();
                if in_place {
                    self.written.store(written(&found), Ordering::Relaxed);
                }
                in_place
            })
    }

    /// Whether the name still leads to the database, and there is no link on the way.
    pub fn is_named(&self) -> bool {
        self.has_database() && fs::canonicalize(&self.path).is_ok_and(|found| found == self.path)
    }

    /// Whether the database's name still leads to it.
    pub fn has_database(&self) -> bool {
        self.database.has_name(&self.path)
    }

    /// Whether the log's name still leads to it.
    pub fn has_log(&self) -> bool {
        let files = self.sidecars.get();
        files.is_some_and(|files| files.log.has_name(&self.log_path))
    }

    /// Whether all files still have names, which is quick to tell.
    pub fn have_names(&self) -> bool {
        let sidecars = self
            .sidecars
            .get()
            .is_none_or(|files| files.log.has_any_name() && files.index.has_any_name());
        sidecars
            && self.database.file.metadata().is_ok_and(|found| {
                self.written.store(written(&found), Ordering::Relaxed);
                found.nlink() > 0
            })
    }

    /// Whether another database has taken the name, next to which the log of this one still lies. `SQLite` would take it
    /// for the log of that one.
    pub fn is_mixed_up(&self) -> bool {
        self.has_log() && self.database.look(&self.path) == Name::Taken
    }

    /// What can be done for files that are not in their place. `None`: they were never all open.
    pub fn loss(&self) -> Option<Loss> {
        let files = self.sidecars.get()?;
        let found = self.database.file.metadata().ok()?;
        let log = files.log.look(&self.log_path);
        let taken = log == Name::Taken || files.index.look(&self.index_path) == Name::Taken;
        let unchanged = written(&found) == self.written.load(Ordering::Relaxed);
        Some(Loss {
            recoverable: !taken && found.nlink() > 0 && unchanged,
            removable: !taken && log == Name::InPlace,
        })
    }

    /// Remembers that a connection of this process has just written to the database.
    pub fn note_written(&self) {
        if let Ok(found) = self.database.file.metadata() {
            self.written.store(written(&found), Ordering::Relaxed);
        }
    }

    /// Remembers what a connection found when it was closed: whether the files were lost, and all that the log held saved.
    pub fn note_close(&self, lost: bool, saved: bool) {
        self.lost.store(lost, Ordering::Relaxed);
        self.unsaved.store(!saved, Ordering::Relaxed);
    }

    /// How a loss ended. To be called when the last connection has been closed.
    pub fn fate(&self) -> Option<Fate> {
        if !self.lost.load(Ordering::Relaxed) {
            return None;
        }
        let saved = !self.unsaved.load(Ordering::Relaxed);
        Some(if !self.database.has_any_name() {
            Fate::Removed
        } else if self.has_database() {
            Fate::Log { saved }
        } else {
            Fate::Renamed { saved }
        })
    }

    /// Removes the log, if its name still leads to it and nobody has it open, of a database that was removed or moved:
    /// `SQLite` would take it for the log of the next database of that name.
    pub fn remove_log(&self) {
        let Some(files) = self.sidecars.get() else {
            return;
        };
        let index = files.index.look(&self.index_path);
        if self.has_log()
            && index != Name::Taken
            && ofd_lock::is_free(&files.index.file, ofd_lock::INDEX_OPEN)
        {
            // Whoever lets it lie is told of the loss all the same.
            let _ = fs::remove_file(&self.log_path);
            if index == Name::InPlace {
                let _ = fs::remove_file(&self.index_path);
            }
        }
    }
}

/// When a file was last written, in nanoseconds.
fn written(found: &Metadata) -> i64 {
    let seconds = found.mtime().wrapping_mul(1_000_000_000);
    seconds.wrapping_add(found.mtime_nsec())
}
