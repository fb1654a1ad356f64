//! The binding to Python: converts values, drives the stores and raises exceptions.
//!
//! Only this crate contains unsafe code: handlers of `fork`, a file descriptor, the strings of new ids, and the base type of
//! models.

mod errors;
mod exception;
mod ids;
mod models;
mod panics;
mod store;
mod values;

use pyo3::prelude::*;

/// The compiled half of `mintkey`.
#[pymodule(gil_used = false)]
mod _core {
    use super::values::convert;
    use super::values::unstorable::Unstorable;
    use super::{Bound, PyAny, PyModule, PyResult, exception, panics};
    use mintkey_store::error::shortened;
    use mintkey_store::key::{KeyKind, KeyValue};
    use mintkey_store::size::check_value;
    use mintkey_store::value::Value;
    use pyo3::pyfunction;

    #[pymodule_export]
    const MAX_INDEXED: usize = mintkey_store::key::MAX_PARTITION;
    #[pymodule_export]
    const MAX_VALUE_LEVELS: usize = mintkey_store::size::MAX_DEPTH;
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    use super::ids::{
        PyStrategy, bounds, candidates, freeze, from_bytes, mint, mint_many, mint_one, move_clock,
        now_ms, parse, reseed, thaw,
    };
    #[pymodule_export]
    use super::models::{Codec, NewSave};
    #[pymodule_export]
    use super::store::{
        InFlightRequest, PyPage, PyRequest, Store, after_fork, before_fork, drive, running_loop,
    };
    #[pymodule_export]
    use super::values::action::PyAction;
    #[pymodule_export]
    use super::values::compress::{compress, decompress, decompressed};
    #[pymodule_export]
    use super::values::condition::PyCondition;
    #[pymodule_export]
    use super::values::digest::digest;
    #[pymodule_export]
    use super::values::item::{PyItem, PyKey};

    /// `value` as an attribute of this kind stores it, detached from the caller's objects; else `InvalidValue` that names
    /// `label` (`"Model.attribute"`), if there is one. With a `part` (`"partition"` or `"sort"`) it must fit into this part
    /// of a key.
    #[pyfunction]
    #[pyo3(signature = (kind, label, value, part=None))]
    fn checked<'py>(
        kind: &str,
        label: Option<&str>,
        value: Bound<'py, PyAny>,
        part: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let kind = convert::Kind::named(kind)?;
        let refuse = |reason: &str| match label {
            Some(label) => exception::invalid_at_label(py, label, reason),
            None => exception::exception(py, "InvalidValue", reason),
        };
        panics::caught(py, || match convert::to_stored(kind, &value) {
            Ok(Some(stored)) => {
                let checked = if part.is_some() {
                    check_part(part, &stored)
                } else {
                    check_value(&stored)
                };
                checked.map_err(|error| refuse(&error.message))?;
                // A value that other code could change is copied.
                if part.is_some() || convert::is_plain(&value)? {
                    Ok(value)
                } else {
                    convert::from_stored(py, kind, &stored)
                }
            }
            Ok(None) => Ok(value),
            Err(Unstorable::Reason(reason)) => Err(refuse(&reason)),
            Err(Unstorable::Raised(error)) if convert::refuses(&error, py) => {
                let refused = refuse(&shortened(&error.value(py).to_string()));
                refused.set_cause(py, Some(error));
                Err(refused)
            }
            Err(Unstorable::Raised(error)) => Err(error),
        })
    }

    /// Checks a value as a part of a key. What a key cannot have at all, other checks refuse.
    fn check_part(part: Option<&str>, stored: &Value) -> mintkey_store::error::Result<()> {
        let kinds = [KeyKind::String, KeyKind::Number, KeyKind::Binary];
        match kinds
            .into_iter()
            .find_map(|kind| KeyValue::from_value(stored, kind))
        {
            Some(value) if part == Some("sort") => value.check_sort(),
            Some(value) => value.check_partition(),
            None => Ok(()),
        }
    }

    /// A plain value as it is read after it was stored; else `InvalidValue` without a label.
    #[pyfunction]
    fn as_read<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        match convert::to_value(value, 1) {
            Ok(stored) => convert::from_value(py, &stored),
            Err(Unstorable::Reason(reason)) => {
                Err(exception::exception(py, "InvalidValue", &reason))
            }
            Err(Unstorable::Raised(error)) => Err(error),
        }
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
        super::store::register();
        super::models::register(module)?;
        super::ids::register(module)
    }
}
