//! Errors of stores and of conversions as Python exceptions.

mod wording;

use mintkey_store::{Error, ErrorKind, Key, Outcome, Table, Violation};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::exception::class;
use crate::values::convert::from_value;
use crate::values::item::PyItem;

const fn class_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Configuration => "ConfigurationError",
        ErrorKind::InvalidValue => "InvalidValue",
        ErrorKind::InvalidCursor => "InvalidCursor",
        ErrorKind::ItemTooLarge => "ItemTooLarge",
        ErrorKind::ItemGone => "ItemGone",
        ErrorKind::TableMissing => "TableMissing",
        ErrorKind::ConditionFailed => "ConditionFailed",
        ErrorKind::KeyCollision => "KeyCollision",
        ErrorKind::UniqueViolation => "UniqueViolation",
        ErrorKind::VersionConflict => "VersionConflict",
        ErrorKind::TransactionCancelled => "TransactionCancelled",
        ErrorKind::Unavailable(_) | ErrorKind::Interrupted(_) => "StoreUnavailable",
        ErrorKind::Timeout(_) => "StoreTimeout",
        ErrorKind::Throttled => "Throttled",
        ErrorKind::Unsupported => "UnsupportedOperation",
    }
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Unknown => "unknown",
    }
}

/// The exception for an error outside an operation.
pub fn from_store(
    py: Python<'_>,
    error: Error,
    table: Option<&Table>,
    store: Option<&str>,
) -> PyErr {
    let text = wording::alone(&error);
    exception(py, &text, error, table, store)
}

/// The exception for an error of a store's operation.
pub fn of_operation(
    py: Python<'_>,
    error: Error,
    writes: bool,
    table: Option<&Table>,
    store: &str,
) -> PyErr {
    let text = wording::of_operation(&error, writes);
    exception(py, &text, error, table, Some(store))
}

/// The exception for an error of a request about no model, such as a ping, which writes nothing.
pub fn of_store(py: Python<'_>, error: Error, store: &str) -> PyErr {
    let text = wording::of_read(&error);
    exception(py, &text, error, None, Some(store))
}

fn exception(
    py: Python<'_>,
    text: &str,
    error: Error,
    table: Option<&Table>,
    store: Option<&str>,
) -> PyErr {
    let built = || -> PyResult<PyErr> {
        let data = PyDict::new(py);
        data.set_item("model", error.model.as_deref())?;
        data.set_item("attribute", error.attribute.as_deref())?;
        if let (Some(key), Some(table)) = (error.key.as_deref(), table) {
            data.set_item("key", labelled_key(py, key, table)?)?;
        }
        data.set_item("store", store)?;
        let exception = class(py, class_name(error.kind))?.call((text,), Some(&data))?;
        if let Some(outcome) = error.kind.outcome() {
            exception.setattr("outcome", outcome_name(outcome))?;
        }
        if let (Some(violations), Some(table)) = (&error.violations, table) {
            exception.setattr("_violations", violation_list(py, violations, table)?)?;
            if let [Violation { attributes, .. }, ..] = &**violations {
                let names = attributes.iter().map(|name| table.label(name));
                let names = names.collect::<Vec<_>>();
                match &*names {
                    [name] => exception.setattr("attribute", name)?,
                    names => exception.setattr("attribute", PyTuple::new(py, names)?)?,
                }
            }
        }
        if let Some(item) = error.item {
            exception.setattr("_stored", PyItem::from(*item))?;
        }
        let raised = PyErr::from_value(exception);
        if let Some(source) = error.source {
            raised.set_cause(
                py,
                Some(pyo3::exceptions::PyOSError::new_err(source.to_string())),
            );
        }
        Ok(raised)
    };
    built().unwrap_or_else(|failure| failure)
}

/// For each conflict of unique values the stored names, the stored values, and the keys of the rows that have them.
fn violation_list<'py>(
    py: Python<'py>,
    violations: &[Violation],
    table: &Table,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for violation in violations {
        let values = violation
            .values
            .iter()
            .map(|value| from_value(py, &value.to_value()))
            .collect::<PyResult<Vec<_>>>()?;
        let holders = violation
            .holders
            .iter()
            .map(|key| labelled_key(py, key, table))
            .collect::<PyResult<Vec<_>>>()?;
        let names = violation.attributes.iter().map(|name| &**name);
        list.append((
            PyTuple::new(py, names.collect::<Vec<_>>())?,
            PyTuple::new(py, values)?,
            holders,
        ))?;
    }
    Ok(list)
}

/// A key as a dict with the names of the class.
fn labelled_key<'py>(py: Python<'py>, key: &Key, table: &Table) -> PyResult<Bound<'py, PyDict>> {
    let sort = table.sort.as_ref().map(|sort| table.label(&sort.name));
    key_dict(py, key, table.label(&table.partition.name), sort)
}

/// A key as a dict of attribute names to values.
pub fn key_dict<'py>(
    py: Python<'py>,
    key: &Key,
    partition: &str,
    sort: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(partition, from_value(py, &key.partition.to_value())?)?;
    if let (Some(name), Some(value)) = (sort, &key.sort) {
        dict.set_item(name, from_value(py, &value.to_value())?)?;
    }
    Ok(dict)
}
