//! Conditions and what they mean.

use std::cmp::Ordering;
use std::convert::Infallible;

use memchr::memmem;

use crate::error::{self, Error};
use crate::json_text::JsonText;
use crate::number::Number;
use crate::path::Path;
use crate::value::{Item, Name, Value, ValueType};
use crate::work::{STEP, Work};

/// The values of one [`Condition::IsIn`] that `DynamoDB` evaluates.
pub const MAX_IS_IN: usize = 100;

/// The levels of nesting of a condition: functions recurse for each level, also on a thread with a small stack.
pub const MAX_LEVELS: usize = 32;

/// How two values are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// A condition on an item.
///
/// A test of the value of an absent attribute is false, except `Ne` of the value or of its size. So is an order between
/// values of different types.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The value compares like this.
    Compare {
        /// The path of the value.
        path: Path,
        /// The comparison.
        op: Comparison,
        /// What it is compared with.
        value: Value,
    },
    /// The values of two paths compare like this. They are of different paths.
    CompareValues {
        /// The path of the left value.
        path: Path,
        /// The comparison.
        op: Comparison,
        /// The path of the right value.
        other: Path,
    },
    /// From `low` to `high`, both included.
    Between {
        /// The path of the value.
        path: Path,
        /// The lower bound.
        low: Value,
        /// The upper bound.
        high: Value,
    },
    /// Equal to one of these; false without any.
    IsIn {
        /// The path of the value.
        path: Path,
        /// The values.
        values: Vec<Value>,
    },
    /// A text of JSON with the same value as one of these; false without any. The order of keys does not count.
    IsJson {
        /// The path of the value.
        path: Path,
        /// The texts.
        texts: Vec<JsonText>,
    },
    /// Text or bytes with this prefix.
    BeginsWith {
        /// The path of the value.
        path: Path,
        /// A string or binary value.
        prefix: Value,
    },
    /// Text or bytes with this part, or a list or set with this member.
    Contains {
        /// The path of the value.
        path: Path,
        /// The part or member.
        value: Value,
    },
    /// The value exists.
    Exists(Path),
    /// The value does not exist.
    Missing(Path),
    /// The value is of this type.
    IsType(Path, ValueType),
    /// The value's size compares like this: UTF-16 units of text, bytes of binary, members of the others. Numbers,
    /// booleans and null have none, and so are of another size than any.
    Size {
        /// The path of the value.
        path: Path,
        /// The comparison.
        op: Comparison,
        /// What the size is compared with.
        value: Number,
    },
    /// All of these; true without any.
    And(Vec<Condition>),
    /// At least one of these; false without any.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
}

impl Comparison {
    const fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }

    /// Whether two values compare like this.
    fn compares<E>(self, left: &Value, right: &Value, work: &mut Work<'_, E>) -> Result<bool, E> {
        Ok(match self {
            Self::Eq => left.equals(right, work)?,
            Self::Ne => !left.equals(right, work)?,
            op => {
                work.count(length(left).min(length(right)))?;
                order(left, right).is_some_and(|order| op.accepts(order))
            }
        })
    }

    const fn is_order(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }
}

/// The order of two values, where they have one: both strings, both numbers or both binary.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => Some(left.cmp(right)),
        (Value::Binary(left), Value::Binary(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

const fn is_ordered(value: &Value) -> bool {
    matches!(
        value,
        Value::String(_) | Value::Number(_) | Value::Binary(_)
    )
}

/// The bytes of a text or binary value, which are compared or searched.
const fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        _ => 0,
    }
}

fn begins_with(value: &Value, prefix: &Value) -> bool {
    match (value, prefix) {
        (Value::String(text), Value::String(prefix)) => text.starts_with(prefix.as_str()),
        (Value::Binary(bytes), Value::Binary(prefix)) => bytes.starts_with(prefix),
        _ => false,
    }
}

fn contains<E>(value: &Value, part: &Value, work: &mut Work<'_, E>) -> Result<bool, E> {
    work.count(STEP + length(value) + length(part))?;
    Ok(match (value, part) {
        (Value::String(text), Value::String(part)) => {
            memmem::find(text.as_bytes(), part.as_bytes()).is_some()
        }
        (Value::Binary(bytes), Value::Binary(part)) => memmem::find(bytes, part).is_some(),
        (Value::List(list), part) => return any_equals(list, part, work),
        (Value::StringSet(set), Value::String(part)) => set.contains(part),
        (Value::NumberSet(set), Value::Number(part)) => set.contains(part),
        (Value::BinarySet(set), Value::Binary(part)) => set.contains(part),
        _ => false,
    })
}

