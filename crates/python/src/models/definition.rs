//! The definition of a model: its attributes, and its keys, indexes and unique values by their names.

use mintkey_store::unique::{Discriminator, Prefix, Scope};
use mintkey_store::{Index, KeyAttribute, KeyKind, Labels, Name, Projection, Unique};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::models::fields::Field;
use crate::values::convert::Kind;

/// `(name, stored name, kind, required, (encode, decode) or None, key kind or None, (fitted, merged) or None)`.
pub(super) type FieldSpec<'py> = (
    Bound<'py, PyString>,
    String,
    String,
    bool,
    Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    Option<String>,
    Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
);

/// `(name, partition attributes, sort attribute or None, projected attributes or None for all, local)`.
pub(super) type IndexSpec = (
    String,
    Vec<String>,
    Option<String>,
    Option<Vec<String>>,
    bool,
);

/// `(name, stored names of the attributes, [(stored name, text, whether it is the whole text)], (stored name of the
/// discriminator, values, whether rows without a value belong to the class) or None)`.
pub(super) type UniqueSpec = (
    String,
    Vec<String>,
    Vec<(String, String, bool)>,
    Option<(String, Vec<String>, bool)>,
);

/// The attributes of a model.
pub(super) struct Definition<'a> {
    model: &'a str,
    pub fields: Vec<Field>,
    /// The kind of key that each attribute can be; `None` if it cannot be one.
    key_kinds: Vec<Option<KeyKind>>,
}

impl<'a> Definition<'a> {
    pub fn new(model: &'a str, specs: Vec<FieldSpec<'_>>) -> PyResult<Self> {
        let mut fields = Vec::with_capacity(specs.len());
        let mut key_kinds = Vec::with_capacity(specs.len());
        for (name, alias, kind, required, convert, key_kind, structure) in specs {
            key_kinds.push(key_kind.as_deref().map(key_kind_named).transpose()?);
            fields.push(Field {
                label: name.to_string(),
                name: name.unbind(),
                alias: alias.into(),
                kind: Kind::named(&kind)?,
                required,
                convert: convert.map(|(encode, decode)| (encode.unbind(), decode.unbind())),
                structure: structure.map(|(fitted, merged)| (fitted.unbind(), merged.unbind())),
            });
        }
        Ok(Self {
            model,
            fields,
            key_kinds,
        })
    }

    /// The index of an attribute.
    pub fn position(&self, name: &str) -> PyResult<usize> {
        let found = self.fields.iter().position(|field| field.label == name);
        found.ok_or_else(|| {
            PyValueError::new_err(format!("{} has no attribute {name:?}", self.model))
        })
    }

    pub fn stored_name(&self, name: &str) -> PyResult<Name> {
        Ok(self.fields[self.position(name)?].alias.clone())
    }

    /// An attribute as a part of a key.
    pub fn key(&self, name: &str) -> PyResult<KeyAttribute> {
        let position = self.position(name)?;
        let kind = self.key_kinds[position].ok_or_else(|| {
            let message = format!("{}.{name} cannot be part of a key", self.model);
            PyValueError::new_err(message)
        })?;
        Ok(KeyAttribute {
            name: self.fields[position].alias.clone(),
            kind,
        })
    }

    pub fn index(&self, (name, partition, sort, projected, local): IndexSpec) -> PyResult<Index> {
        let stored_names = |names: Vec<String>| {
            let names = names.iter().map(|name| self.stored_name(name));
            names.collect::<PyResult<_>>()
        };
        let projection = match projected {
            None => Projection::All,
            Some(names) if names.is_empty() => Projection::Keys,
            Some(names) => Projection::Attributes(stored_names(names)?),
        };
        let partition = partition.iter().map(|name| self.key(name));
        Ok(Index {
            name,
            partition: partition.collect::<PyResult<_>>()?,
            sort: sort.as_deref().map(|name| self.key(name)).transpose()?,
            projection,
            local,
        })
    }

    /// The names of the attributes that are stored under other names.
    pub fn labels(&self) -> Labels {
        let fields = self.fields.iter();
        let renamed = fields.filter(|field| *field.label != *field.alias);
        let pairs = renamed.map(|field| (field.alias.clone(), field.label.as_str().into()));
        Labels(pairs.collect())
    }
}

fn key_kind_named(name: &str) -> PyResult<KeyKind> {
    Ok(match name {
        "string" => KeyKind::String,
        "number" => KeyKind::Number,
        "binary" => KeyKind::Binary,
        other => {
            return Err(PyValueError::new_err(format!(
                "there is no kind of key named {other:?}"
            )));
        }
    })
}

/// The declaration of unique values.
pub(super) fn unique_of((name, attributes, prefixes, discriminator): UniqueSpec) -> Unique {
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
