//! What a condition or an action says about one path, and its meaning in the contract.

use mintkey_store::{Action, Comparison, Condition, JsonText, Name, Path, Step, Value, ValueType};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};

use crate::exception::invalid_at_label;
use crate::values::convert::{Kind, number, to_value};
use crate::values::elements::each;
use crate::values::unstorable::Unstorable;

/// The number of operands of a test or change with another attribute: that attribute, the label and the steps.
const OTHER_ATTRIBUTE: usize = 3;

/// What a condition or an action says about one path, as the caller wrote it.
pub struct Statement {
    /// The attribute at the start of the path.
    pub root: Py<PyAny>,
    pub label: String,
    pub steps: Py<PyTuple>,
    pub name: String,
    pub operands: Py<PyTuple>,
}

impl Statement {
    /// What a caller says with these arguments.
    pub fn new(
        root: Py<PyAny>,
        label: String,
        steps: &Bound<'_, PyTuple>,
        name: String,
        operands: Bound<'_, PyTuple>,
    ) -> Self {
        Self {
            root,
            label,
            steps: steps.clone().unbind(),
            name,
            operands: operands.unbind(),
        }
    }

    /// The arguments that build the same statement.
    pub fn arguments<'py>(
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
    pub fn roots(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let mut roots = vec![self.root.clone_ref(py)];
        let operands = self.operands.bind(py);
        if operands.len() == OTHER_ATTRIBUTE {
            roots.push(operands.get_item(0)?.unbind());
        }
        Ok(roots)
    }

    pub fn text(&self, py: Python<'_>) -> PyResult<String> {
        let shortened = py.import("mintkey.errors")?.getattr("shortened")?;
        let operands = self.operands.bind(py);
        let text = |index: usize| -> PyResult<String> {
            shortened.call1((operands.get_item(index)?,))?.extract()
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

/// The exception for operands of an attribute that no store can hold.
pub fn refused(py: Python<'_>, label: &str, refusal: Unstorable) -> PyErr {
    match refusal {
        Unstorable::Reason(reason) => invalid_at_label(py, label, &reason),
        Unstorable::Raised(error) => error,
    }
}

fn unknown(name: &str) -> Unstorable {
    PyValueError::new_err(format!("there is no condition or action named {name:?}")).into()
}

fn operand(operands: &Bound<'_, PyTuple>, index: usize) -> Result<Value, Unstorable> {
    to_value(&operands.get_item(index)?, 1)
}

/// The values of a list.
fn values(operands: &Bound<'_, PyTuple>) -> Result<Vec<Value>, Unstorable> {
    let mut values = Vec::new();
    each(&operands.get_item(0)?, |_, value| {
        values.push(to_value(&value, 1)?);
        Ok(())
    })?;
    Ok(values)
}

/// The condition that a test means.
pub fn test(
    path: Path,
    name: &str,
    operands: &Bound<'_, PyTuple>,
    json: bool,
) -> Result<Condition, Unstorable> {
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

/// The path of operands that are another attribute, its label and its steps, in index of a value.
fn other_path(operands: &Bound<'_, PyTuple>) -> PyResult<Option<Path>> {
    if operands.len() != OTHER_ATTRIBUTE {
        return Ok(None);
    }
    path(operands.get_item(2)?.cast::<PyTuple>()?).map(Some)
}

/// The action that a change means.
pub fn action(path: Path, name: &str, operands: &Bound<'_, PyTuple>) -> Result<Action, Unstorable> {
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

fn value_type(name: &str) -> Result<ValueType, Unstorable> {
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

/// The path of these steps, which are names and indexes.
pub fn path(steps: &Bound<'_, PyTuple>) -> PyResult<Path> {
    let steps = steps.iter().map(|step| {
        Ok(match step.cast::<PyString>() {
            Ok(name) => Step::Name(Name::from(name.to_str()?)),
            Err(_) => Step::Index(step.cast::<PyInt>()?.extract()?),
        })
    });
    Ok(Path(steps.collect::<PyResult<_>>()?))
}
