//! Checks for timeouts and interrupts while `SQLite` works or a thread waits.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};

use crate::threads::fork_gate::{self, lock};

/// The time between two checks for an interrupt.
pub const POLL: Duration = Duration::from_millis(100);

/// Why a request was stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The interrupt was raised.
    Interrupted,
    /// The timeout has passed.
    TimedOut,
    /// This is the child of a fork in a signal handler.
    Forked,
}

impl Stop {
    /// The error of the stopped request.
    pub fn error(self, doing: &str, timeout: Duration, outcome: Outcome) -> Error {
        match self {
            Self::Interrupted => Error::new(
                ErrorKind::Interrupted(outcome),
                format!("interrupted while {doing}"),
            ),
            Self::TimedOut => Error::new(
                ErrorKind::Timeout(outcome),
                format!("{doing} took longer than {} s", timeout.as_secs_f64()),
            )
            .advice("try again, or raise ?timeout="),
            // The parent continues the request.
            Self::Forked => Error::new(
                ErrorKind::Unavailable(Outcome::Unknown),
                format!(
                    "the process forked while {doing}, and the answer belongs to the parent process"
                ),
            )
            .advice("do not fork in signal handlers, nor in code that makes the items of a batch"),
        }
    }
}

/// When to stop one request: after a timeout, or by an interrupt.
#[derive(Clone)]
pub struct Deadline {
    interrupt: Option<&'static dyn Interrupt>,
    timeout: Option<Duration>,
    started: Option<Instant>,
    polled: Option<Instant>,
    stop: Option<Stop>,
    forks: u64,
    /// Whether the request is a transaction that writes to files.
    writes_files: bool,
    /// Whether it is the deadline of several requests in one transaction.
    of_group: bool,
}

impl Deadline {
    /// The deadline of a new request, which may have no interrupt or no timeout.
    pub fn new(interrupt: Option<&'static dyn Interrupt>, timeout: Option<Duration>) -> Self {
        Self {
            interrupt,
            timeout,
            started: None,
            polled: None,
            stop: None,
            forks: fork_gate::fork_count(),
            writes_files: false,
            of_group: false,
        }
    }

    /// The deadline of a transaction of several requests. It stops the evaluation of rows, which fails one request, but no
    /// statement, because `SQLite` would roll back the other requests.
    pub fn of_group(timeout: Duration) -> Self {
        Self {
            of_group: true,
            ..Self::new(None, Some(timeout))
        }
    }

    /// The same deadline for a transaction, which writes to the store's files if there are any.
    pub fn for_transaction(&self, has_files: bool) -> Self {
        Self {
            writes_files: has_files,
            ..self.clone()
        }
    }

    /// Checks the timeout and, every 100 ms, the interrupt. The time counts from the first check, so that a short
    /// request reads no clock.
    pub fn check(&mut self) -> Option<Stop> {
        if self.stop.is_some() {
            return self.stop;
        }
        if self.is_forked() {
            return self.stop;
        }
        let now = Instant::now();
        let started = *self.started.get_or_insert(now);
        if self
            .timeout
            .is_some_and(|timeout| now.duration_since(started) >= timeout)
        {
            self.stop = Some(Stop::TimedOut);
        } else if let Some(interrupt) = self.interrupt
            && now.duration_since(*self.polled.get_or_insert(now)) >= POLL
        {
            self.polled = Some(now);
            let raised = fork_gate::poll(|| interrupt.raised());
            if !self.is_forked() && raised {
                self.stop = Some(Stop::Interrupted);
            }
        }
        self.stop
    }

    /// Stops the request in a child, because the parent continues it. A transaction on files cannot be stopped:
    /// `SQLite` would roll it back, and would remove the parent's writes from the log's index, which both processes
    /// share. To continue it without the parent's locks would be worse. So the child is aborted.
    fn is_forked(&mut self) -> bool {
        let forked = self.forks != fork_gate::fork_count();
        if forked && self.writes_files {
            eprintln!(
                "mintkey: a signal handler forked in the middle of a write to SQLite and returned in the child, which \
                 would damage the database: the child is ended. Do not fork in signal handlers, or end the child there"
            );
            std::process::abort();
        }
        if forked {
            self.stop = Some(Stop::Forked);
        }
        forked
    }

    /// How long to wait until the next check.
    pub fn wait_time(&self) -> Duration {
        let left = match (self.timeout, self.started) {
            (Some(timeout), Some(started)) => timeout.saturating_sub(started.elapsed()),
            _ => POLL,
        };
        left.clamp(Duration::from_millis(1), POLL)
    }

    /// Why the request was stopped, if it was.
    pub const fn stopped(&self) -> Option<Stop> {
        self.stop
    }
}

/// The deadline of the request that runs on a connection, where the connection's progress handler finds it.
#[derive(Clone)]
pub struct DeadlineSlot(Arc<Mutex<Option<Deadline>>>);

impl DeadlineSlot {
    /// A slot without a deadline.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// Sets or removes the deadline.
    pub fn set(&self, deadline: Option<Deadline>) {
        *lock(&self.0) = deadline;
    }

    /// Removes the timeout of the request, which can still be interrupted.
    pub fn remove_timeout(&self) {
        if let Some(deadline) = &mut *lock(&self.0)
            && !deadline.of_group
        {
            deadline.timeout = None;
        }
    }

    /// Checks the deadline, if there is one.
    pub fn check(&self) -> Option<Stop> {
        let mut slot = lock(&self.0);
        // A signal handler may call the store again, which uses another connection with another slot.
        slot.as_mut()?.check()
    }

    /// Whether to stop the running statement.
    pub fn stops_statement(&self) -> bool {
        let of_group = lock(&self.0)
            .as_ref()
            .is_some_and(|deadline| deadline.of_group);
        !of_group && self.check().is_some()
    }

    /// Why the request was stopped, if it was.
    pub fn stopped(&self) -> Option<Stop> {
        lock(&self.0).as_ref()?.stopped()
    }
}
