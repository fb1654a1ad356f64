//! The binding: the only crate that knows Python. It converts values, drives the stores and maps errors.

use pyo3::prelude::*;

/// The compiled half of `mintkey`.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
