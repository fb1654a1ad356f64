//! Looks at the clock and at the keyboard while `SQLite` works or a thread waits.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};

use crate::threads::fork_gate::{self, locked};

/// How often an interrupt is looked for.
pub const POLL: Duration = Duration::from_millis(100);

/// Why work was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The interrupt was raised.
    Interrupted,
    /// The time is over.
    Late,
    /// A signal handler forked, and this is the child.
    Forked,
}

impl Stop {
    /// The error it gives.
    pub fn error(self, doing: &str, timeout: Duration, outcome: Outcome) -> Error {
        let fate = outcome.words();
        match self {
            Self::Interrupted => Error::new(
                ErrorKind::Interrupted(outcome),
                format!("interrupted while {doing}: {fate}"),
            ),
            Self::Late => Error::new(
                ErrorKind::Timeout(outcome),
                format!(
                    "{doing} took longer than {} s: {fate}; try again, or raise ?timeout=",
                    timeout.as_secs_f64()
                ),
            ),
            // The parent goes on with it.
            Self::Forked => Error::new(
                ErrorKind::Unavailable(Outcome::Unknown),
                format!(
                    "the process forked while {doing}, and the answer belongs to the other one: {}; do not fork in \
                     signal handlers",
                    Outcome::Unknown.words()
                ),
            ),
        }
    }
}

/// Watches over one request.
#[derive(Clone)]
pub struct Watch {
    interrupt: Option<&'static dyn Interrupt>,
    timeout: Option<Duration>,
    started: Option<Instant>,
    polled: Option<Instant>,
    stop: Option<Stop>,
    forks: u64,
    /// Whether it watches over a transaction that writes to files.
    writes_files: bool,
}

impl Watch {
    /// Watches for the interrupt, and for the end of the time if there is one.
    pub fn new(interrupt: Option<&'static dyn Interrupt>, timeout: Option<Duration>) -> Self {
        Self {
            interrupt,
            timeout,
            started: None,
            polled: None,
            stop: None,
            forks: fork_gate::forks(),
            writes_files: false,
        }
    }

    /// The same for a transaction that writes to the store's files, if it has any.
    pub fn of_transaction(&self, has_files: bool) -> Self {
        Self {
            writes_files: has_files,
            ..self.clone()
        }
    }

    /// Looks, if it is time to. The clock starts at the first look, which costs a short request nothing.
    pub fn look(&mut self) -> Option<Stop> {
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
            self.stop = Some(Stop::Late);
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

    /// Stops a child at what its parent goes on with. A transaction on files cannot be stopped there: `SQLite` would roll
    /// it back, and remove from the log's index, which both processes share, what the parent has written. To go on with
    /// it without the parent's locks would be worse. So the child ends.
    fn is_forked(&mut self) -> bool {
        let forked = self.forks != fork_gate::forks();
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

    /// How long a wait may last until the next look.
    pub fn pause(&self) -> Duration {
        let left = match (self.timeout, self.started) {
            (Some(timeout), Some(started)) => timeout.saturating_sub(started.elapsed()),
            _ => POLL,
        };
        left.clamp(Duration::from_millis(1), POLL)
    }

    /// Why it stopped, if it did.
    pub const fn stopped(&self) -> Option<Stop> {
        self.stop
    }
}

/// The place where a connection's handler finds the watch of the request that runs on it.
#[derive(Clone)]
pub struct Post(Arc<Mutex<Option<Watch>>>);

impl Post {
    /// A place without a watch.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// Puts a watch there, or none.
    pub fn set(&self, watch: Option<Watch>) {
        *locked(&self.0) = watch;
    }

    /// Gives the request all the time it needs, but lets it be interrupted still.
    pub fn give_time(&self) {
        if let Some(watch) = &mut *locked(&self.0) {
            watch.timeout = None;
        }
    }

    /// Looks, if there is a watch.
    pub fn look(&self) -> Option<Stop> {
        let mut slot = locked(&self.0);
        // A signal handler may come back to this store, on another connection with another post.
        slot.as_mut()?.look()
    }

    /// Why the watch stopped the work, if it did.
    pub fn stopped(&self) -> Option<Stop> {
        locked(&self.0).as_ref()?.stopped()
    }
}
