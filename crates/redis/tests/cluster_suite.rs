//! What every store must do, on a Cluster.

mod cluster_servers;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use cluster_servers::Fixture;
