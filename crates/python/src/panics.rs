//! Panics: a mistake in the Rust code becomes an exception that `except Exception` sees.
//!
//! pyo3 would raise its `PanicException`, which derives from `BaseException` alone: it passes the handlers that keep a
//! server or a batch running.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::errors::internal;

/// Runs the work of a call from Python; a panic becomes `InternalError`.
pub fn caught<T>(py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // Nothing that a panic interrupts is used again: values, items and requests are built anew by each call, and locks
    // that are shared between calls are never held while Python code runs.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(internal(py, &message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
