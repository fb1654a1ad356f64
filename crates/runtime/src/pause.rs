//! Sleeping where nothing can wake the thread.

use std::time::Duration;

/// Sleeps for a short time, to look again afterwards. It is for what gives no signal: another
/// process's lock, a server that is starting, the end of a thread.
#[allow(
    clippy::disallowed_methods,
    reason = "what is waited for here happens outside, whatever a test's clock says"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
