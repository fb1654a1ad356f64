//! Reports for the log of the program.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;

use mintkey_store::{Notice, Severity};

/// The most reports that are kept. Further ones for debugging are dropped.
const MAX_NOTICES: usize = 100;
/// How often a lock is tried. It is held for a moment only, unless its thread was lost in a fork.
const TRIES: usize = 1000;

/// Reports of a store, kept until the binding asks for them after an answer.
#[derive(Debug, Default)]
pub struct Notices {
    /// Whether there may be one. This is quick to check.
    any: AtomicBool,
    queue: Mutex<VecDeque<Notice>>,
}

impl Notices {
    /// No reports.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            queue: Mutex::new(VecDeque::new()),
        }
    }

    /// Adds a report about a connection or an attempt. It must have no values and no passwords.
    pub fn debug(&self, text: impl Into<String>) {
        self.add(Severity::Debug, text.into());
    }

    /// Adds a report.
    pub fn add(&self, severity: Severity, text: String) {
        let Some(mut queue) = self.queue() else {
            return;
        };
        if severity != Severity::Debug || queue.len() < MAX_NOTICES {
            queue.push_back(Notice { severity, text });
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }

    /// Takes out the oldest report.
    #[must_use]
    pub fn take(&self) -> Option<Notice> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue()?;
        let oldest = queue.pop_front();
        self.any.store(!queue.is_empty(), Ordering::Release);
        oldest
    }

    fn queue(&self) -> Option<MutexGuard<'_, VecDeque<Notice>>> {
        (0..TRIES).find_map(|_| match self.queue.try_lock() {
            Ok(queue) => Some(queue),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                thread::yield_now();
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_taken_once_and_in_order() {
        let notices = Notices::new();
        assert_eq!(notices.take(), None);
        notices.debug("connected");
        notices.add(Severity::Warning, "evicts".to_owned());
        let taken: Vec<Notice> = std::iter::from_fn(|| notices.take()).collect();
        let texts: Vec<&str> = taken.iter().map(|notice| notice.text.as_str()).collect();
        assert_eq!(texts, ["connected", "evicts"]);
        assert!(notices.is_empty());
    }

    #[test]
    fn reports_for_debugging_are_bounded_and_others_are_kept() {
        let notices = Notices::new();
        for _ in 0..2 * MAX_NOTICES {
            notices.debug("connected");
        }
        notices.add(Severity::Error, "lost".to_owned());
        let taken: Vec<Notice> = std::iter::from_fn(|| notices.take()).collect();
        assert_eq!(taken.len(), MAX_NOTICES + 1);
        assert_eq!(taken[MAX_NOTICES].severity, Severity::Error);
    }

    #[test]
    fn a_lock_that_is_never_released_keeps_nobody_waiting() {
        let notices = Notices::new();
        notices.debug("connected");
        let _held = notices.queue();
        notices.debug("connected");
        assert_eq!(notices.take(), None);
    }
}
