//! Clocks. The minter gets its clock as an argument, so that tests need not sleep.

use std::sync::OnceLock;
use std::time::Instant;

// The machine's clock without the checks of `std::time`, which cost as much as an id's digits.
#[cfg(unix)]
use rustix::time::{ClockId, clock_gettime};

/// A wall clock that may be set, and a monotonic one.
pub trait Clock {
    /// The time of the wall clock.
    fn wall(&self) -> Reading;
    /// Milliseconds since an arbitrary instant, never decreasing.
    fn monotonic_ms(&self) -> i64;
    /// Whether the clock only moves when it is set: then waiting for it would never end.
    fn stands_still(&self) -> bool {
        false
    }
}

/// One reading of a wall clock, which all values of one step share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    seconds: i64,
    ms: i64,
    us: i64,
}

impl Reading {
    /// The reading of a clock that shows this many milliseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self {
            seconds: ms.div_euclid(1000),
            ms,
            us: ms.saturating_mul(1000),
        }
    }

    /// The reading of a clock that shows this many microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_us(us: i64) -> Self {
        Self {
            us,
            ..Self::from_ms(us.div_euclid(1000))
        }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn us(self) -> i64 {
        self.us
    }

    /// Milliseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.ms
    }

    /// Whole seconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The time of the machine's wall clock.
#[cfg(unix)]
#[inline]
#[must_use]
pub fn system() -> Reading {
    let now = clock_gettime(ClockId::Realtime);
    Reading {
        seconds: now.tv_sec,
        ms: now.tv_sec.wrapping_mul(1000) + now.tv_nsec / 1_000_000,
        us: now.tv_sec.wrapping_mul(1_000_000) + now.tv_nsec / 1000,
    }
}

/// The time of the machine's wall clock.
#[cfg(not(unix))]
#[must_use]
pub fn system() -> Reading {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is a broken one.
    let us = since.unwrap_or_default().as_micros();
    Reading::from_us(i64::try_from(us).unwrap_or(i64::MAX))
}

fn system_monotonic_ms() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    millis(START.get_or_init(Instant::now).elapsed())
}

/// The clock of the engine: that of the machine, or a frozen one.
#[derive(Clone, Copy)]
pub enum EngineClock {
    /// The machine's clocks.
    System,
    /// A clock that only moves when it is set, in microseconds.
    Frozen {
        /// The wall clock.
        wall_us: i64,
        /// The monotonic clock.
        monotonic_us: i64,
    },
}

impl EngineClock {
    /// A stopped clock, at `wall_us` microseconds since the Unix epoch.
    #[must_use]
    pub fn frozen(wall_us: i64) -> Self {
        Self::Frozen {
            wall_us,
            monotonic_us: 0,
        }
    }

    /// Advances both clocks. A negative duration steps the wall clock back and leaves the monotonic one.
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

    /// The wall clock of a frozen clock, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn wall_us(&self) -> Option<i64> {
        match self {
            Self::System => None,
            Self::Frozen { wall_us, .. } => Some(*wall_us),
        }
    }

    /// Sets the wall clock, as an administrator or a time server would.
    pub fn set(&mut self, to_us: i64) {
        if let Self::Frozen { wall_us, .. } = self {
            *wall_us = to_us;
        }
    }
}

impl Clock for EngineClock {
    #[inline]
    fn wall(&self) -> Reading {
        match self {
            Self::System => system(),
            Self::Frozen { wall_us, .. } => Reading::from_us(*wall_us),
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
    fn a_frozen_clock_moves_only_when_it_is_set() {
        let mut clock = EngineClock::frozen(1_500);
        assert_eq!((clock.wall().ms(), clock.monotonic_ms()), (1, 0));
        clock.advance(2_500);
        assert_eq!((clock.wall().ms(), clock.monotonic_ms()), (4, 2));
        clock.advance(-3_000);
        assert_eq!((clock.wall().ms(), clock.monotonic_ms()), (1, 2));
        clock.set(-1);
        assert_eq!(clock.wall().ms(), -1, "before 1970 a tick is rounded down");
        assert!(clock.stands_still());
    }

    #[test]
    fn the_system_clock_returns_the_time_of_the_machine() {
        use std::time::{SystemTime, UNIX_EPOCH};
        let expected = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!((expected..expected + 60_000).contains(&system().ms()));
        assert!((expected / 1000..expected / 1000 + 60).contains(&system().seconds()));
        let earlier = EngineClock::System.monotonic_ms();
        assert!(EngineClock::System.monotonic_ms() >= earlier);
    }
}
