//! Reads by unique values.

use mintkey_store::unique::{MAX_VALUES, encode};
use mintkey_store::{GetUnique, KeyValue, Name, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::models::codec::Codec;
use crate::models::fields::Selected;
use crate::values::convert::{Kind, to_stored};

impl Codec {
    /// The read of the item with these encoded values.
    pub(super) fn unique_read(
        &self,
        py: Python<'_>,
        name: &str,
        values: &[Bound<'_, PyAny>],
        attributes: Option<Vec<Selected>>,
    ) -> PyResult<GetUnique> {
        let table = self.table(py)?;
        let unique = table.unique(name).ok_or_else(|| {
            PyValueError::new_err(format!("{} has no unique values {name:?}", self.model))
        })?;
        let stored = unique.attributes.iter().zip(values);
        let values = stored
            .map(|(attribute, object)| self.unique_value(attribute, object))
            .collect::<PyResult<Vec<_>>>()?;
        let length = encode(&values).len();
        if length > MAX_VALUES {
            let label = self.label(&unique.attributes[0]);
            let reason = format!(
                "unique values of {length} bytes are too long: at most {MAX_VALUES} are allowed"
            );
            return Err(self.invalid_at(py, label, &reason));
        }
        Ok(GetUnique {
            table: table.clone(),
            unique: unique.name.clone(),
            values,
            attributes: self.selected(attributes)?,
        })
    }

    fn unique_value(&self, attribute: &Name, object: &Bound<'_, PyAny>) -> PyResult<KeyValue> {
        let py = object.py();
        let label = self.label(attribute);
        match self.labelled(py, label, to_stored(Kind::Any, object))? {
            Some(Value::String(text)) => Ok(KeyValue::String(text)),
            Some(Value::Number(number)) => Ok(KeyValue::Number(number)),
            Some(Value::Binary(bytes)) => Ok(KeyValue::Binary(bytes)),
            _ => Err(self.invalid_at(py, label, "a unique value is text, a number or bytes")),
        }
    }

    /// The name of the attribute with this stored name.
    fn label<'a>(&'a self, attribute: &'a Name) -> &'a str {
        let field = self.fields.iter().find(|field| field.alias == *attribute);
        field.map_or(attribute, |field| &field.label)
    }
}
