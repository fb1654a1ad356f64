//! Reads: the statements, and the rows that they return.

pub mod rows;
pub mod select;
