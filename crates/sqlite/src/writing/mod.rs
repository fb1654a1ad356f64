//! Writes: who leads, and what a transaction does.

pub mod entry;
pub mod queue;
mod transaction;
