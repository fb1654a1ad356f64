//! What is stored: the names of keys, the encoding of rows, and the ranges of sorted sets.

pub mod commands;
pub mod layout;
pub mod layout_cache;
pub mod projection;
pub mod ranges;
pub mod rows;