fn any_equals<E>(values: &[Value], value: &Value, work: &mut Work<'_, E>) -> Result<bool, E> {
    for other in values {
        if other.equals(value, work)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn size(value: &Value) -> Option<u64> {
    let size = match value {
        // As the service counts.
        Value::String(text) => text.encode_utf16().count(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::StringSet(set) => set.len(),
        Value::NumberSet(set) => set.len(),
        Value::BinarySet(set) => set.len(),
        Value::Number(_) | Value::Bool(_) | Value::Null => return None,
    };
    u64::try_from(size).ok()
}

impl Condition {
    /// The condition that an attribute equals this value.
    pub fn equals(attribute: impl Into<Name>, value: impl Into<Value>) -> Self {
        Self::Compare {
            path: Path::attribute(attribute),
            op: Comparison::Eq,
            value: value.into(),
        }
    }

    /// The condition that all of these hold; `None` if there are none.
    #[must_use]
    pub fn all(mut conditions: Vec<Self>) -> Option<Self> {
        match conditions.len() {
            0 | 1 => conditions.pop(),
            _ => Some(Self::And(conditions)),
        }
    }

    /// The opposite condition.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Checks that the condition means something: the sides of an order are strings, numbers or
    /// binary, `between` runs upwards.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that says which part does not.
    pub fn check(&self) -> error::Result<()> {
        match self {
            Self::And(parts) | Self::Or(parts) => return parts.iter().try_for_each(Self::check),
            Self::Not(inner) => return inner.check(),
            _ => {}
        }
        let Some(path) = self.path() else {
            return Ok(());
        };
        path.check()?;
        self.check_values().map_err(|error| error.within(path))
    }

    /// The path of a question about one value; `None` for a combination, except the negation of one question.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::And(_) | Self::Or(_) => None,
            Self::Not(inner) => inner.path(),
            Self::Compare { path, .. }
            | Self::CompareValues { path, .. }
            | Self::Between { path, .. }
            | Self::IsIn { path, .. }
            | Self::IsJson { path, .. }
            | Self::BeginsWith { path, .. }
            | Self::Contains { path, .. }
            | Self::Exists(path)
            | Self::Missing(path)
            | Self::IsType(path, _)
            | Self::Size { path, .. } => Some(path),
        }
    }

    /// The other path of a comparison of two values, or of the negation of one.
    #[must_use]
    pub fn other_path(&self) -> Option<&Path> {
        match self {
            Self::Not(inner) => inner.other_path(),
            Self::CompareValues { other, .. } => Some(other),
            _ => None,
        }
    }

    /// Whether it compares texts of JSON, or is the negation of such a condition.
    #[must_use]
    pub fn is_json(&self) -> bool {
        match self {
            Self::Not(inner) => inner.is_json(),
            other => matches!(other, Self::IsJson { .. }),
        }
    }

    /// The value of a condition that is the same for every item.
    #[must_use]
    pub fn constant(&self) -> Option<bool> {
        match self {
            Self::And(parts) => Self::constant_of(parts, false),
            Self::Or(parts) => Self::constant_of(parts, true),
            Self::Not(inner) => inner.constant().map(|truth| !truth),
            Self::IsIn { values, .. } if values.is_empty() => Some(false),
            Self::IsJson { texts, .. } if texts.is_empty() => Some(false),
            _ => None,
        }
    }

    /// One part with the value `deciding` decides; otherwise all parts must be constant.
    fn constant_of(parts: &[Self], deciding: bool) -> Option<bool> {
        let mut known = true;
        for part in parts {
            match part.constant() {
                Some(truth) if truth == deciding => return Some(deciding),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!deciding)
    }

    /// Whether an expression of `DynamoDB` cannot say this, so that only [`Condition::evaluate`] can.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::is_local),
            Self::Not(inner) => inner.is_local(),
            Self::IsIn { values, .. } => values.len() > MAX_IS_IN,
            Self::IsJson { .. } => true,
            _ => false,
        }
    }

    fn check_values(&self) -> error::Result<()> {
        match self {
            Self::Compare { op, value, .. } => {
                if op.is_order() && !is_ordered(value) {
                    return Err(unordered(value));
                }
                Ok(())
            }
            Self::CompareValues { path, other, .. } => {
                other.check()?;
                if path == other {
                    return Err(Error::invalid(
                        "it is compared with itself: compare it with another value",
                    ));
                }
                Ok(())
            }
            Self::Between { low, high, .. } => {
                for bound in [low, high] {
                    if !is_ordered(bound) {
                        return Err(unordered(bound));
                    }
                }
                match order(low, high) {
                    Some(Ordering::Greater) => Err(Error::invalid(
                        "between: the lower bound is above the upper one: swap them",
                    )),
                    Some(_) => Ok(()),
                    None => Err(Error::invalid(format!(
                        "between: a {} and a {} have no order: give two of one type",
                        low.value_type(),
                        high.value_type()
                    ))),
                }
            }
            Self::BeginsWith { prefix, .. } => match prefix {
                Value::String(_) | Value::Binary(_) => Ok(()),
                other => Err(Error::invalid(format!(
                    "begins_with takes a string or binary, not a {}",
                    other.value_type()
                ))),
            },
            _ => Ok(()),
        }
    }

    /// Whether it is true for an item. A missing row counts as an item without attributes.
    ///
    /// # Errors
    ///
    /// The error that ends the work.
    pub fn evaluate<E>(&self, item: &Item, work: &mut Work<'_, E>) -> Result<bool, E> {
        match self {
            Self::And(parts) => return Self::is_any(parts, false, item, work).map(|any| !any),
            Self::Or(parts) => return Self::is_any(parts, true, item, work),
            Self::Not(inner) => return Ok(!inner.evaluate(item, work)?),
            _ => {}
        }
        let Some(path) = self.path() else {
            return Ok(false);
        };
        let Some(found) = path.find_counted(item, work)? else {
            return Ok(self.accepts_absence());
        };
        match self {
            Self::CompareValues { op, other, .. } => match other.find_counted(item, work)? {
                Some(other) => op.compares(found, other, work),
                None => Ok(self.accepts_absence()),
            },
            _ => self.accepts(found, work),
        }
    }

    /// Whether it is true of a row that does not exist.
    #[must_use]
    pub fn accepts_no_row(&self) -> bool {
        let Ok(accepts) = self.evaluate(&Item::new(), &mut Work::<Infallible>::new(&mut || Ok(())));
        accepts
    }

    /// Whether one of the parts has this result.
    fn is_any<E>(
        parts: &[Self],
        answer: bool,
        item: &Item,
        work: &mut Work<'_, E>,
    ) -> Result<bool, E> {
        for part in parts {
            if part.evaluate(item, work)? == answer {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a question about one value is true of an absent one.
    const fn accepts_absence(&self) -> bool {
        match self {
            // What has no size is of another size than any.
            Self::Compare { op, .. } | Self::CompareValues { op, .. } | Self::Size { op, .. } => {
                matches!(op, Comparison::Ne)
            }
            Self::Missing(_) => true,
            _ => false,
        }
    }

    /// Whether a question about one value is true of this one.
    fn accepts<E>(&self, found: &Value, work: &mut Work<'_, E>) -> Result<bool, E> {
        Ok(match self {
            Self::Compare { op, value, .. } => op.compares(found, value, work)?,
            Self::Between { low, high, .. } => {
                work.count(length(found).min(length(low)) + length(found).min(length(high)))?;
                order(found, low).is_some_and(Ordering::is_ge)
                    && order(found, high).is_some_and(Ordering::is_le)
            }
            Self::IsIn { values, .. } => any_equals(values, found, work)?,
            Self::IsJson { texts, .. } => match found {
                Value::String(found) => {
                    let lengths: usize = texts.iter().map(JsonText::len).sum();
                    work.count(STEP + found.len() * texts.len() + lengths)?;
                    texts.iter().any(|text| text.is_equal_to(found))
                }
                _ => false,
            },
            Self::BeginsWith { prefix, .. } => {
                work.count(length(prefix))?;
                begins_with(found, prefix)
            }
            Self::Contains { value, .. } => contains(found, value, work)?,
            Self::Exists(_) => true,
            Self::IsType(_, wanted) => found.value_type() == *wanted,
            Self::Size { op, value, .. } => {
                work.count(length(found))?;
                match size(found) {
                    Some(size) => op.accepts(Number::from(size).cmp(value)),
                    None => self.accepts_absence(),
                }
            }
            Self::CompareValues { .. }
            | Self::Missing(_)
            | Self::And(_)
            | Self::Or(_)
            | Self::Not(_) => false,
        })
    }
}

fn unordered(value: &Value) -> Error {
    Error::invalid(format!(
        "it cannot be compared by order with a {}: only strings, numbers and binary have one",
        value.value_type()
    ))
}
