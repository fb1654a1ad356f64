//! The saves of new instances in which nothing but the values has a say: minted, checked and written to a request in
//! one step, one instance or a whole chunk of a batch.
//!
//! What it does is what `operations.save` does for such an instance. As soon as anything goes wrong it hands the
//! instance back, with what was minted, to be dealt with there.

use std::sync::Arc;

use mintkey_ids::{Draft, Refusal};
use mintkey_store::{BatchWrite, Guard, Operation, Put, Row, Write};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::codec::Codec;
use crate::ids::{PyStrategy, step, tell_step_back};
use crate::item::PyItem;
use crate::panics::caught;
use crate::request::PyRequest;

/// An attribute that a save mints.
struct Mint {
    name: Py<PyString>,
    strategy: Py<PyStrategy>,
    /// What makes the attribute's value of the minted one, where that is not the value itself.
    convert: Option<Py<PyAny>>,
    /// A part of the key: a row that has it already must not be overwritten.
    is_key: bool,
    /// The key cannot be expected to be taken.
    wide: bool,
}

type MintSpec<'py> = (
    Bound<'py, PyString>,
    Bound<'py, PyStrategy>,
    Option<Bound<'py, PyAny>>,
    bool,
    bool,
);

/// Saves new instances of a model without hooks, version, compound key, checks of fields and callables that mint.
#[pyclass(frozen, module = "mintkey._core")]
pub struct PlainSave {
    codec: Py<Codec>,
    mints: Vec<Mint>,
    insert_only: bool,
    all_names: Py<PyTuple>,
}

/// What a try came to: a write or what went wrong, and the places of the attributes minted for it.
struct Prepared {
    put: PyResult<Put>,
    minted: Vec<usize>,
}

#[pymethods]
impl PlainSave {
    /// A mint is `(name, strategy, converter or None, whether it is part of the key, whether with 64 random bits)`.
    #[new]
    fn new(codec: Bound<'_, Codec>, mints: Vec<MintSpec<'_>>, insert_only: bool) -> PyResult<Self> {
        let all_names = PyTuple::new(codec.py(), mints.iter().map(|mint| &mint.0))?.unbind();
        let mints = mints
            .into_iter()
            .map(|(name, strategy, convert, is_key, wide)| Mint {
                name: name.unbind(),
                strategy: strategy.unbind(),
                convert: convert.map(Bound::unbind),
                is_key,
                wide,
            })
            .collect();
        Ok(Self {
            codec: codec.unbind(),
            mints,
            insert_only,
            all_names,
        })
    }

    /// Prepares one instance's values: the request, the item or what went wrong, and the names that were minted.
    #[pyo3(signature = (values, insert, /))]
    fn one<'py>(
        &self,
        values: &Bound<'py, PyDict>,
        insert: bool,
    ) -> PyResult<(Option<PyRequest>, Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = values.py();
        let Prepared { put, minted } = self.prepare(values, insert);
        let names = self.names(py, &minted)?;
        Ok(match put {
            Ok(put) => {
                let item = Bound::new(py, PyItem(put.item.clone()))?.into_any();
                (Some(PyRequest::now(Operation::Put(put))), item, names)
            }
            Err(error) => (None, error.into_value(py).into_bound(py).into_any(), names),
        })
    }

    /// Prepares a chunk of instances. `made` takes in their joined request (None when nothing came of any), for each the
    /// item or what went wrong, for each the names that were minted, and the interrupt that ended it early, if one did:
    /// it is the caller's, so that an interrupt on the way back loses nothing.
    /// It stays empty when one of them is not of this model, not new, there twice or among the `others`: then each needs
    /// a save of its own.
    #[pyo3(signature = (model, instances, others, made, /))]
    fn many<'py>(
        &self,
        model: &Bound<'py, PyType>,
        instances: &Bound<'py, PyList>,
        others: &Bound<'py, PyList>,
        made: &Bound<'py, PyList>,
    ) -> PyResult<()> {
        let py = model.py();
        let Some(all) = fresh(model, instances, others)? else {
            return Ok(());
        };
        let (items, names) = (PyList::empty(py), PyList::empty(py));
        let mut writes = Vec::with_capacity(all.len());
        let mut interrupt = None;
        for values in &all {
            let Prepared { put, minted } = self.prepare(values, false);
            names.append(self.names(py, &minted)?)?;
            match put {
                Ok(put) => {
                    items.append(PyItem(put.item.clone()))?;
                    writes.push(Write::Put(put));
                }
                Err(error) => {
                    items.append(error.value(py))?;
                    if !error.is_instance_of::<PyException>(py) {
                        interrupt = Some(error);
                        break;
                    }
                }
            }
        }
        let request = if writes.is_empty() || interrupt.is_some() {
            None
        } else {
            Some(PyRequest::now(Operation::BatchWrite(BatchWrite {
                table: self.codec.get().table(py)?.clone(),
                writes,
            })))
        };
        made.append(request)?;
        made.append(items)?;
        made.append(names)?;
        made.append(interrupt)
    }
}

