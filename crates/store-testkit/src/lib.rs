//! The tests of the contract of stores, and requests for other tests of stores.
//!
//! A store's own tests implement [`Fixture`], collect the tests of the modules that concern the store, and give them to
//! [`run`]. They have no harness of their own: `harness = false` in `Cargo.toml`.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "only tests use this crate"
)]

pub mod batches;
pub mod catalog;
mod fixture;
pub mod items;
pub mod queries;
pub mod ranges;
pub mod requests;

pub use fixture::{Fixture, Reopen};
pub use libtest_mimic::Trial;

/// Runs the tests that the arguments of the program select, and ends the program.
pub fn run(tests: Vec<Trial>) -> ! {
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), tests).exit()
}
