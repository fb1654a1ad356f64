//! Waits awake for a moment before it sleeps: a server nearby answers in less time than falling asleep
//! and waking up take.

use std::thread::yield_now;
use std::time::{Duration, Instant};

/// About what a sleep costs, with the way into it and out of it.
///
/// Who waits awake for that long and only then sleeps has waited at most twice as long as who knew the
/// future (Karlin, Li, Manasse, Owicki, "Empirical Studies of Competitive Spinning for a Shared-Memory
/// Multiprocessor", 1991).
const MOMENT: Duration = Duration::from_micros(50);

/// Where a moment is never enough, every 32nd wait still begins awake: the server may have come nearer.
const MOST: u32 = 31;

/// A neighbour with work without end keeps a processor that it is given for some milliseconds: not more moments than
/// these are held against it.
const LONGEST: u32 = 100;

/// Learns whether it is worth it.
#[derive(Debug, Default)]
pub struct Patience {
    /// How many waits are still to begin asleep.
    tired: u32,
    /// How many it was tired for after the last wait in vain.
    vain: u32,
}

impl Patience {
    /// Looks until something has come or the moment is over. Whoever else has work for this processor goes first.
    pub fn look_for<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.tired > 0 {
            self.tired -= 1;
            return None;
        }
        let begun = Instant::now();
        loop {
            yield_now();
            let found = look();
            if self.ends(found.is_some(), begun.elapsed()) {
                return found;
            }
        }
    }

    /// Whether a wait that has taken so long is over. What was found late would have been found sooner asleep: whoever
    /// sleeps goes first when it is woken, and whoever gave way has to wait until the other has done.
    fn ends(&mut self, found: bool, took: Duration) -> bool {
        if took >= MOMENT {
            let moments = u32::try_from(took.as_nanos() / MOMENT.as_nanos());
            self.vain = (2 * self.vain + 1).min(MOST);
            self.tired = self.vain * moments.unwrap_or(LONGEST).min(LONGEST);
        } else if found {
            self.vain = 0;
        }
        found || took >= MOMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many waits begin asleep before one looks again.
    fn naps(patience: &mut Patience) -> u32 {
        let mut naps = 0;
        while patience.tired > 0 {
            assert_eq!(patience.look_for(|| Some(())), None);
            naps += 1;
        }
        naps
    }

    #[test]
    fn it_finds_what_comes_while_it_looks() {
        let mut patience = Patience::default();
        let mut looks = 0..;
        let found = patience.look_for(|| looks.next().filter(|n| *n == 0));
        assert_eq!(found, Some(0));
        assert!(!patience.ends(false, MOMENT / 2));
        assert!(patience.ends(true, MOMENT / 2));
    }

    #[test]
    fn it_tires_of_looking_in_vain_and_never_gives_up() {
        let mut patience = Patience::default();
        let tired: Vec<u32> = (0..7)
            .map(|_| {
                assert!(patience.ends(false, MOMENT));
                naps(&mut patience)
            })
            .collect();
        assert_eq!(tired, [1, 3, 7, 15, 31, 31, 31]);
    }

    #[test]
    fn it_tires_the_longer_the_longer_others_keep_the_processor() {
        for (took, least, most) in [(4 * MOMENT, 4, 124), (4 * MOMENT * MOST, 100, 3100)] {
            let mut patience = Patience::default();
            assert!(patience.ends(true, took));
            assert_eq!(naps(&mut patience), least);
            for _ in 0..5 {
                assert!(patience.ends(true, took));
            }
            assert_eq!(naps(&mut patience), most);
        }
    }

    #[test]
    fn one_success_makes_up_for_it() {
        let mut patience = Patience::default();
        for _ in 0..3 {
            assert!(patience.ends(false, MOMENT));
        }
        naps(&mut patience);
        assert!(patience.ends(true, MOMENT / 2));
        assert!(patience.ends(false, MOMENT));
        assert_eq!(naps(&mut patience), 1);
    }
}
