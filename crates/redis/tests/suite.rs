//! The tests of all stores, on a server.

mod server;

use std::sync::Arc;

use mintkey_store::Store;
use mintkey_store_testkit::{self as testkit, batches, catalog, items, queries, ranges};
use server::Fixture;

/// The store of one test.
struct Suite(Fixture);

impl testkit::Fixture for Suite {
    fn new() -> Self {
        Self(Fixture::new())
    }

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }
}

impl testkit::Reopen for Suite {
    fn reopen(&self) -> Arc<dyn Store> {
        self.0.reopen()
    }
}

fn main() {
    let mut tests = batches::all::<Suite>();
    tests.extend(catalog::all::<Suite>());
    tests.extend(items::all::<Suite>());
    tests.extend(queries::all::<Suite>());
    tests.extend(ranges::all::<Suite>());
    testkit::run(tests)
}
