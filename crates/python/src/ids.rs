//! The minting engine in Python: strategies, plain functions, the frozen clock, parsing.
//!
//! One id costs no allocation but the result: bits are drawn under the engine's lock, then written
//! straight into a new `str`. Nothing here runs Python code while the lock is held.

mod objects;
mod parsing;
mod plain;
mod step;

use std::hash::{DefaultHasher, Hash, Hasher};

use mintkey_ids::clock::EngineClock;
use mintkey_ids::engine;
use mintkey_ids::{Draft, Kind, NodeChoice, Parameters, Refusal, Strategy};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

pub use parsing::{bounds, candidates, from_bytes, parse};
pub use plain::register;
pub use step::{step, tell_step_back};

use objects::{ascii, fixed, many};

/// Makes an exception of `mintkey.errors`.
#[cold]
fn error(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = py
        .import("mintkey.errors")
        .and_then(|errors| errors.getattr(class))
        .and_then(|class| class.call1((message,)));
    match made {
        Ok(instance) => PyErr::from_value(instance),
        Err(failure) => failure,
    }
}

/// What to mint: a strategy with its parameters. `mintkey.generators.auto()` makes them.
#[pyclass(frozen, name = "Strategy", module = "mintkey._core")]
pub struct PyStrategy {
    strategy: Strategy,
    /// Body, prefix and separator in bytes, or `None` where the text is not ASCII or no text.
    ascii_len: Option<usize>,
}

impl PyStrategy {
    fn new(strategy: Strategy) -> Self {
        let ahead = strategy.prefix().len() + strategy.separator().len();
        let ascii = strategy.prefix().is_ascii() && !strategy.kind().is_int();
        Self {
            ascii_len: ascii.then(|| ahead + strategy.body_len()),
            strategy,
        }
    }

    /// What it mints.
    pub const fn strategy(&self) -> &Strategy {
        &self.strategy
    }

    /// The Python value of a draft.
    #[inline]
    pub fn value<'py>(&self, py: Python<'py>, draft: &Draft) -> PyResult<Bound<'py, PyAny>> {
        let strategy = &self.strategy;
        if let Some(int) = strategy.int(draft) {
            return Ok(PyInt::new(py, int).into_any());
        }
        let Some(len) = self.ascii_len else {
            return Ok(PyString::new(py, &strategy.text(draft)).into_any());
        };
        let text = ascii(py, len, |out| {
            let (ahead, body) = out.split_at_mut(len - strategy.body_len());
            let (prefix, separator) = ahead.split_at_mut(strategy.prefix().len());
            prefix.copy_from_slice(strategy.prefix().as_bytes());
            separator.copy_from_slice(strategy.separator().as_bytes());
            strategy.write_body(draft, body);
        })?;
        Ok(text.into_any())
    }
}

/// A parameter that is text.
fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = value.py();
    let Ok(text) = value.cast::<PyString>() else {
        let message = format!("{name}={} is not text", shortened(value)?);
        return Err(PyTypeError::new_err(message));
    };
    if let Ok(text) = text.to_cow() {
        return Ok(text.into_owned());
    }
    let message = format!("{name}={} contains a lone surrogate", shortened(value)?);
    Err(error(py, "ConfigurationError", &message))
}

/// A parameter that is an integer.
fn int(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = value.py();
    match value.extract() {
        Ok(int) if !value.is_instance_of::<PyBool>() => Ok(int),
        Err(wrong) if wrong.is_instance_of::<PyOverflowError>(py) => {
            let message = format!("{name}={} is out of range", shortened(value)?);
            Err(error(py, "ConfigurationError", &message))
        }
        _ => {
            let message = format!("{name}={} is not an integer", shortened(value)?);
            Err(PyTypeError::new_err(message))
        }
    }
}

/// A value for a message: it may be long, and Python does not write very large integers in decimal.
#[cold]
fn shortened(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let errors = value.py().import("mintkey.errors")?;
    errors.call_method1("shortened", (value,))?.extract()
}

fn node_choice(node: &Bound<'_, PyAny>) -> PyResult<NodeChoice> {
    let text = match node.cast::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) if node.is_instance_of::<PyInt>() => node.str()?.to_string_lossy().into_owned(),
        Err(_) => {
            return Err(PyTypeError::new_err(format!(
                "node={} is neither a number nor a range such as \"32-47\"",
                shortened(node)?
            )));
        }
    };
    NodeChoice::parse(&text).map_err(|wrong| error(node.py(), "ConfigurationError", &wrong.0))
}

