//! How tables are stored: the names of keys, the fields of rows, the members of sorted sets, and the calls on them.

pub mod commands;
pub mod layout;
pub mod layout_cache;
pub mod projection;
pub mod ranges;
pub mod rows;
pub mod transactions;
pub mod unique;
