//! Where a minter reads the time. Passed in, so that every promise about time is tested without sleeping.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that people may set, and one that only goes forward.
pub trait Clock {
    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> i64;
    /// Milliseconds since an arbitrary instant, never decreasing.
    fn monotonic_ms(&self) -> i64;
    /// Whether time stands still until somebody moves it: waiting would last for ever.
    fn stands_still(&self) -> bool {
        false
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The wall clock of the machine.
#[inline]
#[must_use]
pub fn system_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            // Seconds fit for 292 million years; this form compiles to two multiplications.
            since.as_secs().cast_signed() * 1000 + i64::from(since.subsec_millis())
        }
        Err(before) => -millis(before.duration()),
    }
}

fn system_monotonic_ms() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    millis(START.get_or_init(Instant::now).elapsed())
}

/// The clock of the engine: the machine's, or one that stands still until it is moved.
pub enum EngineClock {
    /// The machine's clocks.
    System,
    /// Microseconds since the Unix epoch, and microseconds of time let pass.
    Frozen {
        /// The wall clock.
        wall_us: i64,
        /// The monotonic clock.
        monotonic_us: i64,
    },
}

impl EngineClock {
    /// A clock that stands at `wall_us` microseconds since the Unix epoch.
    #[must_use]
    pub fn frozen(wall_us: i64) -> Self {
        Self::Frozen {
            wall_us,
            monotonic_us: 0,
        }
    }

    /// Lets time pass. A negative span steps the wall clock back and leaves the monotonic one.
    pub fn advance(&mut self, by_us: i64) {
        if let Self::Frozen {
            wall_us,
            monotonic_us,
        } = self
        {
            *wall_us = wall_us.saturating_add(by_us);
            *monotonic_us = monotonic_us.saturating_add(by_us.max(0));
        }
    }

    /// Where a clock that stands still stands, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn wall_us(&self) -> Option<i64> {
        match self {
            Self::System => None,
            Self::Frozen { wall_us, .. } => Some(*wall_us),
        }
    }

    /// Sets the wall clock, as a person or a time server would.
    pub fn set(&mut self, to_us: i64) {
        if let Self::Frozen { wall_us, .. } = self {
            *wall_us = to_us;
        }
    }
}

impl Clock for EngineClock {
    #[inline]
    fn wall_ms(&self) -> i64 {
        match self {
            Self::System => system_ms(),
            Self::Frozen { wall_us, .. } => wall_us.div_euclid(1000),
        }
    }

    fn monotonic_ms(&self) -> i64 {
        match self {
            Self::System => system_monotonic_ms(),
            Self::Frozen { monotonic_us, .. } => monotonic_us.div_euclid(1000),
        }
    }

    fn stands_still(&self) -> bool {
        matches!(self, Self::Frozen { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let mut clock = EngineClock::frozen(1_500);
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (1, 0));
        clock.advance(2_500);
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (4, 2));
        clock.advance(-3_000);
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (1, 2));
        clock.set(-1);
        assert_eq!(clock.wall_ms(), -1, "before 1970 a tick is rounded down");
        assert!(clock.stands_still());
    }

    #[test]
    fn the_system_clock_tells_the_time_of_the_machine() {
        let expected = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!((expected..expected + 60_000).contains(&system_ms()));
        let earlier = EngineClock::System.monotonic_ms();
        assert!(EngineClock::System.monotonic_ms() >= earlier);
    }
}
