//! The tests of all stores, in memory, except those that need a second store at the same URL.

use std::sync::Arc;

use mintkey_store::Store;
use mintkey_store_testkit::{self as testkit, batches, queries, ranges, unique};

/// A store that ends with its last use.
struct Memory(Arc<dyn Store>);

impl testkit::Fixture for Memory {
    fn new() -> Self {
        Self(mintkey_sqlite::open("sqlite://").unwrap())
    }

    fn store(&self) -> &dyn Store {
        &*self.0
    }
}

fn main() {
    let mut tests = batches::all::<Memory>();
    tests.extend(queries::all::<Memory>());
    tests.extend(ranges::all::<Memory>());
    tests.extend(unique::values::all::<Memory>());
    tests.extend(unique::expiry::all::<Memory>());
    tests.extend(unique::batches::all::<Memory>());
    tests.extend(unique::transactions::all::<Memory>());
    tests.extend(unique::tables::all::<Memory>());
    testkit::run(tests)
}
