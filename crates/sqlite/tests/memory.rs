//! The tests of all stores, in memory, except those that need a second store at the same URL.

#[path = "../../store/tests/suite/batches.rs"]
mod batches;
#[path = "../../store/tests/suite/queries.rs"]
mod queries;
#[path = "../../store/tests/suite/ranges.rs"]
mod ranges;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;

use std::sync::Arc;

use mintkey_store::Store;

/// A store that ends with its last use.
struct Fixture {
    store: Arc<dyn Store>,
}

impl Fixture {
    fn new() -> Self {
        let store = mintkey_sqlite::open("sqlite://").unwrap();
        Self { store }
    }
}
