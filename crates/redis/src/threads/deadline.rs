//! Timeouts and interrupts of requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};

/// How often a waiting request checks for an interrupt.
pub const INTERRUPT_INTERVAL: Duration = Duration::from_millis(100);

/// The delay before a call is sent again to a server that could not answer.
pub const RETRY_DELAY: Duration = Duration::from_millis(20);

/// The least time between two checks for an interrupt. A wait for `INTERRUPT_INTERVAL` may end a little early.
const MIN_INTERRUPT_INTERVAL: Duration = Duration::from_millis(90);

/// Grows with each fork that led to this process, by one for each store. Only its changes matter.
pub static FORK_COUNT: AtomicU64 = AtomicU64::new(0);

/// Waits for something that sends no event, such as the end of a server's start.
#[allow(
    clippy::disallowed_methods,
    reason = "the clock of a test has no effect on what is awaited here"
)]
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Why a request was stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The interrupt was raised.
    Interrupted,
    /// The timeout has passed.
    TimedOut(Duration),
    /// A signal handler forked, and this process is the child.
    Forked,
}

impl Stop {
    /// The error for this reason.
    pub fn error(self, outcome: Outcome) -> Error {
        match self {
            Self::Interrupted => Error::new(
                ErrorKind::Interrupted(outcome),
                "interrupted while waiting for Redis",
            ),
            Self::TimedOut(timeout) => Error::new(
                ErrorKind::Timeout(outcome),
                format!("the request to Redis took longer than {} s", timeout.as_secs_f64()),
            )
            .advice("try again, or raise ?timeout="),
            Self::Forked => Error::new(
                ErrorKind::Unavailable(outcome),
                "the process forked while the request was in flight, and Redis replies to the parent process",
            )
            .advice("do not fork in signal handlers, or while the items of a batch are created"),
        }
    }
}

/// The deadline of one request. It also checks for interrupts. Clones share the time and the interrupt.
#[derive(Clone)]
pub struct Deadline {
    interrupt: Option<&'static dyn Interrupt>,
    timeout: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy)]
struct State {
    started: Instant,
    last_interrupt_check: Instant,
    /// Whether the interrupt was raised. It is raised once, and stops everything that follows.
    interrupted: bool,
    fork_count: u64,
}

impl Deadline {
    /// A deadline after this timeout. It checks for the interrupt, if there is one.
    pub fn new(interrupt: Option<&'static dyn Interrupt>, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            interrupt,
            timeout,
            state: Arc::new(Mutex::new(State {
                started: now,
                last_interrupt_check: now,
                interrupted: false,
                fork_count: FORK_COUNT.load(Ordering::SeqCst),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deadline of a part of the work, which may take this time at most.
    pub fn shorter(&self, time: Duration) -> Self {
        let now = Instant::now();
        let left = self.end().saturating_duration_since(now);
        Self {
            interrupt: self.interrupt,
            timeout: left.min(time),
            state: Arc::new(Mutex::new(State {
                started: now,
                ..*self.state()
            })),
        }
    }

    /// Starts the timeout again.
    pub fn restart(&self) {
        self.state().started = Instant::now();
    }

    /// Makes the current process the owner of the request.
    pub fn adopt_process(&self) {
        self.state().fork_count = FORK_COUNT.load(Ordering::SeqCst);
    }

    /// Fails if the process forked since the request began, and this is the child.
    pub fn check_fork(&self) -> Result<(), Stop> {
        if FORK_COUNT.load(Ordering::SeqCst) == self.state().fork_count {
            Ok(())
        } else {
            Err(Stop::Forked)
        }
    }

    /// Fails if the timeout has passed or the interrupt was raised.
    pub fn check(&self) -> Result<(), Stop> {
        let mut state = self.state();
        if state.interrupted {
            return Err(Stop::Interrupted);
        }
        let now = Instant::now();
        if now.duration_since(state.started) >= self.timeout {
            return Err(Stop::TimedOut(self.timeout));
        }
        if let Some(interrupt) = self.interrupt
            && now.duration_since(state.last_interrupt_check) >= MIN_INTERRUPT_INTERVAL
        {
            state.last_interrupt_check = now;
            // A signal handler may fork.
            drop(state);
            let raised = interrupt.raised();
            self.state().interrupted = raised;
            self.check_fork()?;
            if raised {
                return Err(Stop::Interrupted);
            }
        }
        Ok(())
    }

    /// When the timeout passes.
    pub fn end(&self) -> Instant {
        self.state().started + self.timeout
    }

    /// How long a wait may last until the next check.
    pub fn wait_time(&self) -> Duration {
        self.end()
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(1), INTERRUPT_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Once;

    impl Interrupt for Once {
        fn raised(&self) -> bool {
            static CHECKS: AtomicU64 = AtomicU64::new(0);
            CHECKS.fetch_add(1, Ordering::SeqCst) == 0
        }
    }

    #[test]
    fn an_interrupt_stops_everything_that_follows() {
        let deadline = Deadline::new(Some(&Once), Duration::from_secs(600));
        let clone = deadline.clone();
        deadline.check().unwrap();
        deadline.state().last_interrupt_check =
            Instant::now().checked_sub(INTERRUPT_INTERVAL).unwrap();
        assert_eq!(deadline.check(), Err(Stop::Interrupted));
        deadline.state().last_interrupt_check =
            Instant::now().checked_sub(INTERRUPT_INTERVAL).unwrap();
        assert_eq!(deadline.check(), Err(Stop::Interrupted));
        deadline.restart();
        assert_eq!(deadline.check(), Err(Stop::Interrupted));
        assert_eq!(clone.check(), Err(Stop::Interrupted));
    }
}
