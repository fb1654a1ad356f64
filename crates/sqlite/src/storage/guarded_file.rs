//! A database file that connections of this process have open, with its log and the log's index.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use nix::libc;

use crate::storage::location::{INDEX_SUFFIX, LOG_SUFFIX};
use crate::storage::ofd_lock;

/// Identifies a file by device and inode, whatever its name is. An open file keeps its inode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity(u64, u64);

impl Identity {
    pub fn of(found: &Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

/// Opens an existing file for a handle next to `SQLite`'s own. Like `SQLite`, it follows no link.
pub fn open(path: &Path) -> io::Result<Handle> {
    let mut options = OpenOptions::new();
    // Without O_NONBLOCK, opening a pipe would wait for its other end.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    Handle::new(options.read(true).custom_flags(flags).open(path)?)
}

/// Creates a file that does not exist. Without a mode, only its owner may use it.
pub fn create(path: &Path, mode: Option<u32>) -> io::Result<Handle> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.mode(mode.unwrap_or(0o600)).open(path)?;
    if let Some(mode) = mode {
        // The umask has removed permissions from the mode.
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Handle::new(file)
}

/// A handle of a file next to `SQLite`'s own. Closing it releases all POSIX locks of the process on the file.
pub struct Handle {
    file: File,
    pub identity: Identity,
}

impl Handle {
    fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { file, identity })
    }

    /// Whether any name leads to the file. This costs 0.3 µs; resolving a name costs at least three times as much.
    fn has_any_name(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }

    /// Whether this name leads to the file.
    fn has_name(&self, path: &Path) -> bool {
        self.state_of(path) == NameState::InPlace
    }

    fn state_of(&self, path: &Path) -> NameState {
        match fs::symlink_metadata(path) {
            Ok(found) if Identity::of(&found) == self.identity => NameState::InPlace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => NameState::Free,
            _ => NameState::Taken,
        }
    }
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NameState {
    /// To the open file.
    InPlace,
    /// Nowhere.
    Free,
    /// To another file.
    Taken,
}

/// What can still be done for a database whose files are not in their place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loss {
    /// As far as can be seen, no other process has written to the database since. So the log can be copied into it.
    pub recoverable: bool,
    /// `SQLite` may remove the files with the names of the log and its index, because they are the open ones.
    pub removable: bool,
}

/// What was lost, known once the last connection has been closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LossOutcome {
    /// The database file was removed or replaced, with all its rows.
    Removed,
    /// The log or its index is not in its place. `saved`: the database holds all that the log held.
    Log { saved: bool },
    /// The database file has another name. `saved`: it holds all that the log held.
    Renamed { saved: bool },
}

/// The files that `SQLite` keeps next to a database while it is open.
struct Sidecars {
    log: Handle,
    index: Handle,
}

/// A database file, with handles of it, of its log and of the log's index, next to `SQLite`'s own.
pub struct GuardedFile {
    /// The path without symbolic links, after which `SQLite` names the log.
    pub path: PathBuf,
    database: Handle,
    log_path: PathBuf,
    pub index_path: PathBuf,
    /// Set once the first connection has opened them.
    sidecars: OnceLock<Sidecars>,
    /// The modification time of the database, as last seen while all files had names.
    written: AtomicI64,
    /// Whether the connection that was closed last found the files lost.
    lost: AtomicBool,
    /// Whether it could not copy all of the log into the database.
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
            log_path: next_to(LOG_SUFFIX),
            index_path: next_to(INDEX_SUFFIX),
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

    /// Whether connections may have this file open. As long as the index is unknown, it may be any file.
    pub fn may_use(&self, identity: Identity) -> bool {
        identity == self.database.identity
            || self
                .sidecars
                .get()
                .is_none_or(|files| identity == files.index.identity)
    }

    /// Whether connections have this file open as the index.
    pub fn has_index(&self, identity: Option<Identity>) -> bool {
        self.sidecars
            .get()
            .is_some_and(|files| identity == Some(files.index.identity))
    }

