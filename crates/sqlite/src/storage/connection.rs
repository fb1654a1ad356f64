//! Opens connections, and turns what `SQLite` says into this project's errors.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};

use crate::config::Config;
use crate::storage::file_guard::{self, BeforeClose, FileGuard, FileId, Joined};
use crate::storage::guarded_file::Loss;
use crate::threads::deadline::{Post, Stop, Watch};
use crate::threads::fork_gate;
use crate::threads::sleep::sleep;

/// Steps of `SQLite`'s machine between two looks at the clock: about half a millisecond.
const STEPS: i32 = 20_000;
/// Statements kept ready: a handful for each table.
const STATEMENTS: usize = 128;
/// Waits for somebody else's lock grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// What can go wrong inside a transaction.
#[derive(Debug)]
pub enum Fault {
    /// `SQLite` says so.
    Sqlite(rusqlite::Error),
    /// The request is refused; the transaction can go on.
    Refused(Error),
    /// The tables are not as this store remembers them.
    Stale,
}

/// The result of a step inside a transaction.
pub type Attempt<T> = std::result::Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What comes of opening a connection.
pub enum Opened {
    Ready(Connection),
    /// Connections of this process have files open that are no longer in their place, and must be closed first.
    Lost(FileId),
}

/// A connection. Dropping it closes it, but not in a child that was forked while it was in use: closed there, it would
/// change what the parent still works with.
pub struct Connection(Option<Open>);

/// An open connection and the place where its requests leave their watch.
pub struct Open {
    // The order matters: it is the order in which they are dropped.
    _before_close: Option<BeforeClose>,
    /// `SQLite`'s own.
    pub raw: rusqlite::Connection,
    /// The files it has open; in memory there are none.
    pub files: Option<FileGuard>,
    /// Where the watch of the running request lies.
    pub post: Post,
    /// Whether every transaction on it looks at the version of the tables first.
    pub looks_first: bool,
}

impl Deref for Connection {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Open {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Connection {
    /// Opens the store's database.
    pub fn open(config: &Config, watch: &mut Watch) -> Result<Opened> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Some(path) = &config.path else {
            let raw = rusqlite::Connection::open_in_memory_with_flags(flags)
                .map_err(|error| failure(config, error, Outcome::NotApplied))?;
            let mut connection = Self::around(raw, None, None);
            connection.prepare(config, watch)?;
            return Ok(Opened::Ready(connection));
        };
        let (files, before_close) = match file_guard::join(config, path, watch)? {
            Joined::Guarded(files, before_close) => (files, before_close),
            Joined::Lost(id) => return Ok(Opened::Lost(id)),
        };
        let id = files.id();
        let flags = flags | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let raw = match rusqlite::Connection::open_with_flags(files.path(), flags) {
            // Else SQLite may have opened another file. It has taken no lock of it yet.
            Ok(raw) if files.is_named() => raw,
            Err(error) if files.is_named() => {
                drop(before_close);
                return Err(failure(config, error, Outcome::NotApplied));
            }
            opened => {
                drop(before_close);
                drop(opened);
                return Ok(Opened::Lost(id));
            }
        };
        let mut connection = Self::around(raw, Some(files), Some(before_close));
        connection.prepare(config, watch)?;
        if connection
            .files
            .as_ref()
            .is_some_and(|files| !files.settle())
        {
            return Ok(Opened::Lost(id));
        }
        Ok(Opened::Ready(connection))
    }

    fn around(
        raw: rusqlite::Connection,
        files: Option<FileGuard>,
        before_close: Option<BeforeClose>,
    ) -> Self {
        Self(Some(Open {
            _before_close: before_close,
            raw,
            files,
            post: Post::new(),
            looks_first: false,
        }))
    }

