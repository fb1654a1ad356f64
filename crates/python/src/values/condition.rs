//! Conditions as Python objects: immutable, with the attribute that they belong to.

use std::hash::{DefaultHasher, Hash, Hasher};

use mintkey_store::condition::MAX_LEVELS;
use mintkey_store::{Condition, Work};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::exception::{exception, invalid_at_label};
use crate::values::item::PyItem;
use crate::values::statement::{Statement, path, refused, test};

/// A condition on an item.
#[pyclass(frozen, name = "Condition", module = "mintkey._core")]
pub struct PyCondition {
    form: Form,
    /// The levels of nesting: 1 for a single test.
    levels: usize,
}

enum Form {
    Test(Statement, Condition),
    Every(Vec<Py<PyCondition>>),
    Some(Vec<Py<PyCondition>>),
    Not(Py<PyCondition>),
}

#[pymethods]
impl PyCondition {
    /// A test of one path. `json` compares texts of JSON by their values.
    #[new]
    #[pyo3(signature = (root, label, steps, name, operands, json=false))]
    fn new(
        root: Py<PyAny>,
        label: String,
        steps: &Bound<'_, PyTuple>,
        name: String,
        operands: Bound<'_, PyTuple>,
        json: bool,
    ) -> PyResult<Self> {
        let py = steps.py();
        let path = path(steps)?;
        let inner = test(path, &name, &operands, json);
        let inner = inner.map_err(|refusal| refused(py, &label, refusal))?;
        inner
            .check()
            .map_err(|error| invalid_at_label(py, &label, &error.message))?;
        let statement = Statement::new(root, label, steps, name, operands);
        Ok(Self {
            form: Form::Test(statement, inner),
            levels: 1,
        })
    }

    /// The condition that all of these are true.
    #[staticmethod]
    fn every(conditions: Vec<Py<Self>>) -> Self {
        Self {
            levels: levels_of(&conditions),
            form: Form::Every(conditions),
        }
    }

    /// The condition that at least one of these is true.
    #[staticmethod]
    fn some(conditions: Vec<Py<Self>>) -> Self {
        Self {
            levels: levels_of(&conditions),
            form: Form::Some(conditions),
        }
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let all = |parts: &[Py<Self>]| {
            let parts: Vec<_> = parts.iter().map(|part| part.clone_ref(py)).collect();
            PyTuple::new(py, [parts])
        };
        Ok(match &slf.get().form {
            Form::Test(statement, inner) => {
                let (root, label, steps, name, operands) = statement.arguments(py);
                let json = inner.is_json();
                let arguments = (root, label, steps, name, operands, json).into_pyobject(py)?;
                (slf.get_type().into_any(), arguments)
            }
            Form::Every(parts) => (slf.get_type().getattr("every")?, all(parts)?),
            Form::Some(parts) => (slf.get_type().getattr("some")?, all(parts)?),
            Form::Not(inner) => {
                let invert = py.import("operator")?.getattr("invert")?;
                (invert, PyTuple::new(py, [inner])?)
            }
        })
    }

