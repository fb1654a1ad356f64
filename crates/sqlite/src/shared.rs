//! What reads and writes of a store share.

use mintkey_runtime::{Deadline, Stop};
use mintkey_store::{Error, ErrorKind, Interrupt, Outcome, Result};

use crate::catalog::layout_cache::LayoutCache;
use crate::config::Config;
use crate::storage::connection::{self, Connection, Opened};
use crate::storage::file_guard::{self, FileId};
use crate::storage::fork_gate;
use crate::storage::fork_registry;
use crate::storage::pool::Pool;

/// The shared state of one store.
pub struct Shared {
    pub config: Config,
    pub layouts: LayoutCache,
    pub pool: Pool,
}

impl Shared {
    /// The state of a store that has opened nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            layouts: LayoutCache::default(),
            pool: Pool::new(),
        }
    }

    /// Whether the database is in memory.
    pub const fn in_memory(&self) -> bool {
        self.config.path.is_none()
    }

    /// The deadline of a new request.
    pub fn deadline(&self, interrupt: &'static dyn Interrupt) -> Deadline {
        Deadline::from_first_check(interrupt, self.config.timeout).polling_with(fork_gate::poll)
    }

    /// Refuses requests in a child that was forked in the middle of a statement.
    pub fn check_usable(&self) -> Result<()> {
        if fork_gate::was_forked_inside() {
            return Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!(
                    "{}: this process was forked in the middle of a statement, and cannot use the store: do not \
                     fork in signal handlers, or start processes by spawning",
                    self.config.address
                ),
            ));
        }
        Ok(())
    }

    /// Opens a connection, whose files become the store's.
    pub fn open(&self, deadline: &mut Deadline) -> Result<Opened> {
        let opened = Connection::open(&self.config, deadline)?;
        if let Opened::Ready(connection) = &opened
            && self.pool.adopt(connection)
        {
            self.layouts.clear();
        }
        Ok(opened)
    }

    /// Closes all idle connections to these lost files.
    pub fn abandon(&self, lost: FileId) {
        self.pool.abandon(lost);
        self.layouts.clear();
    }

    /// Makes all stores of the process close their connections to lost files, so that the present ones can be opened.
    /// Must be called without a pass.
    pub fn close_lost_files(&self, lost: FileId) -> Result<()> {
        let pass = fork_gate::enter();
        let replaced = file_guard::is_replaced(lost);
        drop(pass);
        if replaced {
            return Err(self.replaced(Outcome::NotApplied));
        }
        if fork_registry::abandon(lost) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: another program removed the database's files, and they cannot be opened again while a \
                 statement runs: try again",
                self.config.address
            ),
        ))
    }

    /// The error when another file has taken the database's name.
    pub fn replaced(&self, outcome: Outcome) -> Error {
        Error::new(
            ErrorKind::Unavailable(outcome),
            format!(
                "{}: another file has taken the database's name while the store had it open, and the log of the \
                 old one is next to it: remove the files that end in -wal and -shm to use the new one, or put the old \
                 one back",
                self.config.address
            ),
        )
    }

    /// The error of a request whose evaluation of rows had to stop.
    pub fn stopped(&self, stop: Stop) -> Error {
        stop.error(&self.config.address, "evaluating rows", Outcome::NotApplied)
    }

    /// The error for a failed statement, which says why if the deadline stopped the statement.
    pub fn explain(
        &self,
        connection: &Connection,
        error: rusqlite::Error,
        outcome: Outcome,
    ) -> Error {
        match connection.deadline.stopped() {
            Some(stop) if connection::is_stopped(&error) => {
                stop.error(&self.config.address, "running a statement", outcome)
            }
            _ => connection::failure(&self.config, error, outcome),
        }
    }
}
