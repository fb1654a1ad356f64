//! The nested tuples of `mintkey.conditions` read as the contract's conditions and updates.

use mintkey_store::condition::MAX_LEVELS;
use mintkey_store::{Action, Comparison, Condition, Name, Path, Step, Value, ValueType};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyTuple};

use crate::values::convert::{Kind, number, to_value};
use crate::values::refusal::{Converted, Refusal};

/// The condition that a tuple describes.
pub fn condition(tuple: &Bound<'_, PyAny>) -> Converted<Condition> {
    nested(tuple, 1)
}

fn nested(tuple: &Bound<'_, PyAny>, level: usize) -> Converted<Condition> {
    // One more than callers may build: a query joins its conditions by an AND of its own.
    if level > MAX_LEVELS + 1 {
        return Err(Refusal::Reason(format!(
            "the condition nests deeper than {MAX_LEVELS} levels"
        )));
    }
    let tuple = tuple.cast::<PyTuple>().map_err(PyErr::from)?;
    let name: String = tuple.get_item(0)?.extract()?;
    let several = || {
        tuple
            .iter()
            .skip(1)
            .map(|part| nested(&part, level + 1))
            .collect::<Converted<Vec<_>>>()
    };
    match name.as_str() {
        "and" => return Ok(Condition::And(several()?)),
        "or" => return Ok(Condition::Or(several()?)),
        "not" => {
            let inner = nested(&tuple.get_item(1)?, level + 1)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        _ => {}
    }
    let path = path(&tuple.get_item(1)?)?;
    let operand = |place: usize| value(&tuple.get_item(place)?);
    if let Some(op) = comparison(&name) {
        return Ok(Condition::Compare {
            path,
            op,
            value: operand(2)?,
        });
    }
    Ok(match name.as_str() {
        "between" => Condition::Between {
            path,
            low: operand(2)?,
            high: operand(3)?,
        },
        "is_in" => Condition::IsIn {
            path,
            values: tuple
                .get_item(2)?
                .cast::<PyList>()
                .map_err(PyErr::from)?
                .iter()
                .map(|one| value(&one))
                .collect::<Converted<_>>()?,
        },
        "begins_with" => Condition::BeginsWith {
            path,
            prefix: operand(2)?,
        },
        "contains" => Condition::Contains {
            path,
            value: operand(2)?,
        },
        "exists" => Condition::Exists(path),
        "does_not_exist" => Condition::Missing(path),
        "is_type" => Condition::IsType(path, value_type(&tuple.get_item(2)?.extract::<String>()?)?),
        "size" => {
            let op: String = tuple.get_item(2)?.extract()?;
            let op = comparison(&op).ok_or_else(|| unknown(&op))?;
            let value = number(Kind::Number, &tuple.get_item(3)?)?;
            Condition::Size { path, op, value }
        }
        other => return Err(unknown(other).into()),
    })
}

/// The update action that a tuple describes.
pub fn action(tuple: &Bound<'_, PyAny>) -> Converted<Action> {
    let tuple = tuple.cast::<PyTuple>().map_err(PyErr::from)?;
    let name: String = tuple.get_item(0)?.extract()?;
    let path = path(&tuple.get_item(1)?)?;
    let operand = || value(&tuple.get_item(2)?);
    Ok(match name.as_str() {
        "set" => Action::Set(path, operand()?),
        "remove" => Action::Remove(path),
        "add" => match operand()? {
            Value::Number(number) => Action::Add(path, number),
            _ => return Err(Refusal::Reason("add takes a number".into())),
        },
        "append" | "prepend" => match operand()? {
            Value::List(values) if name == "append" => Action::Append(path, values),
            Value::List(values) => Action::Prepend(path, values),
            _ => return Err(Refusal::Reason("append and prepend take a list".into())),
        },
        "set_if_absent" => Action::SetIfAbsent(path, operand()?),
        "add_to_set" => Action::AddToSet(path, operand()?),
        "delete_from_set" => Action::DeleteFromSet(path, operand()?),
        other => return Err(unknown(other).into()),
    })
}

fn unknown(name: &str) -> PyErr {
    PyValueError::new_err(format!("there is no condition or action named {name:?}"))
}

fn value(object: &Bound<'_, PyAny>) -> Converted<Value> {
    to_value(object, 1)
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

fn value_type(name: &str) -> PyResult<ValueType> {
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

fn path(steps: &Bound<'_, PyAny>) -> PyResult<Path> {
    let steps = steps.cast::<PyTuple>()?;
    let steps = steps.iter().map(|step| {
        Ok(if step.is_instance_of::<PyInt>() {
            Step::Index(step.extract()?)
        } else {
            Step::Name(Name::from(step.extract::<String>()?))
        })
    });
    Ok(Path(steps.collect::<PyResult<_>>()?))
}
