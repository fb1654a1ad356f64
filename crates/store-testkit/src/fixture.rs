//! The store that a test gets.

use std::sync::Arc;

use mintkey_store::Store;

/// A store of its own for each test.
pub trait Fixture {
    /// An empty store.
    fn new() -> Self;

    /// The store.
    fn store(&self) -> &dyn Store;
}

/// A fixture whose data another store can open, too.
pub trait Reopen: Fixture {
    /// Another store at the same address.
    fn reopen(&self) -> Arc<dyn Store>;
}

/// Runs a test on a fresh store.
pub(crate) fn fresh<F: Fixture>(test: impl Fn(&dyn Store)) {
    let fixture = F::new();
    test(fixture.store());
}

/// Makes trials of generic functions: the name of the module and of the function is the name of the test.
macro_rules! tests {
    ($fixture:ident: $($name:ident),*) => {
        vec![$(
            Trial::test(
                concat!(module_path!(), "::", stringify!($name)).replace("mintkey_store_testkit::", ""),
                || {
                    $name::<$fixture>();
                    Ok(())
                },
            )
        ),*]
    };
}
pub(crate) use tests;
