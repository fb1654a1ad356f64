//! Which process of a chain of forks this is.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often [`Generation::begin`] was called on the way from the first process to this one: at
/// each fork once for each Redis and DynamoDB store, and once for all SQLite stores.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The process that a value belongs to: a child of a fork inherits all values of its parent, and has another generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Generation(u64);

impl Generation {
    /// The generation of this process.
    #[must_use]
    pub fn current() -> Self {
        Self(FORKS.load(Ordering::SeqCst))
    }

    /// Whether this process is the one that the value belongs to.
    #[must_use]
    pub fn is_current(self) -> bool {
        self == Self::current()
    }

    /// Begins the child's generation. Each store calls it in the child of a fork before anything else.
    pub fn begin() {
        FORKS.fetch_add(1, Ordering::SeqCst);
    }
}