    /// Opens and locks the files that the first connection has just created or found. False: they are gone already.
    /// Unused handles go to `spare`.
    pub fn open_sidecars(&self, spare: &mut Vec<Handle>) -> bool {
        if self.sidecars.get().is_some() {
            return true;
        }
        let Ok(index) = open(&self.index_path) else {
            return false;
        };
        ofd_lock::share(&self.database.file, ofd_lock::CONNECTED);
        ofd_lock::share(&index.file, ofd_lock::INDEX_OPEN);
        // From here on, no other copy of SQLite in this process removes the log.
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

    /// Releases the locks, so that `SQLite` sees that its last connection closes.
    pub fn release(&self) {
        ofd_lock::release(&self.database.file, ofd_lock::CONNECTED);
        if let Some(files) = self.sidecars.get() {
            ofd_lock::release(&files.index.file, ofd_lock::INDEX_OPEN);
        }
    }

    /// The handles, to be closed when this releases no lock of a connection.
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

    /// Whether the name still leads to the database, through no symbolic link.
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

    /// Whether all files still have names. This is quick to check.
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

    /// Whether the name leads to another database, while the log of this one still has its name. `SQLite` would use
    /// that log for the other database.
    pub fn is_replaced(&self) -> bool {
        self.has_log() && self.database.state_of(&self.path) == NameState::Taken
    }

    /// What can be done for files that are not in their place. `None`: not all of them were ever open.
    pub fn loss(&self) -> Option<Loss> {
        let files = self.sidecars.get()?;
        let found = self.database.file.metadata().ok()?;
        let log = files.log.state_of(&self.log_path);
        let taken =
            log == NameState::Taken || files.index.state_of(&self.index_path) == NameState::Taken;
        let unchanged = written(&found) == self.written.load(Ordering::Relaxed);
        Some(Loss {
            recoverable: !taken && found.nlink() > 0 && unchanged,
            removable: !taken && log == NameState::InPlace,
        })
    }

    /// Records that a connection of this process has just written to the database.
    pub fn record_write(&self) {
        if let Ok(found) = self.database.file.metadata() {
            self.written.store(written(&found), Ordering::Relaxed);
        }
    }

    /// Records what a connection found when it was closed: whether the files were lost, and whether the database holds
    /// all that the log held.
    pub fn record_close(&self, lost: bool, saved: bool) {
        self.lost.store(lost, Ordering::Relaxed);
        self.unsaved.store(!saved, Ordering::Relaxed);
    }

    /// What was lost, if anything. To be called when the last connection has been closed.
    pub fn loss_outcome(&self) -> Option<LossOutcome> {
        if !self.lost.load(Ordering::Relaxed) {
            return None;
        }
        let saved = !self.unsaved.load(Ordering::Relaxed);
        Some(if !self.database.has_any_name() {
            LossOutcome::Removed
        } else if self.has_database() {
            LossOutcome::Log { saved }
        } else {
            LossOutcome::Renamed { saved }
        })
    }

    /// Removes the log of a database that was removed or renamed, if the log still has its name and no process has it
    /// open. `SQLite` would use it for the next database of that name.
    pub fn remove_log(&self) {
        let Some(files) = self.sidecars.get() else {
            return;
        };
        let index = files.index.state_of(&self.index_path);
        if self.has_log()
            && index != NameState::Taken
            && ofd_lock::is_free(&files.index.file, ofd_lock::INDEX_OPEN)
        {
            // If this fails, the loss is reported all the same.
            let _ = fs::remove_file(&self.log_path);
            if index == NameState::InPlace {
                let _ = fs::remove_file(&self.index_path);
            }
        }
    }
}

/// The modification time of a file, in nanoseconds.
fn written(found: &Metadata) -> i64 {
    let seconds = found.mtime().wrapping_mul(1_000_000_000);
    seconds.wrapping_add(found.mtime_nsec())
}
