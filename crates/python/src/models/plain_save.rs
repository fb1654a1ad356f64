//! Saves of new instances of models without hooks and the like, in one step: generates values, checks them and creates the
//! request, for one instance or a chunk of a batch.
//!
//! The result is that of `operations.save` for such an instance. If anything fails, `operations.save` takes over, with the
//! values that were generated.

use std::sync::Arc;

use mintkey_ids::{Draft, Refusal};
use mintkey_store::{BatchWrite, Guard, Operation, Put, Row, Write};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::ids::{PyStrategy, report_step_back, step};
use crate::models::codec::Codec;
use crate::panics::caught;
use crate::store::PyRequest;
use crate::values::item::PyItem;

/// An attribute whose value a save generates.
struct Mint {
    name: Py<PyString>,
    strategy: Py<PyStrategy>,
    /// The function that converts the generated value to that of the attribute, if they differ.
    convert: Option<Py<PyAny>>,
    /// Whether it is a part of the key: an existing row must not be overwritten.
    is_key: bool,
    /// Whether no row can be expected to have the key.
    collision_free: bool,
}

type MintSpec<'py> = (
    Bound<'py, PyString>,
    Bound<'py, PyStrategy>,
    Option<Bound<'py, PyAny>>,
    bool,
    bool,
);

/// Saves new instances of a model without hooks, version, compound key, field checks and callable defaults.
#[pyclass(frozen, module = "mintkey._core")]
pub struct PlainSave {
    codec: Py<Codec>,
    mints: Vec<Mint>,
    insert_only: bool,
    all_names: Py<PyTuple>,
}

/// A prepared save: the write or the error, and the indexes of the generated attributes.
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
            .map(|(name, strategy, convert, is_key, collision_free)| Mint {
                name: name.unbind(),
                strategy: strategy.unbind(),
                convert: convert.map(Bound::unbind),
                is_key,
                collision_free,
            })
            .collect();
        Ok(Self {
            codec: codec.unbind(),
            mints,
            insert_only,
            all_names,
        })
    }

    /// Prepares the values of an instance. Returns the request, the item or the error, and the names of generated values.
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

    /// Prepares a chunk of instances. Appends to `prepared`: the joined request (None if no instance can be written), the
    /// item or the error of each, the names of generated values of each, and the interrupt that ended the preparation, if
    /// there was one. `prepared` belongs to the caller, so that an interrupt during the return loses nothing.
    /// It stays empty if an instance is not of this model, not new or contained twice: then each needs its own save.
    #[pyo3(signature = (model, instances, prepared, /))]
    fn many<'py>(
        &self,
        model: &Bound<'py, PyType>,
        instances: &Bound<'py, PyList>,
        prepared: &Bound<'py, PyList>,
    ) -> PyResult<()> {
        let py = model.py();
        let Some(all) = fresh(model, instances)? else {
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
        prepared.append(request)?;
        prepared.append(items)?;
        prepared.append(names)?;
        prepared.append(interrupt)
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

    /// Generates the missing values in one step, from one clock reading.
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
        report_step_back(py)
    }

    fn put(&self, values: &Bound<'_, PyDict>, insert: bool, minted: &[usize]) -> PyResult<Put> {
        let codec = self.codec.get();
        let item = codec.item(values, None, false)?;
        let mints = || minted.iter().map(|place| &self.mints[*place]);
        let absent = insert || self.insert_only || mints().any(|mint| mint.is_key);
        let guard = Guard {
            row: if absent { Row::Absent } else { Row::Any },
            collision_free: !self.insert_only && mints().any(|mint| mint.collision_free),
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

/// The values of the instances. `None` unless all are new instances of the model, contained once.
fn fresh<'py>(
    model: &Bound<'py, PyType>,
    instances: &Bound<'py, PyList>,
) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
    let py = model.py();
    let mut seen: Vec<usize> = instances.iter().map(|one| one.as_ptr() as usize).collect();
    seen.sort_unstable();
    if seen.windows(2).any(|two| two[0] == two[1]) {
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
