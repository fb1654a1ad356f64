//! How often and after what time a request is sent again: AWS's standard mode.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What all retries of a store may cost until successes pay for more.
const CAPACITY: u32 = 500;
/// What one costs.
const COST: u32 = 5;
/// The longest first pause.
const BASE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(20);

/// Tokens that retries are paid with: when a server fails for all, this ends the onslaught.
#[derive(Debug)]
pub struct Bucket(AtomicU32);

impl Default for Bucket {
    fn default() -> Self {
        Self(AtomicU32::new(CAPACITY))
    }
}

impl Bucket {
    /// Pays for a retry; false: there is no more to pay with.
    pub fn pay(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(COST)
            })
            .is_ok()
    }

    /// A request has succeeded: after a retry its price comes back, else one token.
    pub fn refill(&self, retried: bool) {
        if !retried && self.0.load(Ordering::Relaxed) == CAPACITY {
            return;
        }
        let more = if retried { COST } else { 1 };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(CAPACITY.min(left + more))
            });
    }
}

/// The pause before a retry (from 0): anything up to twice the longest one before.
pub fn pause(retry: u32) -> Duration {
    let longest = BASE.saturating_mul(1 << retry.min(16)).min(LONGEST);
    // A new state is seeded at random; for spreading clients over time that is enough.
    let chance = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "a share, not a count")]
    let share = (chance >> 11) as f64 / (1_u64 << 53) as f64;
    longest.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_when_nothing_succeeds_and_come_back_with_successes() {
        let bucket = Bucket::default();
        for _ in 0..CAPACITY / COST {
            assert!(bucket.pay());
        }
        assert!(!bucket.pay());
        bucket.refill(true);
        assert!(bucket.pay());
        for _ in 0..COST {
            assert!(!bucket.pay());
            bucket.refill(false);
        }
        assert!(bucket.pay());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        for retry in 0..100 {
            assert!(pause(retry) <= LONGEST);
        }
        assert!((0..50).all(|_| pause(0) <= BASE));
    }
}
