//! Saves of new instances: generates values, checks them and creates the request, for one instance or a chunk of a batch.
//!
//! `NewSave::guard` alone decides when a save must not overwrite an existing row.

use std::sync::Arc;

use mintkey_ids::{Draft, Refusal};
use mintkey_store::{BatchWrite, Guard, Name, Operation, Put, Row, Write};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::ids::{PyStrategy, report_step_back, step};
use crate::models::codec::Codec;
use crate::panics::caught;
use crate::store::PyRequest;
use crate::values::condition::PyCondition;
use crate::values::item::PyItem;

/// An attribute whose value is generated.
struct Mint {
    name: Py<PyString>,
    label: String,
    /// The strategy that generates the value in a save. `None`: Python generates it.
    strategy: Option<Py<PyStrategy>>,
    /// The function that converts the generated value to that of the attribute, if they differ.
    convert: Option<Py<PyAny>>,
    /// Whether it is a part of the key: an existing row must not be overwritten.
    is_key: bool,
    /// Whether no row can be expected to have the key.
    collision_free: bool,
}

type MintSpec<'py> = (
    Bound<'py, PyString>,
    Option<Bound<'py, PyStrategy>>,
    Option<Bound<'py, PyAny>>,
    bool,
    bool,
);

/// Prepares the saves of new instances of a model.
#[pyclass(frozen, module = "mintkey._core")]
pub struct NewSave {
    codec: Py<Codec>,
    mints: Vec<Mint>,
    insert_only: bool,
    /// The stored name of the version, if the model has one.
    version: Option<Name>,
    /// The Python function that returns the values that an instance does not have: its version and its compound key.
    overrides: Option<Py<PyAny>>,
    /// The Python function that lets fields check an instance.
    check: Option<Py<PyAny>>,
    all_names: Py<PyTuple>,
}

/// What the caller of a save knows, apart from the values of the instance.
#[derive(Default)]
struct Known<'a, 'py> {
    /// Whether the row must not exist.
    insert: bool,
    /// The key parts that were generated, or set by a hook, with their values.
    made: Option<&'a Bound<'py, PyDict>>,
    condition: Option<&'a Bound<'py, PyCondition>>,
    pipeline: Option<&'a Bound<'py, PyAny>>,
}

/// A prepared save: the write or the error, and the indexes of the generated attributes.
struct Prepared {
    put: PyResult<Put>,
    minted: Vec<usize>,
}

#[pymethods]
impl NewSave {
    /// A mint is `(name, strategy or None, converter or None, whether it is part of the key, whether with 64 random
    /// bits)`.
    #[new]
    #[pyo3(signature = (codec, mints, *, insert_only, version=None, overrides=None, check=None))]
    fn new(
        codec: Bound<'_, Codec>,
        mints: Vec<MintSpec<'_>>,
        insert_only: bool,
        version: Option<&str>,
        overrides: Option<Bound<'_, PyAny>>,
        check: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let all_names = PyTuple::new(codec.py(), mints.iter().map(|mint| &mint.0))?.unbind();
        let mints = mints
            .into_iter()
            .map(|(name, strategy, convert, is_key, collision_free)| Mint {
                label: name.to_string(),
                name: name.unbind(),
                strategy: strategy.map(Bound::unbind),
                convert: convert.map(Bound::unbind),
                is_key,
                collision_free,
            })
            .collect();
        Ok(Self {
            codec: codec.unbind(),
            mints,
            insert_only,
            version: version.map(Name::from),
            overrides: overrides.map(Bound::unbind),
            check: check.map(Bound::unbind),
            all_names,
        })
    }

