//! The binding: the only crate that knows Python. It converts values, drives the stores and maps errors.
//!
//! It is also the only crate with unsafe code: handlers of `fork`, a file descriptor, and the strings of new ids.

mod begun;
mod codec;
mod compress;
mod condition;
mod convert;
mod elements;
mod errors;
mod fork;
mod ids;
mod item;
mod mailbox;
mod panics;
mod plain_save;
mod request;
mod signals;
mod store;
mod wording;

use pyo3::prelude::*;

/// The compiled half of `mintkey`.
#[pymodule(gil_used = false)]
mod _core {
    use super::{Bound, PyAny, PyModule, PyResult, convert, errors, panics};
    use mintkey_store::error::shortened;
    use pyo3::pyfunction;

    #[pymodule_export]
    const MAX_CONDITION_LEVELS: usize = mintkey_store::condition::MAX_LEVELS;
    #[pymodule_export]
    const MAX_VALUE_LEVELS: usize = mintkey_store::size::MAX_DEPTH;
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    use super::begun::Begun;
    #[pymodule_export]
    use super::codec::Codec;
    #[pymodule_export]
    use super::compress::{compress, decompress, decompressed};
    #[pymodule_export]
    use super::ids::{
        PyStrategy, bounds, candidates, freeze, from_bytes, mint, mint_many, mint_one, move_clock,
        now_ms, parse, reseed, thaw,
    };
    #[pymodule_export]
    use super::item::{PyItem, PyKey};
    #[pymodule_export]
    use super::mailbox::{Flight, running_loop};
    #[pymodule_export]
    use super::plain_save::PlainSave;
    #[pymodule_export]
    use super::request::{PyPage, PyRequest};
    #[pymodule_export]
    use super::signals::{after_fork, before_fork};
    #[pymodule_export]
    use super::store::{Store, drive};

    /// `value` as an attribute of this kind stores it, detached from the caller's objects; else `InvalidValue` that names
    /// `label` (`"Model.attribute"`).
    #[pyfunction]
    fn checked<'py>(
        kind: &str,
        label: &str,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let kind = convert::Kind::named(kind)?;
        let refuse = |reason: &str| errors::of_label(py, label, reason);
        panics::caught(py, || match convert::to_stored(kind, &value) {
            // What another could change meanwhile is copied.
            Ok(Some(stored)) if !convert::is_plain(&value)? => {
                convert::from_stored(py, kind, &stored)
            }
            Ok(_) => Ok(value),
            Err(convert::Refusal::Reason(reason)) => Err(refuse(&reason)),
            Err(convert::Refusal::Raised(error)) if convert::refuses(&error, py) => {
                let told = refuse(&shortened(&error.value(py).to_string()));
                told.set_cause(py, Some(error));
                Err(told)
            }
            Err(convert::Refusal::Raised(error)) => Err(error),
        })
    }

    /// The canonical digits of a number.
    #[pyfunction]
    fn number_text(value: &Bound<'_, PyAny>) -> PyResult<String> {
        match convert::to_stored(convert::Kind::Number, value) {
            Ok(Some(mintkey_store::Value::Number(number))) => Ok(number.to_string()),
            Ok(_) => Ok(String::new()),
            Err(refusal) => Err(convert::plain_error(refusal)),
        }
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::fork::register();
        super::ids::register(module)
    }
}
