//! Items and keys as Python objects: opaque, immutable, compared by their encoded values.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mintkey_store::{Item, Key, Value, json};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::exception::exception;
use crate::values::convert::{dict_of, from_value, plain_error, to_value};

/// An item.
#[pyclass(frozen, name = "Item", module = "mintkey._core")]
#[derive(Clone)]
pub struct PyItem(pub Arc<Item>);

impl From<Item> for PyItem {
    fn from(item: Item) -> Self {
        Self(Arc::new(item))
    }
}

#[pymethods]
impl PyItem {
    /// The stored JSON form read back. An error says what is wrong with the text.
    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        json::decode_line(text)
            .map(Self::from)
            .map_err(|error| exception(py, "InvalidValue", &error.message))
    }

    /// The item of plain values by stored name.
    #[staticmethod]
    fn from_dict(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        match to_value(values.as_any(), 0).map_err(plain_error)? {
            Value::Map(map) => Ok(Self::from(map)),
            _ => Ok(Self::from(Item::new())),
        }
    }

    /// The stored JSON form.
    fn to_json(&self) -> String {
        json::encode(&self.0)
    }

    /// The stored values by stored name.
    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict_of(py, &self.0)
    }

    /// The stored value under a stored name, or None.
    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .get(name)
            .map(|value| from_value(py, value))
            .transpose()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other
            .cast::<Self>()
            .is_ok_and(|other| self.0 == other.get().0)
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let text = PyString::new(slf.py(), &slf.get().to_json());
        Ok((
            slf.get_type().getattr("from_json")?,
            PyTuple::new(slf.py(), [text])?,
        ))
    }

    fn __repr__(&self) -> String {
        format!("Item({})", self.to_json())
    }
}

/// A key.
#[pyclass(frozen, name = "Key", module = "mintkey._core")]
#[derive(Clone)]
pub struct PyKey(pub Arc<Key>);

#[pymethods]
impl PyKey {
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other
            .cast::<Self>()
            .is_ok_and(|other| self.0 == other.get().0)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    /// As messages show it.
    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Key({})", self.0)
    }
}
