//! Parsing of ids, and the ids of a time range.

use mintkey_ids::{Draft, InvalidText, Kind, Parsed, Strategy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString, PyTuple};

use crate::exception::exception;
use crate::ids::strategy::{PyStrategy, parse_value};

/// What was parsed, as keyword arguments of `ParsedId`.
fn fields<'py>(py: Python<'py>, parsed: &Parsed) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("kind", parsed.kind.name())?;
    fields.set_item("prefix", &parsed.prefix)?;
    fields.set_item("bytes", PyBytes::new(py, &parsed.bytes))?;
    fields.set_item("time_ms", parsed.time_ms)?;
    fields.set_item("random", parsed.random.map(|(random, _)| random))?;
    fields.set_item("random_bits", parsed.random.map(|(_, bits)| bits))?;
    fields.set_item("node", parsed.node)?;
    fields.set_item("sequence", parsed.sequence)?;
    fields.set_item("machine", parsed.machine)?;
    fields.set_item("process", parsed.process)?;
    Ok(fields)
}

/// A value for a message, shortened if it is long.
fn shown(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = value.repr()?.to_string_lossy().into_owned();
    if text.chars().count() <= 80 {
        return Ok(text);
    }
    Ok(text.chars().take(60).chain("…".chars()).collect())
}

/// Reads a value as one of the strategy; without a strategy, finds the format by the form of the value.
///
/// Returns the fields of a `ParsedId` as a dict. Raises `InvalidId`.
#[pyfunction]
#[pyo3(signature = (value, strategy=None, /))]
pub fn parse<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    strategy: Option<&Bound<'py, PyStrategy>>,
) -> PyResult<Bound<'py, PyDict>> {
    let parsed = match strategy {
        Some(strategy) => {
            let strategy = strategy.get().strategy();
            parse_value(strategy, value)?.map_err(|wrong| refused(strategy.kind(), &wrong))
        }
        None if value.is_exact_instance_of::<PyInt>() => {
            let kind = value
                .extract()
                .map_or(Kind::Snowflake, mintkey_ids::integer_kind);
            parse_value(&Strategy::plain(kind), value)?.map_err(|wrong| refused(kind, &wrong))
        }
        None => recognised(value)?,
    };
    match parsed {
        Ok(parsed) => fields(py, &parsed),
        Err(reason) => Err(exception(
            py,
            "InvalidId",
            &format!("{} {reason}", shown(value)?),
        )),
    }
}

fn refused(kind: Kind, wrong: &InvalidText) -> String {
    format!("is not a valid {kind}: {wrong}")
}

fn recognised(value: &Bound<'_, PyAny>) -> PyResult<Result<Parsed, String>> {
    let text = text_of(value)?;
    if let Some(kind) = mintkey_ids::candidates(&text).first() {
        return Ok(mintkey_ids::parse(&Strategy::plain(*kind), &text)
            .map_err(|wrong| refused(*kind, &wrong)));
    }
    if let Some((prefix, kind)) = mintkey_ids::prefixed(&text) {
        let prefix = PyString::new(value.py(), prefix).repr()?;
        return Ok(Err(format!(
            "is not an id without its prefix: \
             parse(…, auto(\"{kind}\", prefix={prefix}))"
        )));
    }
    Ok(Err(match mintkey_ids::likeliest(&text) {
        Some(kind) => match mintkey_ids::parse(&Strategy::plain(kind), &text) {
            Err(wrong) => refused(kind, &wrong),
            Ok(parsed) => return Ok(Ok(parsed)),
        },
        None => "does not have the form of an id or a timestamp; pass the strategy if it has parameters, \
                 as in parse(…, auto(\"nanoid\", size=12))"
            .to_owned(),
    }))
}

fn text_of(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_string_lossy().into_owned()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "an id is a str or an int, not {}",
            value.get_type().name()?
        ))),
    }
}

/// The names of all strategies that a text could be of, likeliest first.
#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn candidates(text: &Bound<'_, PyAny>) -> PyResult<Vec<&'static str>> {
    let kinds = mintkey_ids::candidates(&text_of(text)?);
    Ok(kinds.into_iter().map(Kind::name).collect())
}

/// The text of an id from its bytes: 16, or 20 of a KSUID.
#[pyfunction]
#[pyo3(signature = (strategy, data, /))]
pub fn from_bytes(
    py: Python<'_>,
    strategy: &Bound<'_, PyStrategy>,
    data: &[u8],
) -> PyResult<String> {
    let strategy = strategy.get().strategy();
    let kind = strategy.kind();
    let refuse = |reason: String| {
        exception(
            py,
            "InvalidId",
            &format!("these bytes are not a valid {kind}: {reason}"),
        )
    };
    let wrong_size = |wanted| refuse(format!("they are {}, not {wanted}", data.len()));
    let draft = if kind == Kind::Ksuid {
        let (time, payload) = data.split_first_chunk().ok_or_else(|| wrong_size(20))?;
        let payload = payload.try_into().map_err(|_| wrong_size(20))?;
        Draft::Ksuid(u32::from_be_bytes(*time), u128::from_be_bytes(payload))
    } else {
        let bits = data
            .try_into()
            .map(u128::from_be_bytes)
            .map_err(|_| wrong_size(16))?;
        mintkey_ids::parse_bits(kind, bits).map_err(|wrong| refuse(wrong.to_string()))?;
        Draft::Bits(bits)
    };
    Ok(strategy.text(&draft))
}

/// The smallest and the greatest value generated from `start` on and before `end`, in microseconds since the Unix epoch.
#[pyfunction]
#[pyo3(signature = (strategy, start, end, /))]
pub fn bounds<'py>(
    py: Python<'py>,
    strategy: &Bound<'py, PyStrategy>,
    start: i64,
    end: i64,
) -> PyResult<Bound<'py, PyTuple>> {
    let this = strategy.get();
    let (low, high) = mintkey_ids::bounds(this.strategy(), start, end)
        .map_err(|wrong| PyValueError::new_err(wrong.0))?;
    PyTuple::new(py, [this.value(py, &low)?, this.value(py, &high)?])
}
