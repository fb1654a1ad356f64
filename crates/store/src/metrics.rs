//! What a store reports about a request besides the reply.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a store reports about a request besides the reply: retries, throttling, capacity units and its duration.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    metered: AtomicBool,
    throttled: AtomicBool,
    retries: AtomicU32,
    /// Halves of a unit.
    consumed: AtomicU64,
    time: Mutex<Option<Time>>,
}

/// Since when a request is metered, and how long it took.
#[derive(Debug)]
struct Time {
    started: Instant,
    duration: Option<Duration>,
}

impl RequestMetrics {
    /// Asks the store to report the capacity units that the request takes, if it counts them. Resets the metrics.
    pub fn meter(&self) {
        self.metered.store(true, Ordering::Relaxed);
        self.throttled.store(false, Ordering::Relaxed);
        self.retries.store(0, Ordering::Relaxed);
        self.consumed.store(0, Ordering::Relaxed);
        *self.time() = Some(Time {
            started: Instant::now(),
            duration: None,
        });
    }

    /// Records that the reply is there, of a request that is executed together with others.
    pub fn finish(&self) {
        if let Some(time) = self.time().as_mut() {
            time.duration = Some(time.started.elapsed());
        }
    }

    /// The time from `meter` to `finish`; `None` if one of them was not called.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.time().as_ref()?.duration
    }

    fn time(&self) -> MutexGuard<'_, Option<Time>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the units are to be reported.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.metered.load(Ordering::Relaxed)
    }

    /// Records that the store throttled a part of the request, even if a retry succeeded.
    pub fn throttle(&self) {
        self.throttled.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened.
    #[must_use]
    pub fn was_throttled(&self) -> bool {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Records that the request, or a part of it, was sent this many times again.
    pub fn add_retries(&self, retries: u32) {
        self.retries.fetch_add(retries, Ordering::Relaxed);
    }

    /// How often the request, or a part of it, was sent again.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Adds capacity units that the store has counted.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a store counts small positive numbers of halves"
    )]
    pub fn consume(&self, units: f64) {
        let halves = (units.max(0.0) * 2.0).round() as u64;
        self.consumed.fetch_add(halves, Ordering::Relaxed);
    }

    /// The capacity units that the store has counted; `None` if it counts none.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "a store counts small numbers of halves"
    )]
    pub fn consumed(&self) -> Option<f64> {
        match self.consumed.load(Ordering::Relaxed) {
            0 => None,
            halves => Some(halves as f64 / 2.0),
        }
    }
}

impl Clone for RequestMetrics {
    /// The metrics of a copy of a request are empty.
    fn clone(&self) -> Self {
        Self::default()
    }
}
