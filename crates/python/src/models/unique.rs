//! Unique values: their declarations, and reads by them.

use mintkey_store::unique::{Discriminator, MAX_VALUES, Prefix, Scope, encode};
use mintkey_store::{GetUnique, KeyValue, Name, Unique, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::models::codec::Codec;
use crate::models::fields::Selected;
use crate::values::convert::{Kind, to_stored};
use crate::values::refusal::Refusal;

/// `(name, stored names of the attributes, [(stored name, text, whether it is the whole text)], (stored name of the
/// discriminator, values, whether rows without a value belong to the class) or None)`.
pub(super) type UniqueSpec = (
    String,
    Vec<String>,
    Vec<(String, String, bool)>,
    Option<(String, Vec<String>, bool)>,
);

/// The declaration of unique values.
pub(super) fn declared((name, attributes, prefixes, discriminator): UniqueSpec) -> Unique {
    Unique {
        name,
        attributes: attributes.into_iter().map(Name::from).collect(),
        scope: Scope {
            prefixes: prefixes
                .into_iter()
                .map(|(attribute, text, whole)| Prefix {
                    attribute: attribute.into(),
                    text,
                    whole,
                })
                .collect(),
            discriminator: discriminator.map(|(attribute, values, or_absent)| Discriminator {
                attribute: attribute.into(),
                values,
                or_absent,
            }),
        },
    }
}

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
        match to_stored(Kind::Any, object) {
            Ok(Some(Value::String(text))) => Ok(KeyValue::String(text)),
            Ok(Some(Value::Number(number))) => Ok(KeyValue::Number(number)),
            Ok(Some(Value::Binary(bytes))) => Ok(KeyValue::Binary(bytes)),
            Ok(_) => Err(self.invalid_at(py, label, "a unique value is text, a number or bytes")),
            Err(Refusal::Reason(reason)) => Err(self.invalid_at(py, label, &reason)),
            Err(Refusal::Raised(error)) => Err(error),
        }
    }

    /// The name of the attribute with this stored name.
    fn label<'a>(&'a self, attribute: &'a Name) -> &'a str {
        let field = self.fields.iter().find(|field| field.alias == *attribute);
        field.map_or(attribute, |field| &field.label)
    }
}
