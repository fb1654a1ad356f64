//! Opens connections, and turns what `SQLite` says into this project's errors.

use std::path::Path;
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};

use crate::config::Config;
use crate::watch::{self, Post, Stop, Watch};

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

/// A connection and the place where its requests leave their watch.
pub struct Connection {
    /// `SQLite`'s own.
    pub raw: rusqlite::Connection,
    /// Where the watch of the running request lies.
    pub post: Post,
    /// Whether every transaction on it looks at the version of the tables first.
    pub looks_first: bool,
}

impl Connection {
    /// Opens the store's database.
    pub fn open(config: &Config, watch: &mut Watch) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match &config.path {
            None => rusqlite::Connection::open_in_memory_with_flags(flags),
            Some(path) => {
                check_folder(config, path)?;
                rusqlite::Connection::open_with_flags(path, flags)
            }
        };
        let mut raw = opened.map_err(|error| failure(config, error, Outcome::NotApplied))?;
        let post = Post::new();
        let handler = {
            let post = post.clone();
            move || post.look().is_some()
        };
        raw.set_prepared_statement_cache_capacity(STATEMENTS);
        // Waiting for locks is done here, where interrupts are looked for.
        let prepared = raw
            .busy_timeout(Duration::ZERO)
            .and_then(|()| raw.progress_handler(STEPS, Some(handler)))
            // Else a statement is prepared again whenever it is bound to other values, which would look as if the
            // tables had changed.
            .and_then(|()| raw.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
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
        }
        Ok(Self {
            raw,
            post,
            looks_first: false,
        })
    }

    /// The number that changes with every change to the tables.
    pub fn schema_version(&self) -> rusqlite::Result<i64> {
        self.raw
            .prepare_cached("PRAGMA schema_version")?
            .query_row([], |row| row.get(0))
    }
}

/// `SQLite` only says that it cannot open the file.
fn check_folder(config: &Config, path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::configuration(format!(
            "{}: {} is a folder: name a file in it",
            config.address,
            path.display()
        )));
    }
    match path.parent() {
        Some(folder) if !folder.is_dir() => Err(Error::configuration(format!(
            "{}: the folder {} does not exist: make it first",
            config.address,
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// Tries again while another connection holds the lock.
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
                None => {
                    watch::pause(wait.min(watch.pause()));
                    wait = (wait * 2).min(LONGEST_PAUSE);
                }
                Some(Stop::Interrupted) => {
                    return Err(Stop::Interrupted.error(
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
