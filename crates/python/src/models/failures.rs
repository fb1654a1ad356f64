//! The exceptions of a codec. Each names the model, and the attribute and the key if they are known.

use std::sync::Arc;

use mintkey_store::Item;
use mintkey_store::error::shortened;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::from_store;
use crate::exception::class;
use crate::models::codec::Codec;
use crate::models::fields::Field;
use crate::values::convert::raised_by_signal_handler;
use crate::values::item::{PyItem, PyKey};

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
        from_store(py, error, self.table.as_deref(), None)
    }

    /// The exception for a value of an attribute that cannot be stored.
    pub(super) fn invalid(&self, py: Python<'_>, field: &Field, reason: &str) -> PyErr {
        self.invalid_at(py, &field.label, reason)
    }

    /// The same for an attribute of this name.
    pub(super) fn invalid_at(&self, py: Python<'_>, attribute: &str, reason: &str) -> PyErr {
        let mut error =
            mintkey_store::Error::invalid(format!("{}.{attribute}: {reason}", self.model));
        error.model = Some(self.model.as_str().into());
        error.attribute = Some(attribute.into());
        from_store(py, error, self.table.as_deref(), None)
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
        if !error.is_instance_of::<PyException>(py) {
            return error;
        }
        // What a signal handler raises while a value is decoded says nothing about the value.
        match raised_by_signal_handler(&error, py) {
            Ok(None) => {}
            Ok(Some(interrupt)) | Err(interrupt) => return interrupt,
        }
        let built = || -> PyResult<PyErr> {
            let shown: String = py
                .import("mintkey.errors")?
                .call_method1("shortened", (stored,))
                .and_then(|text| text.extract())?;
            let key = self.table.as_ref().map(|table| table.key_of(item));
            let key = key.and_then(Result::ok);
            let place = key
                .as_ref()
                .map_or_else(String::new, |key| format!(" {key}"));
            let why = error.value(py).to_string();
            let message = format!(
                "{}{place}: {0}.{}: the stored value {shown} cannot be read: {}",
                self.model,
                field.label,
                shortened(&why)
            );
            let data = PyDict::new(py);
            data.set_item("model", &self.model)?;
            data.set_item("attribute", &field.label)?;
            data.set_item("item", PyItem::from(item.clone()).to_dict(py)?)?;
            if let Some(key) = key {
                let key = PyKey(Arc::new(key));
                data.set_item("key", self.key_dict(py, &key)?)?;
            }
            let raised = class(py, "UnreadableItem")?.call((message,), Some(&data))?;
            Ok(PyErr::from_value(raised))
        };
        let unreadable = built().unwrap_or_else(|failure| failure);
        unreadable.set_cause(py, Some(error));
        unreadable
    }

    pub(super) fn unknown(&self, name: &str) -> PyErr {
        PyTypeError::new_err(format!("{} has no attribute {name:?}", self.model))
    }
}
