//! Database files, the connections to them, and what a fork does to both.

pub mod connection;
pub mod file_guard;
pub mod fork_registry;
pub mod guarded_file;
mod location;
pub mod notices;
mod ofd_lock;
pub mod pool;
