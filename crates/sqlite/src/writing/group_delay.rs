//! How long the writing thread waits for more submitted writes: tasks that save at the same time then share one commit.

use std::time::Duration;

use crate::writing::queue::GROUP;

/// The time between two checks.
pub const INTERVAL: Duration = Duration::from_micros(100);
/// The most checks before a commit.
pub const CHECKS: usize = 20;
/// How many checks in a row must find no new write. One is enough when as many wait as the last commit carried; fewer
/// may only mean that the other tasks had no processor so far.
const QUIET: usize = 1;
const QUIET_IF_FEWER: usize = 4;

/// The writes that wait, as one check after the other finds them.
#[derive(Default)]
pub struct GroupDelay {
    found: usize,
    quiet: usize,
}

impl GroupDelay {
    /// Whether no further write is expected, when so many wait and the last commit carried so many.
    pub const fn is_over(&mut self, waiting: usize, before: usize) -> bool {
        if waiting >= GROUP {
            return true;
        }
        if waiting != self.found {
            self.found = waiting;
            self.quiet = 0;
            return false;
        }
        self.quiet += 1;
        // A single write after a group is more likely to be alone than to be the first of another group.
        let needed = if waiting > 1 && waiting < before {
            QUIET_IF_FEWER
        } else {
            QUIET
        };
        self.quiet >= needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(waiting: &[usize], before: usize) -> Vec<bool> {
        let mut delay = GroupDelay::default();
        let check = |waiting: &usize| delay.is_over(*waiting, before);
        waiting.iter().map(check).collect()
    }

    #[test]
    fn a_group_is_complete_when_no_new_write_comes() {
        assert_eq!(checks(&[2, 30, 64, 64], 64), [false, false, false, true]);
        assert_eq!(checks(&[70, 70], 64), [false, true]);
        assert_eq!(checks(&[GROUP], 0), [true]);
    }

    #[test]
    fn a_smaller_group_than_the_last_is_given_more_time() {
        assert_eq!(
            checks(&[9, 9, 9, 40, 40, 40, 64, 64], 64),
            [false, false, false, false, false, false, false, true]
        );
        assert_eq!(checks(&[9; 5], 64), [false, false, false, false, true]);
    }

    #[test]
    fn a_single_write_waits_for_one_check_at_most() {
        assert_eq!(checks(&[1, 1], 64), [false, true]);
        assert_eq!(checks(&[1, 1], 1), [false, true]);
    }
}
