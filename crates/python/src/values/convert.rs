//! Python values to stored values and back, in one pass and without intermediate dicts.

use std::collections::BTreeSet;

use mintkey_store::error::start;
use mintkey_store::size::MAX_DEPTH;
use mintkey_store::{KeyKind, Map, Name, Number, Value};
use pyo3::exceptions::{
    PyArithmeticError, PyAssertionError, PyRecursionError, PyRuntimeError, PyTypeError,
    PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple, PyType,
};

use crate::values::elements::{each, each_entry};
use crate::values::unstorable::{Converted, Unstorable, type_name};

/// Why a tuple is refused, except as the value of an attribute of tuples.
pub const TUPLE: &str = "a tuple would be read as a list: use a list";

/// A whole number with more bits than this is far beyond the range of a stored number.
const MOST_BITS: usize = 512;

/// The kind of values of an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Whatever can be stored.
    Any,
    /// Text.
    String,
    /// A number, read back as `int`, `float` or `Decimal`.
    Number,
    /// A number, read back as `Decimal`.
    Decimal,
    /// True or false.
    Boolean,
    /// Bytes.
    Binary,
    List,
    Map,
    /// A set of texts.
    StringSet,
    /// A set of numbers.
    NumberSet,
    /// A set of bytes.
    BinarySet,
}

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> PyResult<Self> {
        Ok(match name {
            "any" => Self::Any,
            "string" => Self::String,
            "number" => Self::Number,
            "decimal" => Self::Decimal,
            "boolean" => Self::Boolean,
            "binary" => Self::Binary,
            "list" => Self::List,
            "map" => Self::Map,
            "string_set" => Self::StringSet,
            "number_set" => Self::NumberSet,
            "binary_set" => Self::BinarySet,
            other => {
                return Err(PyValueError::new_err(format!(
                    "there is no kind of attribute named {other:?}"
                )));
            }
        })
    }

    /// The kind of a part of a key.
    pub const fn of_key(kind: KeyKind) -> Self {
        match kind {
            KeyKind::String => Self::String,
            KeyKind::Number => Self::Number,
            KeyKind::Binary => Self::Binary,
        }
    }

    /// What Python passes for it, for messages.
    const fn expected(self) -> &'static str {
        match self {
            Self::Any => "a value that can be stored",
            Self::String => "str",
            Self::Number => "int, float or Decimal",
            Self::Decimal => "Decimal or int",
            Self::Boolean => "bool",
            Self::Binary => "bytes",
            Self::List => "list",
            Self::Map => "dict",
            Self::StringSet => "set of str",
            Self::NumberSet => "set of numbers",
            Self::BinarySet => "set of bytes",
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Converted<T> {
    Err(Unstorable::Reason(reason.into()))
}

fn wrong_type<T>(kind: Kind, object: &Bound<'_, PyAny>) -> Converted<T> {
    refuse(format!(
        "expected {}, got {}",
        kind.expected(),
        type_name(object)
    ))
}

/// The stored value of a Python value that an attribute of this kind holds; none for an empty set.
pub fn to_stored(kind: Kind, object: &Bound<'_, PyAny>) -> Converted<Option<Value>> {
    Ok(Some(match kind {
        Kind::Any => return any_or_nothing(object),
        Kind::String => match object.cast::<PyString>() {
            Ok(text) => Value::String(string(text)?),
            Err(_) => return wrong_type(kind, object),
        },
        Kind::Number => Value::Number(number(kind, object)?),
        Kind::Decimal => {
            if object.is_instance_of::<PyFloat>() {
                return refuse(
                    "expected Decimal or int, got float: write Decimal(\"…\"), so that no digit is guessed",
                );
            }
            Value::Number(number(kind, object)?)
        }
        Kind::Boolean => match object.cast::<PyBool>() {
            Ok(truth) => Value::Bool(truth.is_true()),
            Err(_) => return wrong_type(kind, object),
        },
        Kind::Binary => Value::Binary(binary(kind, object)?),
        Kind::List => {
            if !(object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>()) {
                return wrong_type(kind, object);
            }
            list(object, 1)?
        }
        Kind::Map => {
            if !object.is_instance_of::<PyDict>() {
                return wrong_type(kind, object);
            }
            to_value(object, 1)?
        }
        Kind::StringSet | Kind::NumberSet | Kind::BinarySet => return set(kind, object),
    }))
}

fn any_or_nothing(object: &Bound<'_, PyAny>) -> Converted<Option<Value>> {
    if is_set(object) {
        return mixed_set(object);
    }
    to_value(object, 1).map(Some)
}

fn string(text: &Bound<'_, PyString>) -> Converted<String> {
    match text.to_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => refuse("the text has a lone surrogate, which UTF-8 cannot hold"),
    }
}

