//! Looks at the clock and at the keyboard while a request waits for its server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};

/// How often an interrupt is looked for.
pub const POLL: Duration = Duration::from_millis(100);

/// How long a server that cannot answer at the moment is left alone.
pub const RESPITE: Duration = Duration::from_millis(20);

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
        let fate = outcome.words();
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
                    "the process forked while this was on its way to Redis, and the answer belongs to the other \
                     one: {fate}; do not fork in signal handlers, nor in what makes the items of a batch"
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
    /// Whether the interrupt was raised: it is so once, and holds for all that follows.
    interrupted: bool,
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
            interrupted: false,
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

    /// Makes this the process that it works for.
    pub fn take_over(&mut self) {
        self.forks = FORKS.load(Ordering::SeqCst);
    }

    /// Looks whether this is still the process that began.
    pub fn look_for_forks(&self) -> Result<(), Stop> {
        if FORKS.load(Ordering::SeqCst) == self.forks {
            Ok(())
        } else {
            Err(Stop::Forked)
        }
    }

    /// Looks whether to go on.
    pub fn look(&mut self) -> Result<(), Stop> {
        if self.interrupted {
            return Err(Stop::Interrupted);
        }
        let now = Instant::now();
        if now.duration_since(self.started) >= self.timeout {
            return Err(Stop::Late(self.timeout));
        }
        if let Some(interrupt) = self.interrupt
            && now.duration_since(self.polled) >= NEARLY
        {
            self.polled = now;
            self.interrupted = interrupt.raised();
            self.look_for_forks()?;
            if self.interrupted {
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Once;

    impl Interrupt for Once {
        fn raised(&self) -> bool {
            static ASKED: AtomicU64 = AtomicU64::new(0);
            ASKED.fetch_add(1, Ordering::SeqCst) == 0
        }
    }

    #[test]
    fn an_interrupt_holds_for_all_that_follows() {
        let mut watch = Watch::new(Some(&Once), Duration::from_secs(600));
        watch.look().unwrap();
        watch.polled = Instant::now().checked_sub(POLL).unwrap();
        assert_eq!(watch.look(), Err(Stop::Interrupted));
        watch.polled = Instant::now().checked_sub(POLL).unwrap();
        assert_eq!(watch.look(), Err(Stop::Interrupted));
        watch.start_anew();
        assert_eq!(watch.look(), Err(Stop::Interrupted));
    }
}
