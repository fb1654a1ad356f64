//! The tests of all stores, on `DynamoDB`; without those of catalogs, which are the descriptions of tables here.

mod common;

use std::sync::Arc;

use common::Fixture;
use mintkey_store::Store;
use mintkey_store_testkit as testkit;

impl testkit::Fixture for Fixture {
    fn new() -> Self {
        Self::new()
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}

impl testkit::Reopen for Fixture {
    fn reopen(&self) -> Arc<dyn Store> {
        self.reopen()
    }
}

fn main() {
    let mut tests = testkit::contract::<Fixture>();
    // Classes without unique values do not follow the catalog here: `unique::catalog` is for the other stores.
    tests.extend(testkit::unique::writes::all::<Fixture>());
    tests.extend(testkit::unique::values::all::<Fixture>());
    tests.extend(testkit::unique::expiry::all::<Fixture>());
    tests.extend(testkit::unique::batches::all::<Fixture>());
    tests.extend(testkit::unique::transactions::all::<Fixture>());
    tests.extend(testkit::unique::tables::all::<Fixture>());
    tests.extend(testkit::unique::concurrency::all::<Fixture>());
    testkit::run(tests)
}
