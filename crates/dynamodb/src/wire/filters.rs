//! What filters ask, and what of it a call can carry.

use mintkey_store::{Comparison, Condition, KeyAttribute, KeyValue, Name, Path};

use crate::wire::expression::Placeholders;

/// The bytes an expression may have.
const MAX_EXPRESSION: usize = 4096;

/// What a query by several partition attributes asks beside the first.
pub fn others(partition: &[KeyAttribute], values: &[KeyValue]) -> Vec<Condition> {
    let pairs = partition.iter().zip(values).skip(1);
    pairs
        .map(|(part, value)| Condition::Compare {
            path: Path::attribute(part.name.clone()),
            op: Comparison::Eq,
            value: value.to_value(),
        })
        .collect()
}

/// The names of the attributes a condition looks at.
pub fn roots(condition: &Condition) -> Vec<Name> {
    let mut names = Vec::new();
    collect(condition, &mut names);
    names
}

fn collect(condition: &Condition, names: &mut Vec<Name>) {
    match condition {
        Condition::Compare { path, .. }
        | Condition::Between { path, .. }
        | Condition::IsIn { path, .. }
        | Condition::BeginsWith { path, .. }
        | Condition::Contains { path, .. }
        | Condition::Exists(path)
        | Condition::Missing(path)
        | Condition::IsType(path, _)
        | Condition::Size { path, .. } => names.extend(path.root().cloned()),
        Condition::And(parts) | Condition::Or(parts) => {
            for part in parts {
                collect(part, names);
            }
        }
        Condition::Not(inner) => collect(inner, names),
    }
}

/// Whether an expression of all these would be longer than one may be.
pub fn is_too_long(parts: &[Condition]) -> bool {
    let mut text = String::new();
    let mut placeholders = Placeholders::default();
    for part in parts {
        placeholders.condition(part, &mut text);
        text.push_str(" AND ");
    }
    text.len() > MAX_EXPRESSION - 64
}
