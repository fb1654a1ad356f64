//! Bounds of sort keys as one comparison, which is all that a query can carry.

use std::ops::Bound;

use mintkey_store::KeyValue;

/// A comparison of a sort key that a call can carry.
pub enum Sort {
    /// With this sign.
    Compare(&'static str, KeyValue),
    /// Both included.
    Between(KeyValue, KeyValue),
    /// Starting so.
    BeginsWith(KeyValue),
}

/// The comparison that two bounds make.
pub struct Range {
    /// What the call compares; nothing: every key is inside.
    pub sort: Option<Sort>,
    /// Whether the call's bounds are these.
    pub exact: bool,
}

/// The comparison that two bounds make; nothing if no key can lie between them. Stored keys are
/// neither empty nor longer than they may be, and the service takes no such bounds.
pub fn range(low: &Bound<KeyValue>, high: &Bound<KeyValue>) -> Option<Range> {
    let mut exact = true;
    let low = match low {
        Bound::Included(value) | Bound::Excluded(value) if value.check_sort().is_ok() => {
            Some((value, matches!(low, Bound::Included(_))))
        }
        Bound::Included(value) | Bound::Excluded(value) => {
            // Too long: only what is read is compared with it.
            exact = is_empty(value);
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
            exact = false;
            None
        }
        Bound::Unbounded => None,
    };
    let sort = match (low, high) {
        (None, None) => None,
        (Some((value, included)), None) => {
            let sign = if included { " >= " } else { " > " };
            Some(Sort::Compare(sign, value.clone()))
        }
        (None, Some((value, included))) => {
            let sign = if included { " <= " } else { " < " };
            Some(Sort::Compare(sign, value.clone()))
        }
        (Some((low, low_in)), Some((high, high_in))) => {
            let both = low_in && high_in;
            if low > high || (low == high && !both) {
                return None;
            }
            exact &= both;
            Some(if low == high {
                Sort::Compare(" = ", low.clone())
            } else {
                Sort::Between(low.clone(), high.clone())
            })
        }
    };
    Some(Range { sort, exact })
}

fn is_empty(value: &KeyValue) -> bool {
    match value {
        KeyValue::String(text) => text.is_empty(),
        KeyValue::Binary(bytes) => bytes.is_empty(),
        KeyValue::Number(_) => false,
    }
}
