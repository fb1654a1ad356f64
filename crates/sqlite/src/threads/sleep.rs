//! Sleeping.

use std::thread;
use std::time::Duration;

/// Sleeps, where nothing can wake this thread: until another process releases a lock, or until other threads finish.
#[allow(
    clippy::disallowed_methods,
    reason = "no clock of a test controls what is waited for here"
)]
pub fn sleep(time: Duration) {
    thread::sleep(time);
}
