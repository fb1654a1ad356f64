//! The key condition of a query: the partition key, and one comparison of the sort key.

use std::ops::Bound;

use mintkey_store::{Item, KeyAttribute, KeyValue, Name, Result, SortCondition, Value};

use crate::wire::expression::Placeholders;

/// A key condition, and the part of it that `DynamoDB` cannot evaluate.
pub struct KeyCondition {
    partition: (Name, Value),
    sort: Option<SortKeyCondition>,
}

struct SortKeyCondition {
    attribute: KeyAttribute,
    /// The comparison that is sent; `None`: none is needed, or none is possible.
    sent: Option<Comparison>,
    /// The bounds of the sort key, if the sent comparison lets other keys through.
    bounds: Option<(Bound<KeyValue>, Bound<KeyValue>)>,
}

/// A comparison of a sort key.
enum Comparison {
    /// With this operator.
    Compare(&'static str, KeyValue),
    /// Both bounds included.
    Between(KeyValue, KeyValue),
    BeginsWith(KeyValue),
}

impl KeyCondition {
    /// The condition that the partition key has this value.
    pub const fn new(partition: Name, value: Value) -> Self {
        Self {
            partition: (partition, value),
            sort: None,
        }
    }

    /// Adds a condition on the sort key. `None`: no key can meet it.
    pub fn with_sort(
        mut self,
        attribute: &KeyAttribute,
        condition: &SortCondition,
    ) -> Result<Option<Self>> {
        let (low, high) = condition.bounds(&attribute.name)?;
        let (sent, is_exact) = match condition {
            SortCondition::BeginsWith(prefix) if prefix.check_sort().is_ok() => {
                (Some(Comparison::BeginsWith(prefix.clone())), true)
            }
            _ => match comparison(&low, &high) {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        self.sort = Some(SortKeyCondition {
            attribute: attribute.clone(),
            sent,
            bounds: (!is_exact).then_some((low, high)),
        });
        Ok(Some(self))
    }

    /// Whether `DynamoDB` evaluates the whole condition.
    pub fn is_exact(&self) -> bool {
        self.sort.as_ref().is_none_or(|sort| sort.bounds.is_none())
    }

    /// Whether an item has the partition key.
    pub fn has_partition(&self, item: &Item) -> bool {
        let (name, value) = &self.partition;
        item.get(name) == Some(value)
    }

    /// Whether an item that was read meets the part of the condition that `DynamoDB` cannot evaluate.
    pub fn accepts(&self, item: &Item) -> bool {
        let Some(SortKeyCondition {
            attribute,
            bounds: Some((low, high)),
            ..
        }) = &self.sort
        else {
            return true;
        };
        let value = item.get(&attribute.name);
        let value = value.and_then(|value| KeyValue::from_value(value, attribute.kind));
        value.is_some_and(|value| {
            (match low {
                Bound::Included(low) => value >= *low,
                Bound::Excluded(low) => value > *low,
                Bound::Unbounded => true,
            }) && match high {
                Bound::Included(high) => value <= *high,
                Bound::Excluded(high) => value < *high,
                Bound::Unbounded => true,
            }
        })
    }

    /// Appends the condition as an expression.
    pub fn push(&self, placeholders: &mut Placeholders, to: &mut String) {
        placeholders.name(&self.partition.0, to);
        to.push_str(" = ");
        placeholders.value(&self.partition.1, to);
        let Some(SortKeyCondition {
            attribute,
            sent: Some(comparison),
            ..
        }) = &self.sort
        else {
            return;
        };
        to.push_str(" AND ");
        match comparison {
            Comparison::Compare(operator, value) => {
                placeholders.name(&attribute.name, to);
                to.push_str(operator);
                placeholders.value(&value.to_value(), to);
            }
            Comparison::Between(low, high) => {
                placeholders.name(&attribute.name, to);
                to.push_str(" BETWEEN ");
                placeholders.value(&low.to_value(), to);
                to.push_str(" AND ");
                placeholders.value(&high.to_value(), to);
            }
            Comparison::BeginsWith(prefix) => {
                to.push_str("begins_with(");
                placeholders.name(&attribute.name, to);
                to.push(',');
                placeholders.value(&prefix.to_value(), to);
                to.push(')');
            }
        }
    }
}

/// Two bounds as one comparison, and whether it is exact; `None` if no key can lie between them. Stored keys are neither
/// empty nor longer than the limit, and DynamoDB refuses such bounds.
fn comparison(low: &Bound<KeyValue>, high: &Bound<KeyValue>) -> Option<(Option<Comparison>, bool)> {
    let mut is_exact = true;
    let low = match low {
        Bound::Included(value) | Bound::Excluded(value) if value.check_sort().is_ok() => {
            Some((value, matches!(low, Bound::Included(_))))
        }
        Bound::Included(value) | Bound::Excluded(value) => {
            // A bound that is too long is compared with the items that were read.
            is_exact = is_empty(value);
            None
        }
        Bound::Unbounded => None,
    };
    let high = match high {
        Bound::Included(value) | Bound::Excluded(value) if value.check_sort().is_ok() => {
            Some((value, matches!(high, Bound::Included(_))))
        }
        Bound::Included(value) | Bound::Excluded(value) if is_empty(value) => return None,
        Bound::Included(_) | Bound::Excluded(_) => {
            is_exact = false;
            None
        }
        Bound::Unbounded => None,
    };
    let compare = |operator, value: &KeyValue| Some(Comparison::Compare(operator, value.clone()));
    let comparison = match (low, high) {
        (None, None) => None,
        (Some((value, true)), None) => compare(" >= ", value),
        (Some((value, false)), None) => compare(" > ", value),
        (None, Some((value, true))) => compare(" <= ", value),
        (None, Some((value, false))) => compare(" < ", value),
        (Some((low, low_included)), Some((high, high_included))) => {
            let both = low_included && high_included;
            if low > high || (low == high && !both) {
                return None;
            }
            is_exact &= both;
            if low == high {
                compare(" = ", low)
            } else {
                Some(Comparison::Between(low.clone(), high.clone()))
            }
        }
    };
    Some((comparison, is_exact))
}

fn is_empty(value: &KeyValue) -> bool {
    match value {
        KeyValue::String(text) => text.is_empty(),
        KeyValue::Binary(bytes) => bytes.is_empty(),
        KeyValue::Number(_) => false,
    }
}