    fn prepare(&mut self, config: &Config, watch: &mut Watch) -> Result<()> {
        let handler = {
            let post = self.post.clone();
            move || post.look().is_some()
        };
        let raw = &mut self.raw;
        raw.set_prepared_statement_cache_capacity(STATEMENTS);
        // Waiting for locks is done here, where interrupts are looked for.
        let prepared = raw
            .progress_handler(STEPS, Some(handler))
            .and_then(|()| raw.busy_timeout(Duration::ZERO))
            // Else a statement is prepared again whenever it is bound to other values, which would look as if the
            // tables had changed.
            .and_then(|()| raw.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
            // A file from elsewhere may hold views and triggers that call functions with side effects.
            .and_then(|_| raw.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false))
            .map(drop);
        prepared.map_err(|error| failure(config, error, Outcome::NotApplied))?;
        if config.path.is_some() {
            let mode: String = patiently(config, watch, || {
                raw.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))
            })?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    format!(
                        "{} cannot keep a write-ahead log (its mode stays {mode:?}): use a local disk",
                        config.address
                    ),
                ));
            }
            let sync = if config.full_sync { "FULL" } else { "NORMAL" };
            raw.execute_batch(&format!("PRAGMA synchronous={sync}"))
                .map_err(|error| failure(config, error, Outcome::NotApplied))?;
            // The log and its index are there once something was read.
            patiently(config, watch, || self.schema_version())?;
        }
        Ok(())
    }

    /// Whether what it finds in its files, or does not, is the database's.
    pub fn is_in_place(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::is_in_place)
    }

    /// The same, looked at now and then: for a reader, who may see what was there a moment ago.
    pub fn seems_in_place(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::seems_in_place)
    }

    /// The same for what a writer has just committed.
    pub fn keeps_commits(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::keeps_commits)
    }

    /// Which files it has open.
    pub fn file_id(&self) -> FileId {
        self.files.as_ref().map_or(FileId::MEMORY, FileGuard::id)
    }

    /// Whether a commit into a log that is lost counts all the same: because all that the log holds is in the database,
    /// and the database in its place. What can be copied, is.
    pub fn saves_commits(&self) -> bool {
        self.files.as_ref().is_none_or(|files| {
            let loss = files.file().loss();
            files.has_database() && loss.is_some_and(|loss| self.has_saved_all(files, loss))
        })
    }

    /// Whether others may find a commit that was not saved: in the log, if it is in its place and only the index is lost.
    pub fn may_be_found(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| files.has_database() && files.file().has_log())
    }

    /// Whether all that the log holds is in the database. What can be copied, is.
    fn has_saved_all(&self, files: &FileGuard, loss: Loss) -> bool {
        let mode = if loss.recoverable { "PASSIVE" } else { "NOOP" };
        let counts = self
            .raw
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            });
        if loss.recoverable {
            files.file().note_written();
        }
        counts.is_ok_and(|(written, saved)| written == saved)
    }

    /// Saves what can be saved from files that are not in their place, before it is closed.
    fn leave_lost_files(&self, files: &FileGuard) {
        let loss = files.file().loss();
        if !loss.is_some_and(|loss| loss.removable) {
            // Else SQLite would remove the log of others.
            let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let set = self.raw.set_db_config(option, true);
            debug_assert!(set.is_ok(), "the option is one of this SQLite");
        }
        if let Some(loss) = loss {
            files
                .file()
                .note_close(true, self.has_saved_all(files, loss));
        }
    }

    /// The number that changes with every change to the tables.
    pub fn schema_version(&self) -> rusqlite::Result<i64> {
        self.raw
            .prepare_cached("PRAGMA schema_version")?
            .query_row([], |row| row.get(0))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if fork_gate::is_torn() {
            mem::forget(self.0.take());
            return;
        }
        match &self.files {
            Some(files) if !files.file().is_in_place() => self.leave_lost_files(files),
            Some(files) => files.file().note_close(false, true),
            None => {}
        }
    }
}

/// Tries again while another connection holds the lock. It gives up when a fork waits for this thread, which then tries
/// again itself.
pub fn patiently<T>(
    config: &Config,
    watch: &mut Watch,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> Result<T> {
    let mut wait = Duration::from_micros(100);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if is_busy(&error) => match watch.look() {
                None if fork_gate::is_wanted() => {
                    return Err(failure(config, error, Outcome::NotApplied));
                }
                None => {
                    sleep(wait.min(watch.pause()));
                    wait = (wait * 2).min(LONGEST_PAUSE);
                }
                Some(stop @ (Stop::Interrupted | Stop::Forked)) => {
                    return Err(stop.error(
                        "waiting for the database",
                        config.timeout,
                        Outcome::NotApplied,
                    ));
                }
                Some(Stop::Late) => {
                    return Err(Error::new(
                        ErrorKind::Timeout(Outcome::NotApplied),
                        format!(
                            "{} is locked by another process, and was so for {} s: nothing was written; end \
                             the other process's transaction, or raise ?timeout=",
                            config.address,
                            config.timeout.as_secs_f64()
                        ),
                    )
                    .caused_by(error));
                }
            },
            Err(error) => return Err(failure(config, error, Outcome::NotApplied)),
        }
    }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

/// Whether another connection holds the lock.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        code(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Whether the statement was stopped by the watch.
pub fn is_stopped(error: &rusqlite::Error) -> bool {
    code(error) == Some(ErrorCode::OperationInterrupted)
}

/// Whether a statement names a table or column that is not there.
pub fn is_unknown_name(error: &rusqlite::Error) -> bool {
    // Both the plain SQLITE_ERROR of preparing; nothing else here gives it.
    matches!(
        error,
        rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error {
                    code: ErrorCode::Unknown,
                    extended_code: 1
                },
                _
            )
    )
}

/// The typed error for what `SQLite` says.
pub fn failure(config: &Config, error: rusqlite::Error, outcome: Outcome) -> Error {
    let address = &config.address;
    let unavailable = ErrorKind::Unavailable(outcome);
    let (kind, message) = match code(&error) {
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Configuration,
            format!(
                "{address} is no SQLite database: give the path of another file, or of a new one"
            ),
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            unavailable,
            format!("{address} is damaged: restore it from a copy, or try SQLite's .recover"),
        ),
        Some(ErrorCode::CannotOpen) => (
            unavailable,
            format!(
                "{address} cannot be opened: check that this user may read and write it and its folder"
            ),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            unavailable,
            format!(
                "{address} cannot be written: this user needs the right to write the file and its folder"
            ),
        ),
        Some(ErrorCode::DiskFull) => (
            unavailable,
            format!("{address} cannot grow, the disk is full: make room and try again"),
        ),
        Some(ErrorCode::TooBig) => (
            ErrorKind::ItemTooLarge,
            "the item is larger than SQLite can hold: split it".to_owned(),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Timeout(outcome),
            format!("{address} is locked by another process: try again, or raise ?timeout="),
        ),
        _ => (unavailable, format!("{address} failed: {error}")),
    };
    Error::new(kind, message).caused_by(error)
}
