//! The contract of all stores, on a server.

mod server;
#[path = "../../store/tests/suite/mod.rs"]
mod suite;

use server::Fixture;
