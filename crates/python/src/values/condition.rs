//! Conditions and update actions as Python objects: immutable, with the attribute that they belong to.

use std::hash::{DefaultHasher, Hash, Hasher};

use mintkey_store::condition::MAX_LEVELS;
use mintkey_store::{
    Action, Comparison, Condition, JsonText, Name, Path, Step, Value, ValueType, Work,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};

use crate::exception::{exception, invalid_at_label};
use crate::values::convert::{Kind, number, to_value};
use crate::values::elements::each;
use crate::values::item::PyItem;
use crate::values::refusal::Refusal;

/// The number of operands of a test or change with another attribute: that attribute, the label and the steps.
const OTHER_ATTRIBUTE: usize = 3;

/// What a condition or an action says about one path, as the caller wrote it.
struct Statement {
    /// The attribute at the start of the path.
    root: Py<PyAny>,
    label: String,
    steps: Py<PyTuple>,
    name: String,
    operands: Py<PyTuple>,
}

impl Statement {
    /// The arguments that build the same statement.
    fn arguments<'py>(
        &self,
        py: Python<'py>,
    ) -> (&Py<PyAny>, &str, &Py<PyTuple>, &str, Bound<'py, PyTuple>) {
        (
            &self.root,
            &self.label,
            &self.steps,
            &self.name,
            self.operands.bind(py).clone(),
        )
    }

    /// The attributes that it is about.
    fn roots(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let mut roots = vec![self.root.clone_ref(py)];
        let operands = self.operands.bind(py);
        if operands.len() == OTHER_ATTRIBUTE {
            roots.push(operands.get_item(0)?.unbind());
        }
        Ok(roots)
    }

    fn text(&self, py: Python<'_>) -> PyResult<String> {
        let shortened = py.import("mintkey.errors")?.getattr("shortened")?;
        let operands = self.operands.bind(py);
        let text = |place: usize| -> PyResult<String> {
            shortened.call1((operands.get_item(place)?,))?.extract()
        };
        let (label, name) = (&self.label, &self.name);
        if operands.len() == OTHER_ATTRIBUTE {
            let other: String = operands.get_item(1)?.extract()?;
            return Ok(match comparison(name) {
                Some(_) => format!("({label} {name} {other})"),
                None => format!("{label}.{name}({other})"),
            });
        }
        if comparison(name).is_some() {
            return Ok(format!("({label} {name} {})", text(0)?));
        }
        if name == "size" {
            let op: String = operands.get_item(0)?.extract()?;
            return Ok(format!("({label}.size() {op} {})", text(1)?));
        }
        let operands: Vec<String> = (0..operands.len()).map(text).collect::<PyResult<_>>()?;
        let name = match &**name {
            "is_stored" => "exists",
            "is_not_stored" => "does_not_exist",
            other => other,
        };
        Ok(format!("{label}.{name}({})", operands.join(", ")))
    }
}

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
        let operands = operands.unbind();
        let statement = Statement {
            root,
            label,
            steps: steps.clone().unbind(),
            name,
            operands,
        };
        Ok(Self {
            form: Form::Test(statement, inner),
            levels: 1,
        })
    }

    /// The condition that all of these are true.
    #[staticmethod]
    fn every(conditions: Vec<Py<Self>>) -> Self {
        Self {
            levels: 1 + conditions
                .iter()
                .map(|one| one.get().levels)
                .max()
                .unwrap_or(0),
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

/// A change that the store computes.
#[pyclass(frozen, name = "Action", module = "mintkey._core")]
pub struct PyAction {
    statement: Statement,
    pub inner: Action,
}

#[pymethods]
impl PyAction {
    #[new]
    fn new(
        root: Py<PyAny>,
        label: String,
        steps: &Bound<'_, PyTuple>,
        name: String,
        operands: Bound<'_, PyTuple>,
    ) -> PyResult<Self> {
        let py = steps.py();
        let inner = action(path(steps)?, &name, &operands);
        let inner = inner.map_err(|refusal| refused(py, &label, refusal))?;
        let operands = operands.unbind();
        let statement = Statement {
            root,
            label,
            steps: steps.clone().unbind(),
            name,
            operands,
        };
        Ok(Self { statement, inner })
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let arguments = slf.get().statement.arguments(py).into_pyobject(py)?;
        Ok((slf.get_type().into_any(), arguments))
    }

    /// The attribute that it changes, and the one whose value it reads.
    fn roots(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.statement.roots(py)
    }

    /// The attribute that it changes, or a part of.
    #[getter]
    fn root(&self, py: Python<'_>) -> Py<PyAny> {
        self.statement.root.clone_ref(py)
    }

    /// The kind of change, such as `"add"`.
    #[getter]
    fn name(&self) -> &str {
        &self.statement.name
    }

    /// Whether it changes the attribute as a whole.
    #[getter]
    fn is_whole(&self) -> bool {
        self.inner.path().0.len() == 1
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.statement.text(py)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            let other = other.get();
            self.statement.label == other.statement.label && self.inner == other.inner
        })
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.inner).hash(&mut hasher);
        hasher.finish()
    }
}

fn refused(py: Python<'_>, label: &str, refusal: Refusal) -> PyErr {
    match refusal {
        Refusal::Reason(reason) => invalid_at_label(py, label, &reason),
        Refusal::Raised(error) => error,
    }
}

