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
            if let Some(found) = look() {
                self.vain = 0;
                return Some(found);
            }
            if begun.elapsed() >= MOMENT {
                self.vain = (2 * self.vain + 1).min(MOST);
                self.tired = self.vain;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many waits begin asleep before one looks again.
    fn nap(patience: &mut Patience) -> u32 {
        let mut naps = 0;
        let mut looked = false;
        loop {
            patience.look_for(|| -> Option<()> {
                looked = true;
                None
            });
            if looked {
                return naps;
            }
            naps += 1;
        }
    }

    #[test]
    fn it_finds_what_comes_while_it_looks() {
        let mut patience = Patience::default();
        let mut looks = 0..;
        assert_eq!(
            patience.look_for(|| looks.next().filter(|n| *n == 3)),
            Some(3)
        );
    }

    #[test]
    fn it_tires_of_looking_in_vain_and_never_gives_up() {
        let mut patience = Patience::default();
        let naps: Vec<u32> = (0..8).map(|_| nap(&mut patience)).collect();
        assert_eq!(naps, [0, 1, 3, 7, 15, 31, 31, 31]);
    }

    #[test]
    fn one_success_makes_up_for_it() {
        let mut patience = Patience::default();
        assert_eq!((nap(&mut patience), nap(&mut patience)), (0, 1));
        while patience.look_for(|| Some(())).is_none() {}
        assert_eq!((nap(&mut patience), nap(&mut patience)), (0, 1));
    }
}
