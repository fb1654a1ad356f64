//! What all threads of a store need: deadlines, and locks that a fork cannot leave locked.

pub mod deadline;
pub mod fork_gate;
