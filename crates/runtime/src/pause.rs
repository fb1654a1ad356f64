//! Sleeping between two checks of a condition that sends no signal.

use std::time::Duration;

/// Sleeps for a short time before the caller checks a condition again. It is for conditions that send no signal: a lock of
/// another process, the start of a server, the end of a thread.
#[allow(
    clippy::disallowed_methods,
    reason = "the condition does not depend on a clock that a test can replace"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