fn kind(name: &str) -> PyResult<Kind> {
    Kind::from_name(name).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name).join(", ");
        PyValueError::new_err(format!(
            "Invalid strategy {name:?}. Valid strategies are: {names}"
        ))
    })
}

#[pymethods]
impl PyStrategy {
    #[new]
    #[pyo3(signature = (name, /, **parameters))]
    fn py_new(name: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let kind = kind(name)?;
        let Some(given) = parameters else {
            return Ok(Self::new(Strategy::plain(kind)));
        };
        let py = given.py();
        let taken = Strategy::parameter_names(kind);
        for key in given.keys() {
            let key: String = key.extract()?;
            if !taken.contains(&key.as_str()) {
                return Err(PyTypeError::new_err(format!(
                    "strategy {name:?} takes no {key}=; it takes {}",
                    taken
                        .iter()
                        .map(|name| format!("{name}="))
                        .collect::<Vec<_>>()
                        .join(", ")
                )));
            }
        }
        let text = |name| {
            let value = given.get_item(name)?;
            value.map(|value| text(name, &value)).transpose()
        };
        let int = |name| {
            let value = given.get_item(name)?;
            value.map(|value| int(name, &value)).transpose()
        };
        let (prefix, alphabet) = (text("prefix")?, text("alphabet")?);
        let node = given
            .get_item("node")?
            .map(|node| node_choice(&node))
            .transpose()?;
        let parameters = Parameters {
            prefix: prefix.as_deref(),
            size: int("size")?,
            alphabet: alphabet.as_deref(),
            length: int("length")?,
            node,
            epoch: int("epoch")?,
            plus_ms: int("plus")?,
        };
        Strategy::new(kind, &parameters)
            .map(Self::new)
            .map_err(|wrong| {
                error(
                    py,
                    "ConfigurationError",
                    &format!("strategy {name:?}: {wrong}"),
                )
            })
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.strategy.kind().name()
    }

    #[getter]
    fn is_id(&self) -> bool {
        self.strategy.kind().is_id()
    }

    #[getter]
    fn sortable(&self) -> bool {
        self.strategy.kind().is_sortable()
    }

    #[getter]
    fn output(&self) -> &'static str {
        if self.strategy.kind().is_int() {
            "int"
        } else {
            "str"
        }
    }

    #[getter]
    fn length(&self) -> Option<usize> {
        self.strategy.text_len()
    }

    #[getter]
    fn random_bits(&self) -> u32 {
        self.strategy.random_bits()
    }

    #[getter]
    fn prefix(&self) -> &str {
        self.strategy.prefix()
    }

    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let strategy = &self.strategy;
        let parameters = PyDict::new(py);
        if !strategy.prefix().is_empty() {
            parameters.set_item("prefix", strategy.prefix())?;
        }
        if let Some(length) = strategy.given_length() {
            parameters.set_item("length", length)?;
        }
        if let Some((size, alphabet)) = strategy.nanoid() {
            parameters.set_item("size", size)?;
            parameters.set_item("alphabet", alphabet)?;
        }
        if let Some((epoch, node)) = strategy.snowflake() {
            parameters.set_item("epoch", epoch)?;
            if node != NodeChoice::Default {
                parameters.set_item("node", node.to_string())?;
            }
        }
        if strategy.plus_ms() != 0 {
            parameters.set_item("plus", strategy.plus_ms())?;
        }
        Ok(parameters)
    }

    /// Why a value is none of this strategy's, or `None` when it is one.
    fn check(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        Ok(parsing::parse_value(&self.strategy, value)?
            .err()
            .map(|wrong| wrong.to_string()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other
            .cast::<Self>()
            .is_ok_and(|other| other.get().strategy == self.strategy)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.strategy.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("Strategy({:?}", self.name());
        for (key, value) in self.parameters(py)? {
            text += ", ";
            text += key.cast::<PyString>()?.to_str()?;
            text += "=";
            text += value.repr()?.to_str()?;
        }
        Ok(text + ")")
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let this = slf.get();
        let make = py.import("mintkey.generators")?.getattr("_strategy")?;
        (make, (this.name(), this.parameters(py)?)).into_pyobject(py)
    }
}

/// Mints values of all strategies in one step, from one clock reading.
///
/// Returns the values and the reading in milliseconds since the Unix epoch. Timestamps tell `at`
/// instead of the reading where it is given.
#[pyfunction]
#[pyo3(signature = (strategies, at=None))]
pub fn mint<'py>(
    py: Python<'py>,
    strategies: &Bound<'py, PyTuple>,
    at: Option<i64>,
) -> PyResult<(Bound<'py, PyList>, i64)> {
    let strategies: Vec<PyRef<'py, PyStrategy>> = strategies
        .iter()
        .map(|strategy| strategy.extract().map_err(PyErr::from))
        .collect::<PyResult<_>>()?;
    let (drafts, ms) = step(py, |session| {
        let reading = session.minter.read();
        let drafts: Result<Vec<Draft>, Box<Refusal>> = strategies
            .iter()
            .map(|strategy| session.mint(&strategy.strategy, reading, at))
            .collect();
        Ok((drafts?, reading.ms()))
    })?;
    let values = PyList::empty(py);
    for (strategy, draft) in strategies.iter().zip(&drafts) {
        values.append(strategy.value(py, draft)?)?;
    }
    tell_step_back(py)?;
    Ok((values, ms))
}

