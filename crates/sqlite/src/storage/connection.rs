//! Opens and closes connections, and maps the errors of `SQLite`.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mintkey_runtime::{Deadline, Stop, pause};
use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};

use crate::config::Config;
use crate::storage::deadline_slot::DeadlineSlot;
use crate::storage::file_guard::{self, BeforeClose, FileGuard, FileId, Joined};
use crate::storage::fork_gate;
use crate::storage::guarded_file::Loss;
use crate::storage::notices;

/// The instructions of `SQLite`'s virtual machine between two checks of the deadline: about half a millisecond.
const INSTRUCTIONS: i32 = 20_000;
/// The most prepared statements of a connection: a few for each table.
const STATEMENTS: usize = 128;
/// The most memory in KiB for pages of the connection that writes. Rows in random order change pages all over an index.
const WRITER_CACHE: u32 = 32_000;
/// The pages of the log after which a commit copies it into the database, which waits for the disk twice.
const LOG_PAGES: u32 = 4_000;
/// The longest pause between two attempts to get a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Why a step inside a transaction failed.
#[derive(Debug)]
pub enum Fault {
    /// `SQLite` returned an error.
    Sqlite(rusqlite::Error),
    /// The request is refused; the transaction continues.
    Refused(Error),
    /// The known layout of the table is out of date.
    Stale,
    /// The evaluation of rows had to stop. The transaction can continue.
    Stopped(Stop),
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

/// The result of opening a connection.
pub enum Opened {
    Ready(Connection),
    /// Connections of this process have files open that are no longer in their place, and must be closed first.
    Lost(FileId),
}

/// A connection. Dropping it closes it, except in a child that was forked while a thread was inside the fork gate:
/// there, closing would change files that the parent still uses.
pub struct Connection(Option<OpenConnection>);

/// An open connection, and the deadline of its request.
pub struct OpenConnection {
    // The fields are dropped in this order.
    _before_close: Option<BeforeClose>,
    /// `SQLite`'s own.
    pub raw: rusqlite::Connection,
    /// The files that it has open; none for a database in memory.
    pub files: Option<FileGuard>,
    /// The deadline of the running request.
    pub deadline: DeadlineSlot,
    /// Whether each transaction on it reads the schema version first.
    pub checks_schema_first: bool,
}

impl Deref for Connection {
    type Target = OpenConnection;

    fn deref(&self) -> &OpenConnection {
        self.0.as_ref().expect("it is set until it is dropped")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut OpenConnection {
        self.0.as_mut().expect("it is set until it is dropped")
    }
}

impl OpenConnection {
    /// Fails when the evaluation of rows must stop.
    pub fn may_continue(&self) -> Attempt<()> {
        self.deadline.check().map_err(Fault::Stopped)
    }
}

impl Connection {
    /// Opens the store's database.
    pub fn open(config: &Config, deadline: &mut Deadline) -> Result<Opened> {
        let opened = Self::open_files(config, deadline);
        let address = &config.address;
        match &opened {
            Ok(Opened::Ready(_)) => notices::debug(format!("opened {address}")),
            Ok(Opened::Lost(_)) => {}
            Err(Error { message, .. }) => {
                notices::debug(format!("opening {address} failed: {message}"));
            }
        }
        opened
    }

    fn open_files(config: &Config, deadline: &mut Deadline) -> Result<Opened> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Some(path) = &config.path else {
            let raw = rusqlite::Connection::open_in_memory_with_flags(flags)
                .map_err(|error| failure(config, error, Outcome::NotApplied))?;
            let mut connection = Self::wrap(raw, None, None);
            connection.prepare(config, deadline)?;
            return Ok(Opened::Ready(connection));
        };
        let (files, before_close) = match file_guard::join(config, path, deadline)? {
            Joined::Guarded(files, before_close) => (files, before_close),
            Joined::Lost(id) => return Ok(Opened::Lost(id)),
        };
        let id = files.id();
        let flags = flags | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let raw = match rusqlite::Connection::open_with_flags(files.path(), flags) {
            // Otherwise SQLite may have opened another file. It has not locked that file yet.
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
        let mut connection = Self::wrap(raw, Some(files), Some(before_close));
        connection.prepare(config, deadline)?;
        if connection
            .files
            .as_ref()
            .is_some_and(|files| !files.open_sidecars())
        {
            return Ok(Opened::Lost(id));
        }
        Ok(Opened::Ready(connection))
    }

    fn wrap(
        raw: rusqlite::Connection,
        files: Option<FileGuard>,
        before_close: Option<BeforeClose>,
    ) -> Self {
        Self(Some(OpenConnection {
            _before_close: before_close,
            raw,
            files,
            deadline: DeadlineSlot::default(),
            checks_schema_first: false,
        }))
    }

    fn prepare(&mut self, config: &Config, deadline: &mut Deadline) -> Result<()> {
        let handler = {
            let slot = self.deadline.clone();
            move || slot.stops_statement()
        };
        let raw = &mut self.raw;
        raw.set_prepared_statement_cache_capacity(STATEMENTS);
        // Without a busy timeout, because the store waits for locks itself and checks for interrupts meanwhile.
        let prepared = raw
            .progress_handler(INSTRUCTIONS, Some(handler))
            .and_then(|()| raw.busy_timeout(Duration::ZERO))
            // Otherwise SQLite prepares a statement again when it is bound to other values, which would look as if the
            // tables had changed.
            .and_then(|()| raw.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
            // A file of unknown origin may contain views and triggers that call functions with side effects.
            .and_then(|_| raw.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false))
            .map(drop);
        prepared.map_err(|error| failure(config, error, Outcome::NotApplied))?;
        if config.path.is_some() {
            let mode: String = retry_while_busy(config, deadline, || {
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
            // The first read creates the log and its index.
            retry_while_busy(config, deadline, || self.schema_version())?;
        }
        Ok(())
    }

    /// Prepares the connection that writes.
    pub fn prepare_to_write(&self, config: &Config, deadline: &mut Deadline) -> Result<()> {
        if config.path.is_none() {
            return Ok(());
        }
        let sql =
            format!("PRAGMA cache_size=-{WRITER_CACHE}; PRAGMA wal_autocheckpoint={LOG_PAGES}");
        retry_while_busy(config, deadline, || self.raw.execute_batch(&sql))
    }

    /// Whether its files still have their names.
    pub fn is_in_place(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::is_in_place)
    }

    /// Whether they had them a moment ago, which is enough for a read.
    pub fn was_in_place(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::was_in_place)
    }

