//! Locks of an open file description. They also count between connections of one process, unlike the locks that `SQLite`
//! takes. Where the system or the file system has no such locks, a lost log is only detected.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::{is_free, release, share};
#[cfg(not(target_os = "linux"))]
pub use other::{is_free, release, share};

/// Bytes of the database file: every connection shares a lock of them, and the connection that removes the log locks
/// them exclusively.
pub const CONNECTED: (i64, i64) = (0x4000_0002, 510);
/// A byte of the log's index: everybody who has the index open shares a lock of it; a connection that finds it free
/// empties the index.
pub const INDEX_OPEN: (i64, i64) = (128, 1);