fn binary(kind: Kind, object: &Bound<'_, PyAny>) -> Converted<Vec<u8>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        Ok(bytes.as_bytes().to_vec())
    } else if let Ok(bytes) = object.cast::<PyByteArray>() {
        Ok(bytes.to_vec())
    } else {
        wrong_type(kind, object)
    }
}

/// The number of a Python `int`, `float` or `Decimal`.
pub fn number(kind: Kind, object: &Bound<'_, PyAny>) -> Converted<Number> {
    if object.is_instance_of::<PyBool>() {
        return wrong_type(kind, object);
    }
    let py = object.py();
    if object.is_instance_of::<PyInt>() {
        if let Ok(small) = object.extract::<i64>() {
            return Ok(Number::from(small));
        }
        // A subclass may override these methods with anything.
        let int = py.get_type::<PyInt>();
        // Python refuses to print huge integers: report that first.
        if int
            .call_method1("bit_length", (object,))?
            .extract::<usize>()?
            > MOST_BITS
        {
            return refuse("the number is beyond ±9.99…E+125, the range of stored numbers");
        }
        return parsed(&int.call_method1("__format__", (object, "d"))?);
    }
    if let Ok(float) = object.cast::<PyFloat>() {
        return Number::from_f64(float.value())
            .map_err(|error| Unstorable::Reason(error.to_string()));
    }
    let decimal = decimal_type(py)?;
    if object.is_instance(decimal)? {
        return parsed(&decimal.call_method1("__str__", (object,))?);
    }
    wrong_type(kind, object)
}

fn parsed(text: &Bound<'_, PyAny>) -> Converted<Number> {
    let text: String = text.extract()?;
    text.parse::<Number>()
        .map_err(|error| Unstorable::Reason(error.to_string()))
}

fn is_set(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>()
}

/// The set that an object is; none for an empty one.
fn set(kind: Kind, object: &Bound<'_, PyAny>) -> Converted<Option<Value>> {
    if !is_set(object) {
        return wrong_type(kind, object);
    }
    let text = |member: &Bound<'_, PyAny>| match member.cast::<PyString>() {
        Ok(text) => string(text),
        Err(_) => refuse("expected a set of str, but a member is of another type"),
    };
    Ok(match kind {
        Kind::StringSet => members(object, text)?.map(Value::StringSet),
        Kind::NumberSet => members(object, |own| number(Kind::Number, own))?.map(Value::NumberSet),
        _ => members(object, |own| binary(Kind::Binary, own))?.map(Value::BinarySet),
    })
}

/// The members of a set, each read like this; none for an empty one.
fn members<T: Ord>(
    object: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> Converted<T>,
) -> Converted<Option<BTreeSet<T>>> {
    let mut set = BTreeSet::new();
    let count = each(object, |_, member| {
        set.insert(read(&member)?);
        Ok(())
    })?;
    // Python compares a float and a Decimal by their exact values, and floats are stored as their shortest text.
    if set.len() < count {
        return refuse(
            "two members of the set are stored as the same value, such as 0.1 and Decimal(\"0.1\"): remove one of them",
        );
    }
    Ok((count > 0).then_some(set))
}

