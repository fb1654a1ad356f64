//! Looks at the clock and at the keyboard while a request waits for its server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};

/// How often an interrupt is looked for.
pub const POLL: Duration = Duration::from_millis(100);

/// A wait for `POLL` may end a little early.
const NEARLY: Duration = Duration::from_millis(90);

/// Counts the forks that led to this process.
pub static FORKS: AtomicU64 = AtomicU64::new(0);

/// Waits for what gives no sign, such as the end of a server's start.
#[allow(
    clippy::disallowed_methods,
    reason = "no clock of a test moves what is waited for here"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Why work was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The interrupt was raised.
    Interrupted,
    /// The time is over.
    Late(Duration),
    /// A signal handler forked, and this is the child.
    Forked,
}

impl Stop {
    /// The error it gives.
    pub fn error(self, outcome: Outcome) -> Error {
        let fate = match outcome {
            Outcome::NotApplied => "nothing was written",
            Outcome::Unknown => "whether it was written is unknown",
        };
        match self {
            Self::Interrupted => Error::new(
                ErrorKind::Interrupted(outcome),
                format!("interrupted while waiting for Redis: {fate}"),
            ),
            Self::Late(timeout) => Error::new(
                ErrorKind::Timeout(outcome),
                format!(
                    "Redis took longer than {} s: {fate}; try again, or raise ?timeout=",
                    timeout.as_secs_f64()
                ),
            ),
            Self::Forked => Error::new(
                ErrorKind::Unavailable(outcome),
                format!(
                    "a signal handler forked while this waited for Redis, and the answer belongs to the other \
                     process: {fate}; do not fork in signal handlers"
                ),
            ),
        }
    }
}

/// Watches over one request.
pub struct Watch {
    interrupt: Option<&'static dyn Interrupt>,
    timeout: Duration,
    started: Instant,
    polled: Instant,
    forks: u64,
}

impl Watch {
    /// Watches for the interrupt if there is one, and for the end of the time.
    pub fn new(interrupt: Option<&'static dyn Interrupt>, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            interrupt,
            timeout,
            started: now,
            polled: now,
            forks: FORKS.load(Ordering::SeqCst),
        }
    }

    /// The same for a part of the work, which may take no longer than this.
    pub fn shorter(&self, time: Duration) -> Self {
        let now = Instant::now();
        let left = self.end().saturating_duration_since(now);
        Self {
            timeout: left.min(time),
            started: now,
            ..*self
        }
    }

    /// Lets the time begin anew.
    pub fn start_anew(&mut self) {
        self.started = Instant::now();
    }

    /// Looks whether to go on.
    pub fn look(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if now.duration_since(self.started) >= self.timeout {
            return Err(Stop::Late(self.timeout));
        }
        if let Some(interrupt) = self.interrupt
            && now.duration_since(self.polled) >= NEARLY
        {
            self.polled = now;
            let raised = interrupt.raised();
            if FORKS.load(Ordering::SeqCst) != self.forks {
                return Err(Stop::Forked);
            }
            if raised {
                return Err(Stop::Interrupted);
            }
        }
        Ok(())
    }

    /// When the time is over.
    pub fn end(&self) -> Instant {
        self.started + self.timeout
    }

    /// How long a wait may last until the next look.
    pub fn pause(&self) -> Duration {
        self.end()
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(1), POLL)
    }
}
