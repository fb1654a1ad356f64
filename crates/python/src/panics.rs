//! A panic of the Rust code becomes an exception that `except Exception` catches.
//!
//! pyo3 would raise its `PanicException`, which derives from `BaseException`: handlers that keep a server or a batch
//! running do not catch it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::exception::exception;

/// Runs the work of a call from Python; a panic becomes `InternalError`.
pub fn caught<T>(py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // Nothing that a panic interrupts is used again: each call builds its own values, items and requests, and locks
    // that are shared between calls are never held while Python code runs.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = message(&*panic);
        let message = format!("mintkey failed unexpectedly ({what}): please report it");
        Err(exception(py, "InternalError", &message))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
