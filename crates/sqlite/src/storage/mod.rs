//! Database files, the connections to them, and what a fork does to both.

pub mod connection;
pub mod deadline_slot;
pub mod file_guard;
pub mod fork_gate;
pub mod fork_registry;
pub mod guarded_file;
mod location;
pub mod notices;
mod ofd_lock;
pub mod pool;