/// The stored value of any Python value that needs no attribute to be understood.
pub fn to_value(object: &Bound<'_, PyAny>, level: usize) -> Converted<Value> {
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(string(text)?));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = object.cast::<PyBool>() {
        return Ok(Value::Bool(truth.is_true()));
    }
    if object.is_instance_of::<PyInt>() || object.is_instance_of::<PyFloat>() {
        return number(Kind::Number, object).map(Value::Number);
    }
    let dict = object.cast::<PyDict>();
    let is_list = object.is_instance_of::<PyList>();
    if level > MAX_DEPTH && (is_list || dict.is_ok()) {
        return refuse(format!(
            "lists and maps nest deeper than {MAX_DEPTH} levels"
        ));
    }
    if let Ok(dict) = dict {
        return map(dict, level);
    }
    if is_list {
        return list(object, level);
    }
    if object.is_instance_of::<PyTuple>() {
        return refuse(TUPLE);
    }
    if object.is_instance_of::<PyBytes>() || object.is_instance_of::<PyByteArray>() {
        return binary(Kind::Binary, object).map(Value::Binary);
    }
    if is_set(object) {
        return mixed_set(object)?.map_or_else(
            || refuse("an empty set inside a list or map has no type to store it by"),
            Ok,
        );
    }
    if object.is_instance(decimal_type(object.py())?)? {
        return number(Kind::Number, object).map(Value::Number);
    }
    refuse(format!(
        "{} cannot be stored: use str, int, float, Decimal, bool, None, bytes, list, dict or set",
        type_name(object)
    ))
}

/// The stored list of a list or tuple.
fn list(object: &Bound<'_, PyAny>, level: usize) -> Converted<Value> {
    let mut list = Vec::new();
    each(object, |index, value| {
        let value = to_value(&value, level + 1);
        list.push(value.map_err(|refusal| within(&index.to_string(), refusal))?);
        Ok(())
    })?;
    Ok(Value::List(list))
}

fn map(dict: &Bound<'_, PyDict>, level: usize) -> Converted<Value> {
    let mut pairs: Vec<(Name, Value)> = Vec::with_capacity(dict.len());
    let mut plain = true;
    each_entry(dict, |name, value| {
        let Ok(text) = name.cast::<PyString>() else {
            return refuse(format!("a map's keys are str, got {}", type_name(&name)));
        };
        plain &= text.is_exact_instance_of::<PyString>();
        let name: Name = string(text)?.into();
        let value = to_value(&value, level + 1).map_err(|refusal| within(&name, refusal))?;
        pairs.push((name, value));
        Ok(())
    })?;
    // Keys of a subclass of str may differ and yet hold the same text.
    let mut names = BTreeSet::new();
    if !plain && let Some((twice, _)) = pairs.iter().find(|(name, _)| !names.insert(name)) {
        return refuse(format!(
            "two keys of the map hold the same text {:?}",
            brief(twice)
        ));
    }
    Ok(Value::Map(Map::from_pairs(pairs)))
}

/// The refusal of an element, with its path; of a long path only the end.
fn within(place: &str, refusal: Unstorable) -> Unstorable {
    const LONGEST: usize = 400;
    match refusal {
        Unstorable::Reason(reason) if reason.len() < LONGEST => {
            Unstorable::Reason(format!("in [{}]: {reason}", brief(place)))
        }
        other => other,
    }
}

/// What a message shows of a map's key.
fn brief(name: &str) -> &str {
    const SHOWN: usize = 40;
    start(name, SHOWN)
}

/// A set whose type its members decide; none for an empty one.
fn mixed_set(object: &Bound<'_, PyAny>) -> Converted<Option<Value>> {
    let Some(first) = object.try_iter()?.next() else {
        return Ok(None);
    };
    let first = first?;
    let kind = if first.is_instance_of::<PyString>() {
        Kind::StringSet
    } else if first.is_instance_of::<PyBytes>() {
        Kind::BinarySet
    } else {
        Kind::NumberSet
    };
    set(kind, object)
}

