//! Generating ids: strategies, plain functions, the frozen clock, parsing.
//!
//! An id needs one allocation, that of its `str`: its bits are generated under the lock of the engine and written into the
//! `str` after it. No code of Python runs while the lock is held.

mod arguments;
mod objects;
mod parsing;
mod plain;
mod step;
mod strategy;

use mintkey_ids::clock::EngineClock;
use mintkey_ids::engine;
use mintkey_ids::{Draft, Kind, Refusal};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

pub use parsing::{bounds, candidates, from_bytes, parse};
pub use plain::register;
pub use step::{report_step_back, step};
pub use strategy::PyStrategy;

use objects::{fixed, many};

/// Generates values of all strategies in one step, from one clock reading.
///
/// Returns the values and the reading in milliseconds since the Unix epoch. Timestamps use `at`
/// instead of the reading if it is given.
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
            .map(|strategy| session.mint(strategy.strategy(), reading, at))
            .collect();
        Ok((drafts?, reading.ms()))
    })?;
    let values = PyList::empty(py);
    for (strategy, draft) in strategies.iter().zip(&drafts) {
        values.append(strategy.value(py, draft)?)?;
    }
    report_step_back(py)?;
    Ok((values, ms))
}

/// Generates one value of a strategy.
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
        session.mint(strategy.strategy(), reading, at)
    })?;
    report_step_back(py)?;
    strategy.value(py, &draft)
}

/// Generates `n` values of a strategy, up to 128 from one clock reading.
#[pyfunction]
#[pyo3(signature = (strategy, n, /))]
pub fn mint_many<'py>(
    py: Python<'py>,
    strategy: &Bound<'py, PyStrategy>,
    n: usize,
) -> PyResult<Bound<'py, PyList>> {
    let this = strategy.get();
    let values = match this.strategy().kind() {
        // The formats that are most used have a loop of their own.
        Kind::Ulid if this.strategy().prefix().is_empty() => many(
            py,
            n,
            0,
            |session, reading| session.minter.ulid(reading),
            |bits| Ok(fixed(py, |out| mintkey_ids::write_ulid(*bits, out))?.into_any()),
        ),
        Kind::Uuid7 if this.strategy().prefix().is_empty() => many(
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
            |session, reading| session.mint(this.strategy(), reading, None),
            |draft| this.value(py, draft),
        ),
    }?;
    report_step_back(py)?;
    Ok(values)
}

/// Makes the next ids differ from those of every copy of this process.
#[pyfunction]
pub fn reseed(py: Python<'_>) {
    py.detach(engine::reseed);
}

/// The time of the engine in milliseconds since the Unix epoch: of the frozen clock, if there is one.
#[pyfunction]
pub fn now_ms() -> i64 {
    mintkey_ids::now_ms()
}

/// Freezes the clock of the engine at `microseconds` since the Unix epoch; with a 32-byte `seed`, ids repeat.
#[pyfunction]
#[pyo3(signature = (microseconds, seed=None, /))]
pub fn freeze(microseconds: i64, seed: Option<[u8; 32]>) -> u64 {
    engine::freeze(microseconds, seed)
}

/// Ends a block that `freeze` started; false if there is no such block.
#[pyfunction]
#[pyo3(signature = (block, /))]
pub fn thaw(block: u64) -> bool {
    engine::thaw(block)
}

/// Advances or sets the clock of a frozen block, and returns its reading in microseconds.
#[pyfunction]
#[pyo3(signature = (block, advance, set=None, /))]
pub fn move_clock(block: u64, advance: i64, set: Option<i64>) -> PyResult<i64> {
    engine::move_clock(block, |clock: &mut EngineClock| match set {
        Some(to) => clock.set(to),
        None => clock.advance(advance),
    })
    .ok_or_else(|| PyValueError::new_err("the frozen block has ended"))
}
