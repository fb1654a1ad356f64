//! What every store must do, on a Cluster.

mod members;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use members::Fixture;
