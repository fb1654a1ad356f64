//! One step under the lock of the engine, repeated after the engine refused it.

use std::path::Path;
use std::time::Duration;

use mintkey_ids::engine::{self, Session};
use mintkey_ids::{NodeChoice, Refusal};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::exception::exception;

/// Runs a step under the lock of the engine. If the engine refuses, resolves the refusal and tries again.
#[inline]
pub fn step<T>(
    py: Python<'_>,
    mut work: impl FnMut(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> PyResult<T> {
    match engine::with(&mut work) {
        Ok(done) => Ok(done),
        Err(refusal) => retry(py, refusal, work),
    }
}

/// Resolves refusals until the step succeeds.
#[cold]
#[inline(never)]
fn retry<T>(
    py: Python<'_>,
    mut refusal: Box<Refusal>,
    mut work: impl FnMut(&mut Session<'_>) -> Result<T, Box<Refusal>>,
) -> PyResult<T> {
    loop {
        resolve(py, &refusal)?;
        match engine::with(&mut work) {
            Ok(done) => return Ok(done),
            Err(next) => refusal = next,
        }
    }
}

/// Does what the next attempt needs, or raises.
#[cold]
fn resolve(py: Python<'_>, refusal: &Refusal) -> PyResult<()> {
    match refusal {
        Refusal::Exhausted {
            wait_ms: Some(wait_ms),
            ..
        } => {
            // In short intervals, so that Ctrl-C ends the wait.
            sleep(py, (*wait_ms).min(50))
        }
        Refusal::NodesBusy => sleep(py, 1),
        Refusal::NotSeeded => py
            .detach(engine::seed)
            .map_err(|refusal| PyOSError::new_err(refusal.to_string())),
        Refusal::NodeNotChosen => choose_node(py),
        Refusal::NodeNotClaimed { choice, random } => {
            match py.detach(|| engine::claim_node(*choice, *random)) {
                Ok(()) => Ok(()),
                Err(refusal) => resolve(py, &refusal),
            }
        }
        Refusal::NodesUnchecked => {
            py.detach(engine::check_nodes);
            Ok(())
        }
        Refusal::NoRandomness(_) => Err(PyOSError::new_err(refusal.to_string())),
        Refusal::Exhausted { .. } | Refusal::OutOfRange { .. } | Refusal::Node(_) => {
            Err(exception(py, "ConfigurationError", &refusal.to_string()))
        }
    }
}

fn sleep(py: Python<'_>, ms: u64) -> PyResult<()> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the wait ends when the clock advances; a frozen clock raises instead"
    )]
    py.detach(|| std::thread::sleep(Duration::from_millis(ms)));
    py.check_signals()
}

/// Reads `$MINTKEY_NODE` and `$MINTKEY_NODE_DIR` from `os.environ`.
fn choose_node(py: Python<'_>) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    let variable = |name: &str| -> PyResult<Option<String>> {
        environ.call_method1("get", (name,))?.extract()
    };
    let node = match variable("MINTKEY_NODE")?.as_deref().map(str::trim) {
        None | Some("") => NodeChoice::ANY,
        Some(text) => NodeChoice::parse(text).map_err(|wrong| {
            exception(py, "ConfigurationError", &format!("$MINTKEY_NODE: {wrong}"))
        })?,
    };
    let directory = variable("MINTKEY_NODE_DIR")?;
    engine::choose_node(node, directory.as_deref().map(Path::new));
    Ok(())
}

/// Reports a step back of the clock once.
#[inline]
pub fn report_step_back(py: Python<'_>) -> PyResult<()> {
    if engine::stepped_back() {
        return call_step_back_hook(py);
    }
    Ok(())
}

#[cold]
fn call_step_back_hook(py: Python<'_>) -> PyResult<()> {
    if let Some(step) = engine::take_step_back() {
        py.import("mintkey.generators")?
            .call_method1("_report_step_back", (step.from_ms, step.to_ms))?;
    }
    Ok(())
}
