//! Locks of an open file description. They also count between connections of one process, unlike the locks that
//! `SQLite` takes. Where the system or the file system has no such locks, a lost log is only detected.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::{is_free, release, share};
#[cfg(not(target_os = "linux"))]
pub use other::{is_free, release, share};

/// The bytes of the database file that every connection locks shared, and that `SQLite` locks exclusively to remove the
/// log.
pub const CONNECTED: (i64, i64) = (0x4000_0002, 510);
/// The byte of the log's index that every connection locks shared. A connection that finds it unlocked empties the
/// index.
pub const INDEX_OPEN: (i64, i64) = (128, 1);
