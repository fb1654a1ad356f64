//! Reads: `reader` (one request), `rows` (items and pages), `select` (the statements), `queue` (submitted requests).

pub mod queue;
pub mod reader;
pub mod rows;
pub mod select;