    /// The schema holds this object, and its functions hold the schema.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for function in [&self.overrides, &self.check].into_iter().flatten() {
            visit.call(function)?;
        }
        Ok(())
    }

    /// Generates the missing values that strategies generate in a save, from one clock reading. Adds them to `minted`, by
    /// name, and returns the reading in ms since 1970; None if no value is missing. With `keys`, only parts of the key are
    /// generated.
    #[pyo3(signature = (values, minted, keys=false, /))]
    fn mint(
        &self,
        values: &Bound<'_, PyDict>,
        minted: &Bound<'_, PyDict>,
        keys: bool,
    ) -> PyResult<Option<i64>> {
        let mut generated = Vec::new();
        let wanted = |mint: &Mint| mint.is_key || !keys;
        let instant = caught(values.py(), || {
            self.generate(values, &mut generated, wanted)
        });
        for index in generated {
            let name = &self.mints[index].name;
            minted.set_item(name, values.get_item(name)?)?;
        }
        instant
    }

    /// Prepares an instance. Returns the request, the item or the error, and the names of the generated values.
    ///
    /// If the names of the generated values are passed, all values are generated already. `made` has the key parts that
    /// were generated or set by a hook, with their values.
    #[pyo3(signature = (instance, insert, minted=None, made=None, condition=None, pipeline=None, /))]
    fn one<'py>(
        &self,
        instance: &Bound<'py, PyAny>,
        insert: bool,
        minted: Option<Vec<String>>,
        made: Option<&Bound<'py, PyDict>>,
        condition: Option<&Bound<'py, PyCondition>>,
        pipeline: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Option<PyRequest>, Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = instance.py();
        let known = Known {
            insert,
            made,
            condition,
            pipeline,
        };
        let minted = minted.map(|names| self.indexes(&names));
        let Prepared { put, minted } =
            self.prepare(instance, &values_of(instance)?, minted, &known);
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
        for (instance, values) in &all {
            let Prepared { put, minted } = self.prepare(instance, values, None, &Known::default());
            names.append(self.names(py, &minted)?)?;
            match put {
                Ok(put) => {
                    items.append(PyItem(put.item.clone()))?;
                    writes.push(Write::Put(put));
                }
                Err(error) => {
                    items.append(error.clone_ref(py).into_value(py))?;
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

impl NewSave {
    /// Prepares an instance; generates its values unless they are `minted` already.
    fn prepare(
        &self,
        instance: &Bound<'_, PyAny>,
        values: &Bound<'_, PyDict>,
        minted: Option<Vec<usize>>,
        known: &Known<'_, '_>,
    ) -> Prepared {
        let missing = minted.is_none();
        let mut minted = minted.unwrap_or_default();
        let put = caught(values.py(), || {
            if missing {
                self.generate(values, &mut minted, |_| true)?;
            }
            self.put(instance, values, &minted, known)
        });
        Prepared { put, minted }
    }

    /// Generates the missing values that are wanted in one step, from one clock reading, which it returns.
    fn generate(
        &self,
        values: &Bound<'_, PyDict>,
        minted: &mut Vec<usize>,
        wanted: impl Fn(&Mint) -> bool,
    ) -> PyResult<Option<i64>> {
        let py = values.py();
        let mut absent = Vec::with_capacity(self.mints.len());
        for (index, mint) in self.mints.iter().enumerate() {
            if let Some(strategy) = &mint.strategy
                && wanted(mint)
                && values
                    .get_item(&mint.name)?
                    .is_none_or(|value| value.is_none())
            {
                absent.push((index, strategy.get()));
            }
        }
        if absent.is_empty() {
            return Ok(None);
        }
        let (drafts, instant) = step(py, |session| {
            let reading = session.minter.read();
            let drafts: Result<Vec<Draft>, Box<Refusal>> = absent
                .iter()
                .map(|(_, strategy)| session.mint(strategy.strategy(), reading, None))
                .collect();
            Ok((drafts?, reading.ms()))
        })?;
        minted.reserve(absent.len());
        for ((index, strategy), draft) in absent.into_iter().zip(&drafts) {
            let mint = &self.mints[index];
            let mut value = strategy.value(py, draft)?;
            if let Some(convert) = &mint.convert {
                value = convert.bind(py).call1((value,))?;
            }
            values.set_item(&mint.name, value)?;
            minted.push(index);
        }
        report_step_back(py)?;
        Ok(Some(instant))
    }

    fn put(
        &self,
        instance: &Bound<'_, PyAny>,
        values: &Bound<'_, PyDict>,
        minted: &[usize],
        known: &Known<'_, '_>,
    ) -> PyResult<Put> {
        let py = values.py();
        let codec = self.codec.get();
        let overrides = match &self.overrides {
            Some(overrides) => {
                let overrides = overrides.bind(py).call1((values,))?;
                Some(overrides.cast_into::<PyDict>()?)
            }
            None => None,
        };
        let item = codec.item(values, overrides.as_ref(), false, None)?;
        if let Some(check) = &self.check {
            check.bind(py).call1((instance, known.pipeline))?;
        }
        let guard = self.guard(values, minted, known)?;
        codec.put_request(py, Arc::new(item), guard)
    }

    /// A row must not exist if the caller says so, or if its key was generated: now, or by an earlier attempt or a hook and
    /// not replaced since.
    fn guard(
        &self,
        values: &Bound<'_, PyDict>,
        minted: &[usize],
        known: &Known<'_, '_>,
    ) -> PyResult<Guard> {
        let mints = || minted.iter().map(|index| &self.mints[*index]);
        let mut absent = known.insert || self.insert_only || mints().any(|mint| mint.is_key);
        for (name, made) in known.made.into_iter().flatten() {
            if let Some(value) = values.get_item(name)? {
                absent |= value.eq(made)?;
            }
        }
        Ok(Guard {
            row: if absent { Row::Absent } else { Row::Any },
            collision_free: !self.insert_only && mints().any(|mint| mint.collision_free),
            version: self.version.clone().map(|name| (name, None)),
            condition: known.condition.map(|condition| condition.get().compiled()),
        })
    }

    fn indexes(&self, names: &[String]) -> Vec<usize> {
        let all = self.mints.iter().enumerate();
        all.filter(|(_, mint)| names.contains(&mint.label))
            .map(|(index, _)| index)
            .collect()
    }

    fn names<'py>(&self, py: Python<'py>, minted: &[usize]) -> PyResult<Bound<'py, PyTuple>> {
        if minted.len() == self.mints.len() {
            return Ok(self.all_names.bind(py).clone());
        }
        PyTuple::new(py, minted.iter().map(|index| &self.mints[*index].name))
    }
}

fn values_of<'py>(instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let values = instance.getattr(intern!(instance.py(), "__dict__"))?;
    Ok(values.cast_into::<PyDict>()?)
}

/// An instance and its values.
type Instance<'py> = (Bound<'py, PyAny>, Bound<'py, PyDict>);

/// The instances with their values. `None` unless all are new instances of the model, contained once.
fn fresh<'py>(
    model: &Bound<'py, PyType>,
    instances: &Bound<'py, PyList>,
) -> PyResult<Option<Vec<Instance<'py>>>> {
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
        let values = values_of(&instance)?;
        for slot in [intern!(py, "_kept"), intern!(py, "_stored")] {
            if !instance.getattr(slot)?.is_none() {
                return Ok(None);
            }
        }
        all.push((instance, values));
    }
    Ok(Some(all))
}
