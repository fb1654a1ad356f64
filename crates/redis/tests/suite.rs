//! The tests of all stores, on a server.

mod server;

use std::sync::Arc;

use mintkey_store::Store;
use mintkey_store_testkit as testkit;
use server::Fixture;

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
    tests.extend(testkit::catalog::all::<Fixture>());
    tests.extend(testkit::unique::all::<Fixture>());
    testkit::run(tests)
}