    fn __and__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::joined(
            slf,
            other,
            |form| match form {
                Form::Every(parts) => Some(parts),
                _ => None,
            },
            Form::Every,
        )
    }

    fn __or__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::joined(
            slf,
            other,
            |form| match form {
                Form::Some(parts) => Some(parts),
                _ => None,
            },
            Form::Some,
        )
    }

    fn __invert__(slf: &Bound<'_, Self>) -> PyResult<Self> {
        Self::nested(
            slf.py(),
            Form::Not(slf.clone().unbind()),
            slf.get().levels + 1,
        )
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        let shown = self.shortened(py)?;
        Err(PyTypeError::new_err(format!(
            "the condition {shown} has no truth value: it is evaluated in the store. Combine conditions with & | ~ \
             (each in parentheses) instead of `and`, `or`, `not`, chained comparisons"
        )))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let joined = |parts: &[Py<Self>], sign: &str| -> PyResult<String> {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| part.get().__repr__(py))
                .collect::<PyResult<_>>()?;
            Ok(parts.join(sign))
        };
        Ok(match &self.form {
            Form::Test(statement, _) => statement.text(py)?,
            Form::Every(parts) => joined(parts, " & ")?,
            Form::Some(parts) => format!("({})", joined(parts, " | ")?),
            Form::Not(inner) => {
                let text = inner.get().__repr__(py)?;
                if text.starts_with('(') || matches!(inner.get().form, Form::Test(..)) {
                    format!("~{text}")
                } else {
                    format!("~({text})")
                }
            }
        })
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other
            .cast::<Self>()
            .is_ok_and(|other| self.is_same(other.get()))
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.fingerprint().hash(&mut hasher);
        hasher.finish()
    }

    /// The name of a test, such as `"=="`; None for a combination.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.statement().map(|statement| statement.name.as_str())
    }

    /// The attribute of a test of a whole attribute against values; None for other tests and for combinations.
    #[getter]
    fn attribute(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.form {
            Form::Test(statement, inner)
                if inner.other_path().is_none() && statement.steps.bind(py).len() == 1 =>
            {
                Some(statement.root.clone_ref(py))
            }
            _ => None,
        }
    }

    /// The encoded operands of a test.
    #[getter]
    fn operands<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        self.statement().map_or_else(
            || PyTuple::empty(py),
            |statement| statement.operands.bind(py).clone(),
        )
    }

    /// Whether no item can match.
    #[getter]
    fn is_false(&self) -> bool {
        self.compiled().constant() == Some(false)
    }

    /// Whether DynamoDB cannot evaluate the condition.
    #[getter]
    fn is_local(&self) -> bool {
        self.compiled().is_local()
    }

    /// The conditions that are joined by AND at the top level.
    fn conjuncts(slf: &Bound<'_, Self>) -> Vec<Py<Self>> {
        match &slf.get().form {
            Form::Every(parts) => parts
                .iter()
                .flat_map(|part| Self::conjuncts(part.bind(slf.py())))
                .collect(),
            _ => vec![slf.clone().unbind()],
        }
    }

    /// The attributes in the condition.
    fn roots(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Ok(match &self.form {
            Form::Test(statement, _) => statement.roots(py)?,
            Form::Every(parts) | Form::Some(parts) => {
                let mut roots = Vec::new();
                for part in parts {
                    roots.extend(part.get().roots(py)?);
                }
                roots
            }
            Form::Not(inner) => inner.get().roots(py)?,
        })
    }

    /// Whether the condition holds for an item.
    fn matches(&self, py: Python<'_>, item: &PyItem) -> PyResult<bool> {
        let mut ask = || {
            py.check_signals()?;
            // Other threads run meanwhile.
            py.detach(|| {});
            Ok(())
        };
        let mut work = Work::new(&mut ask);
        self.compiled().evaluate(&item.0, &mut work)
    }

    /// A text that is the same for equal conditions, in every process.
    fn fingerprint(&self) -> String {
        format!("{:?}", self.compiled())
    }
}

impl PyCondition {
    /// The condition of the contract.
    pub fn compiled(&self) -> Condition {
        let all = |parts: &[Py<Self>]| parts.iter().map(|part| part.get().compiled()).collect();
        match &self.form {
            Form::Test(_, inner) => inner.clone(),
            Form::Every(parts) => Condition::And(all(parts)),
            Form::Some(parts) => Condition::Or(all(parts)),
            Form::Not(inner) => Condition::Not(Box::new(inner.get().compiled())),
        }
    }

    const fn statement(&self) -> Option<&Statement> {
        match &self.form {
            Form::Test(statement, _) => Some(statement),
            _ => None,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let all = |left: &[Py<Self>], right: &[Py<Self>]| {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.get().is_same(right.get()))
        };
        match (&self.form, &other.form) {
            (Form::Test(left, inner), Form::Test(right, other)) => {
                left.label == right.label && left.name == right.name && inner == other
            }
            (Form::Every(left), Form::Every(right)) | (Form::Some(left), Form::Some(right)) => {
                all(left, right)
            }
            (Form::Not(left), Form::Not(right)) => left.get().is_same(right.get()),
            _ => false,
        }
    }

    fn shortened(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.__repr__(py)?;
        Ok(mintkey_store::error::shortened(&text).to_string())
    }

    /// Joins two conditions. A chain of the same operator counts as one level.
    fn joined(
        slf: &Bound<'_, Self>,
        other: &Bound<'_, PyAny>,
        same: impl Fn(&Form) -> Option<&Vec<Py<Self>>>,
        form: impl Fn(Vec<Py<Self>>) -> Form,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let mut parts = Vec::new();
        let mut levels = 0;
        for side in [slf, other] {
            let condition = side.get();
            if let Some(own) = same(&condition.form) {
                parts.extend(own.iter().map(|part| part.clone_ref(py)));
                levels = levels.max(condition.levels);
            } else {
                parts.push(side.clone().unbind());
                levels = levels.max(condition.levels + 1);
            }
        }
        let joined = Self::nested(py, form(parts), levels)?;
        Ok(Bound::new(py, joined)?.into_any().unbind())
    }

    fn nested(py: Python<'_>, form: Form, levels: usize) -> PyResult<Self> {
        if levels > MAX_LEVELS {
            let message = format!(
                "a condition may nest at most {MAX_LEVELS} levels of & | ~: join conditions in a row, as in \
                 a & b & c, or filter in several steps"
            );
            return Err(exception(py, "InvalidValue", &message));
        }
        Ok(Self { form, levels })
    }
}

fn levels_of(parts: &[Py<PyCondition>]) -> usize {
    1 + parts
        .iter()
        .map(|part| part.get().levels)
        .max()
        .unwrap_or(0)
}
