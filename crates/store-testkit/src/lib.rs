//! The tests of the contract of stores, and requests for other tests of stores.
//!
//! A store's own tests implement [`Fixture`] and [`Reopen`], and give [`contract`] to [`run`], with [`catalog::all`] if the
//! store keeps the descriptions of its tables, and [`unique::all`] if it supports unique values. They have no harness of their own: `harness = false` in `Cargo.toml`.

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
pub mod scans;
pub mod server;
pub mod tables;
pub mod transactions;
pub mod transfers;
pub mod unique;

pub use fixture::{Fixture, Reopen};
pub use libtest_mimic::Trial;

/// The tests that every store passes.
pub fn contract<F: Reopen + 'static>() -> Vec<Trial> {
    let mut tests = batches::all::<F>();
    tests.extend(items::all::<F>());
    tests.extend(queries::all::<F>());
    tests.extend(ranges::all::<F>());
    tests.extend(scans::all::<F>());
    tests.extend(tables::all::<F>());
    tests.extend(transactions::all::<F>());
    tests.extend(transfers::all::<F>());
    tests
}

/// Runs the tests that the arguments of the program select, and ends the program.
pub fn run(tests: Vec<Trial>) -> ! {
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), tests).exit()
}

/// The same, on this number of threads, unless the arguments name another one.
pub fn run_on(tests: Vec<Trial>, threads: usize) -> ! {
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    libtest_mimic::run(&arguments, tests).exit()
}
