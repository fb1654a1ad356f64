//! Threads: those of a store, the time they may wait, and the gate that a fork closes.

pub mod deadline;
pub mod fork_gate;
pub mod sleep;
pub mod worker;