/// The Python value of a stored one, for an attribute of this kind.
pub fn from_stored<'py>(py: Python<'py>, kind: Kind, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match (kind, value) {
        (Kind::Decimal, Value::Number(number)) => decimal(py, *number),
        (_, Value::List(members)) => match listed_set(kind, members) {
            Some(set) => from_value(py, &set),
            None => from_value(py, value),
        },
        _ => from_value(py, value),
    }
}

/// The set that another program stored as a list, its numbers perhaps as text: pydynox does so.
pub fn listed_set(kind: Kind, members: &[Value]) -> Option<Value> {
    match kind {
        Kind::StringSet => {
            let text = |member: &Value| match member {
                Value::String(text) => Some(text.clone()),
                _ => None,
            };
            let set: Option<_> = members.iter().map(text).collect();
            set.map(Value::StringSet)
        }
        Kind::NumberSet => {
            let number = |member: &Value| match member {
                Value::Number(number) => Some(*number),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            let set: Option<_> = members.iter().map(number).collect();
            set.map(Value::NumberSet)
        }
        _ => None,
    }
}

/// The Python value of a stored one.
pub fn from_value<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Number(number) => python_number(py, *number)?,
        Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any(),
        Value::Null => py.None().into_bound(py),
        Value::Binary(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(from_value(py, value)?)?;
            }
            list.into_any()
        }
        Value::Map(map) => dict_of(py, map)?.into_any(),
        Value::StringSet(members) => PySet::new(py, members)?.into_any(),
        Value::NumberSet(members) => {
            let members = members.iter().map(|member| python_number(py, *member));
            PySet::new(py, members.collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        Value::BinarySet(members) => {
            PySet::new(py, members.iter().map(|member| PyBytes::new(py, member)))?.into_any()
        }
    })
}

/// The values of a map by their names.
pub fn dict_of<'py>(py: Python<'py>, map: &Map) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in map {
        dict.set_item(&**name, from_value(py, value)?)?;
    }
    Ok(dict)
}

/// `int` when integral, `float` when its shortest text is the number, else `Decimal`.
fn python_number(py: Python<'_>, number: Number) -> PyResult<Bound<'_, PyAny>> {
    if let Some(small) = number.to_i64() {
        return Ok(small.into_pyobject(py)?.into_any());
    }
    if number.is_integer() {
        return py.get_type::<PyInt>().call1((decimal(py, number)?,));
    }
    match number.to_f64_exact() {
        Some(float) => Ok(PyFloat::new(py, float).into_any()),
        None => decimal(py, number),
    }
}

fn decimal(py: Python<'_>, number: Number) -> PyResult<Bound<'_, PyAny>> {
    decimal_type(py)?.call1((number.to_string(),))
}

fn decimal_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DECIMAL.import(py, "decimal", "Decimal")
}

/// Whether an exception during a conversion means that the value cannot be stored.
pub fn refuses(error: &PyErr, py: Python<'_>) -> bool {
    let is_refusal = error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyArithmeticError>(py)
        || error.is_instance_of::<PyAssertionError>(py)
        || error.is_instance_of::<PyRecursionError>(py)
        || error.get_type(py).is(py.get_type::<PyRuntimeError>());
    is_refusal && matches!(raised_by_signal_handler(error, py), Ok(None))
}

/// The exception of a signal handler that an exception is, or that caused it.
pub fn raised_by_signal_handler(error: &PyErr, py: Python<'_>) -> PyResult<Option<PyErr>> {
    let found = py.import("mintkey.errors")?.call_method1(
        "raised_by_signal_handler",
        (error.clone_ref(py).into_value(py),),
    )?;
    Ok((!found.is_none()).then(|| PyErr::from_value(found)))
}

/// Whether an object is of an immutable built-in type, so that it need not be copied.
pub fn is_plain(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.is_none()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.get_type().is(decimal_type(object.py())?))
}

/// The error for a refused value when no model is known.
pub fn plain_error(refusal: Unstorable) -> PyErr {
    match refusal {
        Unstorable::Reason(reason) => PyTypeError::new_err(reason),
        Unstorable::Raised(error) => error,
    }
}