/// Mints one value of a strategy.
#[pyfunction]
#[pyo3(signature = (strategy, at=None, /))]
pub fn mint_one<'py>(
    py: Python<'py>,
    strategy: &Bound<'py, PyStrategy>,
    at: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let strategy = strategy.get();
    let draft = step(py, |session| {
        let reading = session.minter.read();
        session.mint(&strategy.strategy, reading, at)
    })?;
    tell_step_back(py)?;
    strategy.value(py, &draft)
}

/// Mints `n` values of a strategy; a clock reading serves up to 128.
#[pyfunction]
#[pyo3(signature = (strategy, n, /))]
pub fn mint_many<'py>(
    py: Python<'py>,
    strategy: &Bound<'py, PyStrategy>,
    n: usize,
) -> PyResult<Bound<'py, PyList>> {
    let this = strategy.get();
    let values = match this.strategy.kind() {
        // The formats that many are minted of get a loop of their own.
        Kind::Ulid if this.strategy.prefix().is_empty() => many(
            py,
            n,
            0,
            |session, reading| session.minter.ulid(reading),
            |bits| Ok(fixed(py, |out| mintkey_ids::write_ulid(*bits, out))?.into_any()),
        ),
        Kind::Uuid7 if this.strategy.prefix().is_empty() => many(
            py,
            n,
            0,
            |session, reading| session.minter.uuid7(reading),
            |bits| Ok(fixed(py, |out| mintkey_ids::write_uuid(*bits, out))?.into_any()),
        ),
        _ => many(
            py,
            n,
            Draft::Int(0),
            |session, reading| session.mint(&this.strategy, reading, None),
            |draft| this.value(py, draft),
        ),
    }?;
    tell_step_back(py)?;
    Ok(values)
}

/// Makes the next ids differ from those of every copy of this process.
#[pyfunction]
pub fn reseed(py: Python<'_>) {
    py.detach(engine::reseed);
}

/// The engine's time in milliseconds since the Unix epoch; a frozen clock is asked first.
#[pyfunction]
pub fn now_ms() -> i64 {
    mintkey_ids::now_ms()
}

/// Stops the engine's clock at `microseconds` since the Unix epoch; a 32-byte `seed` makes ids repeat.
#[pyfunction]
#[pyo3(signature = (microseconds, seed=None, /))]
pub fn freeze(microseconds: i64, seed: Option<[u8; 32]>) -> u64 {
    engine::freeze(microseconds, seed)
}

/// Ends a block begun by `freeze`; whether it was there.
#[pyfunction]
#[pyo3(signature = (block, /))]
pub fn thaw(block: u64) -> bool {
    engine::thaw(block)
}

/// Lets microseconds pass in a frozen block, or sets its clock; the reading after it, in microseconds.
#[pyfunction]
#[pyo3(signature = (block, advance, set=None, /))]
pub fn move_clock(block: u64, advance: i64, set: Option<i64>) -> PyResult<i64> {
    engine::move_clock(block, |clock: &mut EngineClock| match set {
        Some(to) => clock.set(to),
        None => clock.advance(advance),
    })
    .ok_or_else(|| PyValueError::new_err("the frozen block has ended"))
}
