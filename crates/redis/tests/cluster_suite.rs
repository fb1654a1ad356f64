//! The contract of all stores, on a Cluster.

mod cluster_servers;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use cluster_servers::Fixture;