impl PlainSave {
    fn prepare(&self, values: &Bound<'_, PyDict>, insert: bool) -> Prepared {
        let mut minted = Vec::new();
        let put = caught(values.py(), || {
            self.mint(values, &mut minted)?;
            self.put(values, insert, &minted)
        });
        Prepared { put, minted }
    }

    /// Mints what is absent from one clock reading, in one step.
    fn mint(&self, values: &Bound<'_, PyDict>, minted: &mut Vec<usize>) -> PyResult<()> {
        let py = values.py();
        let mut absent = Vec::with_capacity(self.mints.len());
        for (place, mint) in self.mints.iter().enumerate() {
            if values
                .get_item(&mint.name)?
                .is_none_or(|value| value.is_none())
            {
                absent.push(place);
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        let drafts = step(py, |session| {
            let reading = session.minter.read();
            absent
                .iter()
                .map(|place| {
                    session.mint(self.mints[*place].strategy.get().strategy(), reading, None)
                })
                .collect::<Result<Vec<Draft>, Box<Refusal>>>()
        })?;
        minted.reserve(absent.len());
        for (place, draft) in absent.into_iter().zip(&drafts) {
            let mint = &self.mints[place];
            let mut value = mint.strategy.get().value(py, draft)?;
            if let Some(convert) = &mint.convert {
                value = convert.bind(py).call1((value,))?;
            }
            values.set_item(&mint.name, value)?;
            minted.push(place);
        }
        tell_step_back(py)
    }

    fn put(&self, values: &Bound<'_, PyDict>, insert: bool, minted: &[usize]) -> PyResult<Put> {
        let codec = self.codec.get();
        let item = codec.item(values, None, false)?;
        let mints = || minted.iter().map(|place| &self.mints[*place]);
        let absent = insert || self.insert_only || mints().any(|mint| mint.is_key);
        let guard = Guard {
            row: if absent { Row::Absent } else { Row::Any },
            wide: !self.insert_only && mints().any(|mint| mint.wide),
            ..Guard::default()
        };
        codec.put_request(values.py(), Arc::new(item), guard)
    }

    fn names<'py>(&self, py: Python<'py>, minted: &[usize]) -> PyResult<Bound<'py, PyTuple>> {
        if minted.len() == self.mints.len() {
            return Ok(self.all_names.bind(py).clone());
        }
        PyTuple::new(py, minted.iter().map(|place| &self.mints[*place].name))
    }
}

/// The values of the instances, if all are new and untouched ones of the model and none is there twice or among the
/// others.
fn fresh<'py>(
    model: &Bound<'py, PyType>,
    instances: &Bound<'py, PyList>,
    others: &Bound<'py, PyList>,
) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
    let py = model.py();
    let mut met: Vec<usize> = Vec::with_capacity(instances.len() + others.len());
    met.extend(
        instances
            .iter()
            .chain(others)
            .map(|one| one.as_ptr() as usize),
    );
    met.sort_unstable();
    if met.windows(2).any(|two| two[0] == two[1]) {
        return Ok(None);
    }
    let mut all = Vec::with_capacity(instances.len());
    for instance in instances {
        if !instance.get_type().is(model) {
            return Ok(None);
        }
        let values = instance
            .getattr(intern!(py, "__dict__"))?
            .cast_into::<PyDict>()?;
        if values.contains(intern!(py, "_state"))? || values.contains(intern!(py, "_stored"))? {
            return Ok(None);
        }
        all.push(values);
    }
    Ok(Some(all))
}
