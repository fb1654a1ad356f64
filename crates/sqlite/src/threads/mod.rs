//! The threads of a process: what a fork waits for, and how long a call may wait.

pub mod deadline;
pub mod fork_gate;
