//! Unique values: no two rows of a scope have the same.
//!
//! A store lists [`all`], or the parts that it supports. In [`catalog`], writers follow the stored declarations.

pub mod batches;
pub mod catalog;
pub mod concurrency;
pub mod expiry;
pub mod people;
pub mod tables;
pub mod transactions;
pub mod values;
pub mod writes;

use crate::fixture::Reopen;
use libtest_mimic::Trial;

/// The tests of all files in this folder.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    let mut tests = writes::all::<F>();
    tests.extend(values::all::<F>());
    tests.extend(expiry::all::<F>());
    tests.extend(batches::all::<F>());
    tests.extend(transactions::all::<F>());
    tests.extend(tables::all::<F>());
    tests.extend(catalog::all::<F>());
    tests.extend(concurrency::all::<F>());
    tests
}
