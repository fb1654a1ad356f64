//! The exceptions of a codec. Each names the model, and the attribute and the key if they are known.

use mintkey_store::error::shortened;
use mintkey_store::{Item, Key};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors::from_store;
use crate::models::codec::Codec;
use crate::models::fields::Field;
use crate::values::refusal::Refusal;

impl Codec {
    /// The exception for a failure of the contract's own checks, which know the stored name of an attribute at most.
    pub(super) fn raise(&self, py: Python<'_>, mut error: mintkey_store::Error) -> PyErr {
        let attribute = error
            .attribute
            .as_ref()
            .and_then(|alias| self.fields.iter().find(|field| field.alias == *alias));
        let subject = attribute.map_or_else(
            || self.model.clone(),
            |field| format!("{}.{}", self.model, field.label),
        );
        error.message = format!("{subject}: {}", error.message);
        error.attribute = attribute
            .map(|field| field.label.as_str().into())
            .or(error.attribute);
        error.model = Some(self.model.as_str().into());
        from_store(py, error, self.key_names(), None)
    }

    /// The names of the key attributes.
    fn key_names(&self) -> Option<(&str, Option<&str>)> {
        let label = |index: Option<usize>| index.map(|index| self.fields[index].label.as_str());
        label(self.partition).map(|partition| (partition, label(self.sort)))
    }

    /// The exception for a value of an attribute that cannot be stored.
    pub(super) fn invalid(&self, py: Python<'_>, field: &Field, reason: &str) -> PyErr {
        self.invalid_at(py, &field.label, None, reason)
    }

    /// The same for an attribute of this name, in the item with this key if it is known.
    pub(super) fn invalid_at(
        &self,
        py: Python<'_>,
        attribute: &str,
        key: Option<&Key>,
        reason: &str,
    ) -> PyErr {
        let mut error =
            mintkey_store::Error::invalid(format!("{}.{attribute}: {reason}", self.model));
        if let Some(key) = key {
            error.message = format!("{} {key}: {}", self.model, error.message);
            error = error.at(key);
        }
        error.model = Some(self.model.as_str().into());
        error.attribute = Some(attribute.into());
        from_store(py, error, self.key_names(), None)
    }

    /// The exception for a stored value that its attribute cannot read.
    pub(super) fn unreadable(
        &self,
        py: Python<'_>,
        field: &Field,
        stored: &Bound<'_, PyAny>,
        error: PyErr,
        item: &Item,
    ) -> PyErr {
        let key = self
            .table
            .as_ref()
            .and_then(|table| table.key_of(item).ok());
        let shown = py
            .import("mintkey.errors")
            .and_then(|errors| errors.call_method1("shortened", (stored,)))
            .and_then(|text| text.extract::<String>())
            .unwrap_or_default();
        let why = error.value(py).to_string();
        let reason = format!(
            "the stored value {shown} cannot be read: {}",
            shortened(&why)
        );
        let unreadable = self.invalid_at(py, &field.label, key.as_ref(), &reason);
        unreadable.set_cause(py, Some(error));
        unreadable
    }

    pub(super) fn refused(&self, py: Python<'_>, refusal: Refusal) -> PyErr {
        match refusal {
            Refusal::Reason(reason) => self.raise(py, mintkey_store::Error::invalid(reason)),
            Refusal::Raised(error) => error,
        }
    }

    pub(super) fn unknown(&self, name: &str) -> PyErr {
        PyTypeError::new_err(format!("{} has no attribute {name:?}", self.model))
    }
}
