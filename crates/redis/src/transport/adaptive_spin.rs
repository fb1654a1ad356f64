//! Spins briefly before a wait blocks in the kernel. A server nearby replies in less time than it takes to block and to
//! wake up.

use std::thread::yield_now;
use std::time::{Duration, Instant};

/// About the cost of blocking and waking up on a virtual machine.
///
/// A wait that spins for this time and then blocks costs at most twice as much as one that knew the future (Karlin, Li,
/// Manasse, Owicki, "Empirical Studies of Competitive Spinning for a Shared-Memory Multiprocessor", 1991).
const SPIN_TIME: Duration = Duration::from_micros(120);

/// The most waits that block at once after a spin without a reply. Every 32nd wait still spins: the server may have become faster.
const MAX_PENALTY: u32 = 31;

/// A busy process keeps a processor for some milliseconds when the thread yields. A spin counts as this many spin times at
/// most.
const MAX_SPIN_TIMES: u32 = 100;

/// Decides for each wait whether to spin, from the success of the waits before.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdaptiveSpin {
    /// The next waits, which block at once.
    blocking_waits: u32,
    /// The waits that block at once after a spin without a reply. It grows with each one.
    penalty: u32,
}

impl AdaptiveSpin {
    /// Calls `poll` until it returns something or the spin time is over. It yields the processor in between.
    pub fn spin_until<T>(&mut self, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        if self.blocking_waits > 0 {
            self.blocking_waits -= 1;
            return None;
        }
        let started = Instant::now();
        loop {
            yield_now();
            let found = poll();
            if self.ends(found.is_some(), started.elapsed()) {
                return found;
            }
        }
    }

    /// Whether a spin that has taken this time is over. A late success counts as a failure: a blocked thread would have been
    /// scheduled first when it woke up, while a thread that yielded waits until the other one has finished.
    fn ends(&mut self, found: bool, took: Duration) -> bool {
        if took >= SPIN_TIME {
            let spin_times = u32::try_from(took.as_nanos() / SPIN_TIME.as_nanos());
            self.penalty = (2 * self.penalty + 1).min(MAX_PENALTY);
            self.blocking_waits =
                self.penalty * spin_times.unwrap_or(MAX_SPIN_TIMES).min(MAX_SPIN_TIMES);
        } else if found {
            self.penalty = 0;
        }
        found || took >= SPIN_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of waits that block at once before one spins again.
    fn blocking_waits(spin: &mut AdaptiveSpin) -> u32 {
        let mut waits = 0;
        while spin.blocking_waits > 0 {
            assert_eq!(spin.spin_until(|| Some(())), None);
            waits += 1;
        }
        waits
    }

    #[test]
    fn a_result_during_the_spin_is_returned() {
        let mut spin = AdaptiveSpin::default();
        let mut looks = 0..;
        let found = spin.spin_until(|| looks.next().filter(|n| *n == 0));
        assert_eq!(found, Some(0));
        assert!(!spin.ends(false, SPIN_TIME / 2));
        assert!(spin.ends(true, SPIN_TIME / 2));
    }

    #[test]
    fn waits_spin_less_often_after_failures_but_never_stop_spinning() {
        let mut spin = AdaptiveSpin::default();
        let waits: Vec<u32> = (0..7)
            .map(|_| {
                assert!(spin.ends(false, SPIN_TIME));
                blocking_waits(&mut spin)
            })
            .collect();
        assert_eq!(waits, [1, 3, 7, 15, 31, 31, 31]);
    }

    #[test]
    fn the_penalty_grows_with_the_time_that_others_keep_the_processor() {
        for (took, least, most) in [
            (4 * SPIN_TIME, 4, 124),
            (4 * SPIN_TIME * MAX_PENALTY, 100, 3100),
        ] {
            let mut spin = AdaptiveSpin::default();
            assert!(spin.ends(true, took));
            assert_eq!(blocking_waits(&mut spin), least);
            for _ in 0..5 {
                assert!(spin.ends(true, took));
            }
            assert_eq!(blocking_waits(&mut spin), most);
        }
    }

    #[test]
    fn a_success_resets_the_penalty() {
        let mut spin = AdaptiveSpin::default();
        for _ in 0..3 {
            assert!(spin.ends(false, SPIN_TIME));
        }
        blocking_waits(&mut spin);
        assert!(spin.ends(true, SPIN_TIME / 2));
        assert!(spin.ends(false, SPIN_TIME));
        assert_eq!(blocking_waits(&mut spin), 1);
    }
}
