//! What each operation of the contract does: calls, and what their answers mean.

pub mod batch;
pub mod read;
pub mod tables;
pub mod write;
