//! The tests of all stores, in a file.

mod common;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use common::Fixture;
