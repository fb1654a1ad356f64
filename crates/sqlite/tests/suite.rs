//! What every store must do, in a file.

mod common;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use common::Fixture;
