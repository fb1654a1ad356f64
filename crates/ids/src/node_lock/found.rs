//! What the name of a lock file leads to.

use std::fs::File;

/// What is found under the name of a lock file.
pub(super) enum Found {
    File(File),
    /// What it is instead.
    Unusable(String),
    /// It was created or removed at the same time.
    Removed,
}
