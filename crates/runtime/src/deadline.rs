//! When a request is given up: the end of its time, an interrupt, or a fork.

use std::time::{Duration, Instant};

use mintkey_store::Interrupt;

use crate::generation::Generation;
use crate::stop::Stop;

/// How often the interrupt is asked.
pub const POLL: Duration = Duration::from_millis(100);
/// A wait of `POLL` may end a little early.
const NEARLY: Duration = Duration::from_millis(90);
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The deadline of one request, on the thread that carries it out.
///
/// Code that takes long calls [`check`](Self::check) in between, and never waits longer than [`wait`](Self::wait) at
/// once. A stop lasts: every later check returns it again.
#[derive(Clone, Copy)]
pub struct Deadline {
    interrupt: &'static dyn Interrupt,
    ask: fn(&dyn Interrupt) -> bool,
    /// None: as long as it takes.
    timeout: Option<Duration>,
    /// None: the time begins with the first check.
    started: Option<Instant>,
    asked: Option<Instant>,
    generation: Generation,
    stop: Option<Stop>,
}

impl Deadline {
    /// For a request that may take so long from now on.
    pub fn new(interrupt: &'static dyn Interrupt, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            started: Some(Instant::now()),
            ..Self::unlimited(interrupt)
        }
    }

    /// For a request that may take so long from the first check on. A short request, which ends before any check, does not
    /// read the clock.
    pub fn from_first_check(interrupt: &'static dyn Interrupt, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..Self::unlimited(interrupt)
        }
    }

    /// For work that may take as long as it needs, but can be interrupted.
    pub fn unlimited(interrupt: &'static dyn Interrupt) -> Self {
        Self {
            interrupt,
            ask: |interrupt| interrupt.raised(),
            timeout: None,
            started: None,
            asked: None,
            generation: Generation::current(),
            stop: None,
        }
    }

    /// Asks the interrupt through this function, for an engine that cannot be interrupted at every moment.
    #[must_use]
    pub const fn polling_with(mut self, ask: fn(&dyn Interrupt) -> bool) -> Self {
        self.ask = ask;
        self
    }

    /// Starts the time again, for work in several parts that may each take so long.
    pub fn restart(&mut self) {
        self.restart_at(Instant::now());
    }

    const fn restart_at(&mut self, now: Instant) {
        self.started = Some(now);
        if let Some(Stop::Timeout(_)) = self.stop {
            self.stop = None;
        }
    }

    /// Removes the end of the time: the rest may take as long as it needs, but can be interrupted.
    pub const fn remove_timeout(&mut self) {
        self.timeout = None;
    }

    /// Checks whether to continue.
    ///
    /// # Errors
    ///
    /// The reason to give the request up.
    pub fn check(&mut self) -> Result<(), Stop> {
        self.check_at(Instant::now())
    }

    fn check_at(&mut self, now: Instant) -> Result<(), Stop> {
        if self.stop.is_none() {
            self.stop = self.reason_at(now);
        }
        self.stop.map_or(Ok(()), Err)
    }

    fn reason_at(&mut self, now: Instant) -> Option<Stop> {
        self.started.get_or_insert(now);
        let mut interrupted = false;
        if now.saturating_duration_since(*self.asked.get_or_insert(now)) >= NEARLY {
            self.asked = Some(now);
            interrupted = (self.ask)(self.interrupt);
        }
        // Asking may run a signal handler, and that may fork.
        if self.has_forked() {
            return Some(Stop::Forked);
        }
        if interrupted {
            return Some(Stop::Interrupted);
        }
        let timeout = self.timeout?;
        let is_over = self.left_at(now).is_some_and(|left| left.is_zero());
        is_over.then_some(Stop::Timeout(timeout))
    }

    /// Whether the process forked since the request began, and this is the child.
    #[must_use]
    pub fn has_forked(&self) -> bool {
        !self.generation.is_current()
    }

    /// What an earlier check returned, if it stopped the request.
    #[must_use]
    pub const fn stopped(&self) -> Option<Stop> {
        self.stop
    }

    /// When the time is over, if it ever is.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        // The clock is read only if it must be: an event loop asks this for all its requests.
        self.end_from(self.started.unwrap_or_else(Instant::now))
    }

    fn end_from(&self, now: Instant) -> Option<Instant> {
        self.started.unwrap_or(now).checked_add(self.timeout?)
    }

    fn left_at(&self, now: Instant) -> Option<Duration> {
        let end = self.end_from(now)?;
        Some(end.saturating_duration_since(now))
    }

    /// How long to wait at most before the next check.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait_at(Instant::now())
    }

    fn wait_at(&self, now: Instant) -> Duration {
        let asked = self.asked.unwrap_or(now);
        let until_asking = POLL.saturating_sub(now.saturating_duration_since(asked));
        let left = self.left_at(now).unwrap_or(POLL);
        left.min(until_asking).max(SHORTEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mintkey_store::store::Never;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Raised once, at the second question.
    #[derive(Default)]
    struct Second(AtomicUsize);

    impl Interrupt for Second {
        fn raised(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst) == 1
        }
    }

    impl Second {
        fn new() -> &'static Self {
            Box::leak(Box::default())
        }

        fn asked(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn the_time_ends_and_stays_over() {
        let mut deadline = Deadline::new(&Never, SECOND);
        let begin = deadline.started.unwrap();
        assert_eq!(deadline.end(), Some(begin + SECOND));
        assert_eq!(
            deadline.check_at(begin + Duration::from_nanos(999_999_999)),
            Ok(())
        );
        assert_eq!(deadline.stopped(), None);
        let over = Err(Stop::Timeout(SECOND));
        assert_eq!(deadline.check_at(begin + SECOND), over);
        assert_eq!(deadline.check_at(begin), over);
        assert_eq!(deadline.stopped(), over.err());
    }

    #[test]
    fn the_time_may_begin_with_the_first_check() {
        let mut deadline = Deadline::from_first_check(&Never, SECOND);
        let begin = Instant::now() + 5 * SECOND;
        assert_eq!(deadline.check_at(begin), Ok(()));
        assert_eq!(deadline.end(), Some(begin + SECOND));
        assert!(deadline.check_at(begin + SECOND).is_err());
    }

    #[test]
    fn a_restart_gives_the_whole_time_again() {
        let mut deadline = Deadline::new(&Never, SECOND);
        let later = deadline.started.unwrap() + 2 * SECOND;
        assert!(deadline.check_at(later).is_err());
        deadline.restart_at(later);
        assert_eq!(deadline.check_at(later), Ok(()));
        assert_eq!(deadline.end(), Some(later + SECOND));
    }

    #[test]
    fn without_a_timeout_only_an_interrupt_ends_it() {
        let interrupt = Second::new();
        for mut deadline in [
            Deadline::unlimited(interrupt),
            Deadline::new(interrupt, SECOND),
        ] {
            deadline.remove_timeout();
            assert_eq!(deadline.end(), None);
            let begin = Instant::now();
            assert_eq!(deadline.check_at(begin), Ok(()));
            interrupt.0.store(1, Ordering::SeqCst);
            let year = begin + 365 * 86_400 * SECOND;
            assert_eq!(deadline.check_at(year), Err(Stop::Interrupted));
        }
    }

    #[test]
    fn the_interrupt_is_asked_every_tenth_of_a_second_and_lasts() {
        let interrupt = Second::new();
        let mut deadline = Deadline::new(interrupt, 100 * SECOND);
        let begin = deadline.started.unwrap();
        for millisecond in 0..180 {
            let now = begin + Duration::from_millis(millisecond);
            assert_eq!(deadline.check_at(now), Ok(()));
        }
        assert_eq!(interrupt.asked(), 1);
        let raised = Err(Stop::Interrupted);
        assert_eq!(deadline.check_at(begin + 2 * POLL), raised);
        // It is raised once, and that holds for all later checks.
        deadline.restart();
        assert_eq!(deadline.check_at(begin + 3 * POLL), raised);
        assert_eq!(interrupt.asked(), 2);
    }

    #[test]
    fn an_interrupt_goes_before_the_end_of_the_time() {
        let interrupt = Second::new();
        interrupt.raised();
        let mut deadline = Deadline::new(interrupt, SECOND);
        let begin = deadline.started.unwrap();
        assert_eq!(deadline.check_at(begin), Ok(()));
        assert_eq!(deadline.check_at(begin + SECOND), Err(Stop::Interrupted));
    }

    #[test]
    fn an_engine_may_say_how_to_ask() {
        let mut deadline = Deadline::new(&Never, SECOND).polling_with(|_| true);
        let begin = deadline.started.unwrap();
        assert_eq!(deadline.check_at(begin), Ok(()));
        assert_eq!(deadline.check_at(begin + POLL), Err(Stop::Interrupted));
    }

    #[test]
    fn no_wait_is_longer_than_until_the_next_question_or_the_end() {
        let mut deadline = Deadline::new(&Never, SECOND);
        let begin = deadline.started.unwrap();
        let milliseconds = Duration::from_millis;
        assert_eq!(deadline.wait_at(begin), POLL);
        deadline.check_at(begin).unwrap();
        assert_eq!(
            deadline.wait_at(begin + milliseconds(30)),
            milliseconds(70),
            "until it is asked"
        );
        deadline.check_at(begin + milliseconds(950)).unwrap();
        assert_eq!(
            deadline.wait_at(begin + milliseconds(950)),
            milliseconds(50),
            "until the end"
        );
        assert_eq!(
            deadline.wait_at(begin + 2 * SECOND),
            SHORTEST_WAIT,
            "never zero"
        );
        assert_eq!(Deadline::unlimited(&Never).wait(), POLL);
        let endless = Deadline::new(&Never, Duration::MAX);
        assert_eq!(endless.wait(), POLL);
    }
}