    /// Whether its files keep what was just committed.
    pub fn keeps_commits(&self) -> bool {
        self.files.as_ref().is_none_or(FileGuard::keeps_commits)
    }

    /// The id of the files that it has open.
    pub fn file_id(&self) -> FileId {
        self.files.as_ref().map_or(FileId::MEMORY, FileGuard::id)
    }

    /// Whether a commit into a lost log is durable all the same, because the database is in its place and holds all of
    /// the log. Copies the log into the database if that is safe.
    pub fn recovers_commits(&self) -> bool {
        self.files.as_ref().is_none_or(|files| {
            let loss = files.file().loss();
            files.has_database() && loss.is_some_and(|loss| self.has_copied_log(files, loss))
        })
    }

    /// Whether other processes may still find a commit that was not copied: if only the index is lost, and the log is
    /// in its place.
    pub fn commit_may_be_found(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| files.has_database() && files.file().has_log())
    }

    /// Whether the database holds all of the log. Copies the log into the database if that is safe.
    fn has_copied_log(&self, files: &FileGuard, loss: Loss) -> bool {
        let mode = if loss.recoverable { "PASSIVE" } else { "NOOP" };
        let counts = self
            .raw
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            });
        if loss.recoverable {
            files.file().record_write();
        }
        counts.is_ok_and(|(logged, copied)| logged == copied)
    }

    /// Copies the log of files that are not in their place, if that is safe, before the connection is closed.
    fn prepare_close_of_lost_files(&self, files: &FileGuard) {
        let loss = files.file().loss();
        if !loss.is_some_and(|loss| loss.removable) {
            // Otherwise SQLite would remove the log of another database.
            let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let set = self.raw.set_db_config(option, true);
            debug_assert!(set.is_ok(), "the option is one of this SQLite");
        }
        if let Some(loss) = loss {
            files
                .file()
                .record_close(true, self.has_copied_log(files, loss));
        }
    }

    /// A number that changes with every change to the tables.
    pub fn schema_version(&self) -> rusqlite::Result<i64> {
        self.raw
            .prepare_cached("PRAGMA schema_version")?
            .query_row([], |row| row.get(0))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if fork_gate::was_forked_inside() {
            mem::forget(self.0.take());
            return;
        }
        match &self.files {
            Some(files) if !files.file().is_in_place() => self.prepare_close_of_lost_files(files),
            Some(files) => files.file().record_close(false, true),
            None => {}
        }
    }
}

/// Tries again while another connection holds the lock. Gives up when a fork waits for this thread; then the caller
/// closes the connection, leaves the fork gate, and tries again.
pub fn retry_while_busy<T>(
    config: &Config,
    deadline: &mut Deadline,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> Result<T> {
    let mut wait = Duration::from_micros(100);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if is_busy(&error) => match deadline.check() {
                Ok(()) if fork_gate::is_pass_wanted() => {
                    return Err(failure(config, error, Outcome::NotApplied));
                }
                Ok(()) => {
                    pause(wait.min(deadline.wait()));
                    wait = (wait * 2).min(LONGEST_PAUSE);
                }
                Err(stop @ (Stop::Interrupted | Stop::Forked)) => {
                    let doing = "waiting for the database";
                    return Err(stop.error(&config.address, doing, Outcome::NotApplied));
                }
                Err(Stop::Timeout(time)) => {
                    return Err(Error::new(
                        ErrorKind::Timeout(Outcome::NotApplied),
                        format!(
                            "{} was locked by another process for {} s",
                            config.address,
                            time.as_secs_f64()
                        ),
                    )
                    .advice("end the other process's transaction, or raise ?timeout=")
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

/// Whether a row would have had unique values that another row has.
pub fn is_duplicate(error: &rusqlite::Error) -> bool {
    let extended = error
        .sqlite_error()
        .map_or(0, |failure| failure.extended_code);
    extended == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
}

/// Whether the deadline stopped the statement.
pub fn is_stopped(error: &rusqlite::Error) -> bool {
    code(error) == Some(ErrorCode::OperationInterrupted)
}

/// Whether a statement names a table or column that does not exist.
pub fn is_unknown_name(error: &rusqlite::Error) -> bool {
    // Both are the plain SQLITE_ERROR of preparing a statement, which nothing else here returns.
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

/// The typed error for an error of `SQLite`.
pub fn failure(config: &Config, error: rusqlite::Error, outcome: Outcome) -> Error {
    let address = &config.address;
    let unavailable = ErrorKind::Unavailable(outcome);
    let (kind, message) = match code(&error) {
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Configuration,
            format!(
                "{address} is not an SQLite database: give the path of another file, or of a new one"
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
                "{address} cannot be written: this user needs permission to write to the file and its folder"
            ),
        ),
        Some(ErrorCode::DiskFull) => (
            unavailable,
            format!(
                "{address} cannot grow, because the disk is full: free some space and try again"
            ),
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