fn unknown(name: &str) -> Refusal {
    PyValueError::new_err(format!("there is no condition or action named {name:?}")).into()
}

fn operand(operands: &Bound<'_, PyTuple>, place: usize) -> Result<Value, Refusal> {
    to_value(&operands.get_item(place)?, 1)
}

/// The values of a list.
fn values(operands: &Bound<'_, PyTuple>) -> Result<Vec<Value>, Refusal> {
    let mut values = Vec::new();
    each(&operands.get_item(0)?, |_, value| {
        values.push(to_value(&value, 1)?);
        Ok(())
    })?;
    Ok(values)
}

fn test(
    path: Path,
    name: &str,
    operands: &Bound<'_, PyTuple>,
    json: bool,
) -> Result<Condition, Refusal> {
    if json && matches!(name, "==" | "!=" | "is_in") {
        let texts = match name {
            "is_in" => values(operands)?,
            _ => vec![operand(operands, 0)?],
        };
        let texts = texts.iter().filter_map(|text| match text {
            Value::String(text) => Some(JsonText::new(text)),
            _ => None,
        });
        let is_json = Condition::IsJson {
            path,
            texts: texts.collect(),
        };
        return Ok(match name {
            "!=" => Condition::Not(Box::new(is_json)),
            _ => is_json,
        });
    }
    if let Some(op) = comparison(name) {
        if let Some(other) = other_path(operands)? {
            return Ok(Condition::CompareValues { path, op, other });
        }
        let value = operand(operands, 0)?;
        return Ok(Condition::Compare { path, op, value });
    }
    Ok(match name {
        "between" => Condition::Between {
            path,
            low: operand(operands, 0)?,
            high: operand(operands, 1)?,
        },
        "is_in" => Condition::IsIn {
            path,
            values: values(operands)?,
        },
        "begins_with" => Condition::BeginsWith {
            path,
            prefix: operand(operands, 0)?,
        },
        "contains" => Condition::Contains {
            path,
            value: operand(operands, 0)?,
        },
        // A null is no value, except where nulls are kept.
        "exists" => Condition::And(vec![
            Condition::Exists(path.clone()),
            Condition::Not(Box::new(Condition::IsType(path, ValueType::Null))),
        ]),
        "does_not_exist" => Condition::Or(vec![
            Condition::Missing(path.clone()),
            Condition::IsType(path, ValueType::Null),
        ]),
        "is_stored" => Condition::Exists(path),
        "is_not_stored" => Condition::Missing(path),
        "is_type" => {
            let wanted: String = operands.get_item(0)?.extract()?;
            Condition::IsType(path, value_type(&wanted)?)
        }
        "size" => {
            let op: String = operands.get_item(0)?.extract()?;
            let op = comparison(&op).ok_or_else(|| unknown(&op))?;
            let value = number(Kind::Number, &operands.get_item(1)?)?;
            Condition::Size { path, op, value }
        }
        other => return Err(unknown(other)),
    })
}

/// The path of operands that are another attribute, its label and its steps, in place of a value.
fn other_path(operands: &Bound<'_, PyTuple>) -> PyResult<Option<Path>> {
    if operands.len() != OTHER_ATTRIBUTE {
        return Ok(None);
    }
    path(operands.get_item(2)?.cast::<PyTuple>()?).map(Some)
}

fn action(path: Path, name: &str, operands: &Bound<'_, PyTuple>) -> Result<Action, Refusal> {
    Ok(match name {
        "set" => match other_path(operands)? {
            Some(from) => Action::SetFrom(path, from),
            None => Action::Set(path, operand(operands, 0)?),
        },
        "remove" => Action::Remove(path),
        "add" => Action::Add(path, number(Kind::Number, &operands.get_item(0)?)?),
        "append" => Action::Append(path, values(operands)?),
        "prepend" => Action::Prepend(path, values(operands)?),
        "set_if_absent" => Action::SetIfAbsent(path, operand(operands, 0)?),
        "add_to_set" => Action::AddToSet(path, operand(operands, 0)?),
        "delete_from_set" => Action::DeleteFromSet(path, operand(operands, 0)?),
        other => return Err(unknown(other)),
    })
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "==" => Comparison::Eq,
        "!=" => Comparison::Ne,
        "<" => Comparison::Lt,
        "<=" => Comparison::Le,
        ">" => Comparison::Gt,
        ">=" => Comparison::Ge,
        _ => return None,
    })
}

fn value_type(name: &str) -> Result<ValueType, Refusal> {
    Ok(match name {
        "string" => ValueType::String,
        "number" => ValueType::Number,
        "boolean" => ValueType::Bool,
        "null" => ValueType::Null,
        "binary" => ValueType::Binary,
        "list" => ValueType::List,
        "map" => ValueType::Map,
        "string_set" => ValueType::StringSet,
        "number_set" => ValueType::NumberSet,
        "binary_set" => ValueType::BinarySet,
        other => return Err(unknown(other)),
    })
}

fn path(steps: &Bound<'_, PyTuple>) -> PyResult<Path> {
    let steps = steps.iter().map(|step| {
        Ok(match step.cast::<PyString>() {
            Ok(name) => Step::Name(Name::from(name.to_str()?)),
            Err(_) => Step::Index(step.cast::<PyInt>()?.extract()?),
        })
    });
    Ok(Path(steps.collect::<PyResult<_>>()?))
}
