//! What is stored: the names of keys, the encoding of rows, and the ranges of sorted sets.

pub mod layout;
pub mod projection;
pub mod ranges;
pub mod rows;
