//! `Strategy`, a strategy with its parameters.

use std::hash::{DefaultHasher, Hash, Hasher};

use mintkey_ids::{Draft, InvalidText, Kind, NodeChoice, Parameters, Parsed, Strategy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use crate::exception::exception;
use crate::ids::arguments::{int, node_choice, text};
use crate::ids::objects::ascii;

/// Reads a text or an integer as a value of the strategy.
pub(super) fn parse_value(
    strategy: &Strategy,
    value: &Bound<'_, PyAny>,
) -> PyResult<Result<Parsed, InvalidText>> {
    if let Ok(text) = value.cast::<PyString>() {
        // A lone surrogate is no character of any id.
        return Ok(mintkey_ids::parse(strategy, &text.to_string_lossy()));
    }
    if value.is_exact_instance_of::<PyInt>() {
        return Ok(match value.extract() {
            Ok(int) => mintkey_ids::parse_int(strategy, int),
            Err(_) => mintkey_ids::parse(strategy, &value.str()?.to_string_lossy()),
        });
    }
    Err(PyTypeError::new_err(format!(
        "an id is a str or an int, not {}",
        value.get_type().name()?
    )))
}

/// A strategy with its parameters, as `mintkey.generators.auto()` returns it.
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

    pub const fn strategy(&self) -> &Strategy {
        &self.strategy
    }

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
                exception(
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

    /// Why a value is not one of this strategy; `None` if it is.
    fn check(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        Ok(parse_value(&self.strategy, value)?
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
