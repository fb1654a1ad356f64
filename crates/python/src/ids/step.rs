//! One step under the engine's lock, and what lets it succeed: waiting, asking the environment, telling the log.

use std::path::Path;
use std::time::Duration;

use mintkey_ids::engine::{self, Session};
use mintkey_ids::{NodeChoice, Refusal};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::error;

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
            nap(py, (*wait_ms).min(50))
        }
        Refusal::NodesBusy => nap(py, 1),
        Refusal::NotSeeded => py
            .detach(engine::seed)
            .map_err(|refusal| PyOSError::new_err(refusal.to_string())),
        Refusal::NodeNotChosen => choose_node(py),
        Refusal::NodeNotClaimed { choice, random } => {
            match py.detach(|| engine::claim_node(*choice, *random)) {
                Ok(()) => Ok(()),
                Err(refusal) => overcome(py, &refusal),
            }
        }
        Refusal::NodesUnchecked => {
            py.detach(engine::check_nodes);
            Ok(())
        }
        Refusal::NoRandomness(_) => Err(PyOSError::new_err(refusal.to_string())),
        Refusal::Exhausted { .. } | Refusal::OutOfRange { .. } | Refusal::Node(_) => {
            Err(error(py, "ConfigurationError", &refusal.to_string()))
        }
    }
}

fn nap(py: Python<'_>, ms: u64) -> PyResult<()> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the monotonic clock has to run on; a frozen one raises instead"
    )]
    py.detach(|| std::thread::sleep(Duration::from_millis(ms)));
    py.check_signals()
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
