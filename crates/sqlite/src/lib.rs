//! Placeholder of the workspace: filled by the first commits.
#![forbid(unsafe_code)]
