//! The minting engine in Python: strategies, plain functions, the frozen clock, parsing.
//!
//! One id costs no allocation but the result: bits are drawn under the engine's lock, then written
//! straight into a new `str`. Nothing here runs Python code while the lock is held.

mod parsing;
mod plain;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use mintkey_ids::clock::EngineClock;
use mintkey_ids::engine::{self, Session};
use mintkey_ids::node::NodeChoice;
use mintkey_ids::{Draft, Kind, Parameters, Reading, Refusal, Strategy};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

pub use parsing::{bounds, candidates, from_bytes, parse};
pub use plain::register;

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

/// Runs a step under the engine's lock; waits where ids are used up, claims what is missing.
#[inline]
pub fn step<T>(
    py: Python<'_>,
    mut work: impl FnMut(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> PyResult<T> {
    match engine::with(&mut work) {
        Ok(done) => Ok(done),
        Err(refusal) => again(py, refusal, work),
    }
}

/// Goes on trying.
#[cold]
#[inline(never)]
fn again<T>(
    py: Python<'_>,
    mut refusal: Box<Refusal>,
    mut work: impl FnMut(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> PyResult<T> {
    loop {
        overcome(py, &refusal)?;
        match engine::with(&mut work) {
            Ok(done) => return Ok(done),
            Err(next) => refusal = next,
        }
    }
}

/// Does what lets the next try succeed, or raises.
#[cold]
fn overcome(py: Python<'_>, refusal: &Refusal) -> PyResult<()> {
    match refusal {
        Refusal::Exhausted {
            wait_ms: Some(wait_ms),
            ..
        } => {
            // In short naps, so that Ctrl-C is heard.
            let nap = Duration::from_millis((*wait_ms).min(50));
            #[allow(
                clippy::disallowed_methods,
                reason = "the monotonic clock has to run on; a frozen one raises instead"
            )]
            py.detach(|| std::thread::sleep(nap));
            py.check_signals()
        }
        Refusal::NodeNotChosen => choose_node(py),
        Refusal::NoRandomness(_) => Err(PyOSError::new_err(refusal.to_string())),
        Refusal::Exhausted { .. } | Refusal::OutOfRange { .. } | Refusal::Node(_) => {
            Err(error(py, "ConfigurationError", &refusal.to_string()))
        }
    }
}

/// Reads `$MINTKEY_NODE` and `$MINTKEY_NODE_DIR` as Python sees them.
fn choose_node(py: Python<'_>) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    let variable = |name: &str| -> PyResult<Option<String>> {
        environ.call_method1("get", (name,))?.extract()
    };
    let node = match variable("MINTKEY_NODE")?.as_deref().map(str::trim) {
        None | Some("") => NodeChoice::ANY,
        Some(text) => NodeChoice::parse(text)
            .map_err(|wrong| error(py, "ConfigurationError", &format!("$MINTKEY_NODE: {wrong}")))?,
    };
    let directory = variable("MINTKEY_NODE_DIR")?;
    engine::choose_node(node, directory.as_deref().map(Path::new));
    Ok(())
}

/// Tells people once that the clock stepped back.
#[inline]
pub fn tell_step_back(py: Python<'_>) -> PyResult<()> {
    if engine::stepped_back() {
        return report_step_back(py);
    }
    Ok(())
}

#[cold]
fn report_step_back(py: Python<'_>) -> PyResult<()> {
    if let Some(step) = engine::take_step_back() {
        py.import("mintkey.generators")?
            .call_method1("_report_step_back", (step.from_ms, step.to_ms))?;
    }
    Ok(())
}

/// A new `str` of `len` ASCII characters that `write` fills; it must write ASCII to all of them.
#[inline]
#[allow(
    unsafe_code,
    reason = "the one way to a str without a second copy; each block says why it is sound"
)]
fn ascii(
    py: Python<'_>,
    len: usize,
    write: impl FnOnce(&mut [u8]),
) -> PyResult<Bound<'_, PyString>> {
    let size = len.try_into()?;
    // SAFETY: `PyUnicode_New` gives a new reference or null with an exception set, which is what
    // `from_owned_ptr_or_err` takes; the object is an exact `str`.
    let text = unsafe {
        Bound::from_owned_ptr_or_err(py, pyo3::ffi::PyUnicode_New(size, 127))?
            .cast_into_unchecked::<PyString>()
    };
    // SAFETY: a fresh compact ASCII str has `len` bytes of its own at its data pointer and nobody
    // else has seen it yet; they are set to zero before a slice of them exists.
    unsafe {
        let data = pyo3::ffi::PyUnicode_1BYTE_DATA(text.as_ptr());
        data.write_bytes(0, len);
        write(std::slice::from_raw_parts_mut(data, len));
    }
    Ok(text)
}

