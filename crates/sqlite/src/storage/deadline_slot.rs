//! The deadline of the request that runs on a connection, where the connection's progress handler finds it.

use std::sync::{Arc, Mutex};

use mintkey_runtime::{Deadline, Stop, locked};

/// What a deadline may stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A read, or any request on a database in memory.
    Plain,
    /// A transaction of one request that writes to files.
    FileWrite,
    /// A transaction of several requests. The deadline stops the evaluation of rows, which fails one request, but no
    /// statement, because `SQLite` would roll back the other requests.
    Group,
}

/// The deadline of a connection's request, if a request runs.
#[derive(Clone, Default)]
pub struct DeadlineSlot(Arc<Mutex<Option<(Deadline, Kind)>>>);

impl DeadlineSlot {
    /// Sets the deadline of the next request.
    pub fn set(&self, deadline: Deadline, kind: Kind) {
        *locked(&self.0) = Some((deadline, kind));
    }

    /// Removes the deadline.
    pub fn clear(&self) {
        *locked(&self.0) = None;
    }

    /// Removes the timeout of the request, which can still be interrupted.
    pub fn remove_timeout(&self) {
        if let Some((deadline, Kind::Plain | Kind::FileWrite)) = &mut *locked(&self.0) {
            deadline.remove_timeout();
        }
    }

    /// Checks the deadline, if there is one.
    ///
    /// In a child, a request stops, because the parent continues it. A transaction on files cannot be stopped: `SQLite`
    /// would roll it back, and would remove the parent's writes from the log's index, which both processes share. To
    /// continue it without the parent's locks would be worse. So the child is aborted.
    pub fn check(&self) -> Result<(), Stop> {
        // A signal handler may call the store again, which uses another connection with another slot.
        let mut slot = locked(&self.0);
        let Some((deadline, kind)) = &mut *slot else {
            return Ok(());
        };
        let checked = deadline.check();
        if checked == Err(Stop::Forked) && *kind == Kind::FileWrite {
            eprintln!(
                "mintkey: a signal handler forked in the middle of a write to SQLite and returned in the child, which \
                 would damage the database: the child is ended. Do not fork in signal handlers, or end the child there"
            );
            std::process::abort();
        }
        checked
    }

    /// Whether to stop the running statement.
    pub fn stops_statement(&self) -> bool {
        let is_group = matches!(*locked(&self.0), Some((_, Kind::Group)));
        !is_group && self.check().is_err()
    }

    /// Why the request was stopped, if it was.
    pub fn stopped(&self) -> Option<Stop> {
        locked(&self.0).as_ref()?.0.stopped()
    }
}
