//! Retries in the standard mode of AWS: token bucket and delays.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The tokens of a full bucket.
const CAPACITY: u32 = 500;
/// The tokens that a retry costs.
const COST: u32 = 5;
/// The longest first delay.
const BASE: Duration = Duration::from_millis(50);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(20);

/// The tokens for the retries of a store: a server that fails all calls is not flooded with retries.
#[derive(Debug)]
pub struct TokenBucket(AtomicU32);

impl Default for TokenBucket {
    fn default() -> Self {
        Self(AtomicU32::new(CAPACITY))
    }
}

impl TokenBucket {
    /// Takes the tokens for a retry; false: there are not enough.
    pub fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(COST)
            })
            .is_ok()
    }

    /// Adds tokens after a success: those of its retry, or one if there was none.
    pub fn refill(&self, retried: bool) {
        if !retried && self.0.load(Ordering::Relaxed) == CAPACITY {
            return;
        }
        let added = if retried { COST } else { 1 };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(CAPACITY.min(left + added))
            });
    }
}

/// The delay before a retry, which counts from 0: random, up to a limit that doubles with each retry.
pub fn delay(retry: u32) -> Duration {
    let longest = BASE.saturating_mul(1 << retry.min(16)).min(LONGEST);
    // A new `RandomState` has a random seed, which is random enough to spread clients over time.
    let random = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "a fraction, not a count")]
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    longest.mul_f64(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_without_successes_and_come_back_with_them() {
        let bucket = TokenBucket::default();
        for _ in 0..CAPACITY / COST {
            assert!(bucket.take());
        }
        assert!(!bucket.take());
        bucket.refill(true);
        assert!(bucket.take());
        for _ in 0..COST {
            assert!(!bucket.take());
            bucket.refill(false);
        }
        assert!(bucket.take());
    }

    #[test]
    fn delays_grow_to_a_limit() {
        for retry in 0..100 {
            assert!(delay(retry) <= LONGEST);
        }
        assert!((0..50).all(|_| delay(0) <= BASE));
    }
}
