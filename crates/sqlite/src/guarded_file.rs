//! A database file that connections of this process have open, with its log and the log's index.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::libc;

use crate::ofd_lock;

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
        fs::symlink_metadata(path).is_ok_and(|found| Identity::of(&found) == self.identity)
    }
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
        sidecars && self.has_database()
    }

    /// Whether the name still leads to the database, and there is no link on the way.
    pub fn is_named(&self) -> bool {
        self.has_database() && fs::canonicalize(&self.path).is_ok_and(|found| found == self.path)
    }

    /// Whether the database's name still leads to it.
    pub fn has_database(&self) -> bool {
        self.database.has_name(&self.path)
    }

    /// Whether all files still have names, which is quick to tell.
    pub fn have_names(&self) -> bool {
        let sidecars = self
            .sidecars
            .get()
            .is_none_or(|files| files.log.has_any_name() && files.index.has_any_name());
        sidecars && self.database.has_any_name()
    }

    /// Whether another database has taken the name, next to which the log of this one still lies. `SQLite` would take it
    /// for the log of that one.
    pub fn is_mixed_up(&self) -> bool {
        let log_in_place = self
            .sidecars
            .get()
            .is_some_and(|files| files.log.has_name(&self.log_path));
        log_in_place && fs::symlink_metadata(&self.path).is_ok() && !self.has_database()
    }
}
