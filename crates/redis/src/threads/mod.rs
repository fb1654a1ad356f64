//! Locks that a fork cannot leave locked.

pub mod fork_gate;