/// [`ascii`] of a length known to the compiler.
#[inline]
fn fixed<const LEN: usize>(
    py: Python<'_>,
    write: impl FnOnce(&mut [u8; LEN]),
) -> PyResult<Bound<'_, PyString>> {
    ascii(py, LEN, |out| {
        if let Some((out, _)) = out.split_first_chunk_mut() {
            write(out);
        }
    })
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
fn text(given: &Bound<'_, PyDict>, name: &str) -> PyResult<Option<String>> {
    let Some(value) = given.get_item(name)? else {
        return Ok(None);
    };
    let Ok(text) = value.cast::<PyString>() else {
        let message = format!("{name}={} is no text", value.repr()?);
        return Err(PyTypeError::new_err(message));
    };
    text.to_cow()
        .map(|text| Some(text.into_owned()))
        .or_else(|_| {
            let message = format!("{name}={} holds a lone surrogate", value.repr()?);
            Err(error(given.py(), "ConfigurationError", &message))
        })
}

/// A parameter that is a whole number.
fn int(given: &Bound<'_, PyDict>, name: &str) -> PyResult<Option<i64>> {
    let Some(value) = given.get_item(name)? else {
        return Ok(None);
    };
    let told = match value.extract() {
        Ok(int) if !value.is_instance_of::<PyBool>() => return Ok(Some(int)),
        Err(wrong) if wrong.is_instance_of::<PyOverflowError>(given.py()) => {
            let message = format!("{name}={value} is far out of range");
            return Err(error(given.py(), "ConfigurationError", &message));
        }
        _ => value.repr()?,
    };
    let message = format!("{name}={told} is no whole number");
    Err(PyTypeError::new_err(message))
}

fn node_choice(node: &Bound<'_, PyAny>) -> PyResult<NodeChoice> {
    let text = match node.cast::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) if node.is_instance_of::<PyInt>() => node.str()?.to_string_lossy().into_owned(),
        Err(_) => {
            return Err(PyTypeError::new_err(format!(
                "node={} is neither a number nor a range such as \"32-47\"",
                node.repr()?
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
        let (prefix, alphabet) = (text(given, "prefix")?, text(given, "alphabet")?);
        let node = given
            .get_item("node")?
            .map(|node| node_choice(&node))
            .transpose()?;
        let parameters = Parameters {
            prefix: prefix.as_deref(),
            size: int(given, "size")?,
            alphabet: alphabet.as_deref(),
            length: int(given, "length")?,
            node,
            epoch: int(given, "epoch")?,
            plus_ms: int(given, "plus")?,
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

/// Values minted under one hold of the lock.
const RUN: usize = 128;

/// A list of `n` values: drawn in runs under the lock, made into objects outside it.
#[inline]
#[allow(
    unsafe_code,
    reason = "a list of a known length; each block says why it is sound"
)]
fn many<'py, T: Copy>(
    py: Python<'py>,
    n: usize,
    blank: T,
    draw: impl Fn(&mut Session<'_>, Reading) -> Result<T, Box<Refusal>>,
    make: impl Fn(&T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let size = n.try_into()?;
    // SAFETY: a new reference, or null with the exception set.
    let values = unsafe {
        Bound::from_owned_ptr_or_err(py, pyo3::ffi::PyList_New(size))?
            .cast_into_unchecked::<PyList>()
    };
    let mut drawn = [blank; RUN];
    let mut left = n;
    while left > 0 {
        let run = left.min(RUN);
        let mut done = 0;
        step(py, |session| {
            let reading = session.minter.read();
            for slot in &mut drawn[done..run] {
                *slot = draw(session, reading)?;
                done += 1;
            }
            Ok(())
        })?;
        for (at, slot) in (n - left..).zip(&drawn[..run]) {
            let value = make(slot)?.into_ptr();
            // SAFETY: the list has n places, `at` is one of them and still empty; it takes the reference.
            unsafe { pyo3::ffi::PyList_SET_ITEM(values.as_ptr(), at.cast_signed(), value) };
        }
        left -= run;
    }
    Ok(values)
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
