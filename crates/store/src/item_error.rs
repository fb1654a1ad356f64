//! Errors about a table and its items.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Outcome, Remedy, Violation};
use crate::key::Key;
use crate::number::Number;
use crate::path::Path;
use crate::table::{KeyAttribute, Table};
use crate::unique::Claim;
use crate::value::{Name, Value, ValueType};

impl Error {
    /// Says which class and table it is about.
    #[must_use]
    pub fn of(mut self, table: &Table) -> Self {
        self.model = Some(table.model.as_str().into());
        self.table = Some(table.name.as_str().into());
        self
    }

    /// Says into which attribute the path leads that it is about.
    #[must_use]
    pub fn within(self, path: &Path) -> Self {
        match path.root() {
            Some(attribute) => self.on(attribute),
            None => self,
        }
    }

    /// An item with this key is there already.
    #[must_use]
    pub fn collision(table: &Table, key: &Key) -> Self {
        Self::new(
            ErrorKind::KeyCollision,
            format!(
                "an item with this key exists already in table {:?}",
                table.name
            ),
        )
        .remedy(Remedy::OtherKey)
        .of(table)
        .at(key)
    }

    /// The item to change does not exist. A `versioned` write cannot create it again.
    #[must_use]
    pub fn gone(table: &Table, key: &Key, versioned: bool) -> Self {
        let message = format!(
            "the item is not in table {:?} any more (deleted or expired)",
            table.name
        );
        let remedy = if versioned {
            Remedy::WriteAsNew
        } else {
            Remedy::Replace
        };
        Self::new(ErrorKind::ItemGone, message)
            .remedy(remedy)
            .of(table)
            .at(key)
    }

    /// The stored version is another. `stored` is `None` without a row, and `Some(None)` if it has no
    /// version.
    #[must_use]
    pub fn version_conflict(
        table: &Table,
        key: &Key,
        attribute: &Name,
        expected: Option<Number>,
        stored: Option<Option<&Value>>,
    ) -> Self {
        let expected = expected.map_or_else(
            || "no version to be stored".to_owned(),
            |version| format!("version {version}"),
        );
        let (what, remedy) = if stored.is_some() {
            ("the item was changed", Remedy::Refresh)
        } else {
            ("the item has expired, or was deleted", Remedy::WriteAsNew)
        };
        let stored = match stored {
            None => "the row is not there".to_owned(),
            Some(None) => "the stored row has none".to_owned(),
            Some(Some(Value::Number(version))) => format!("the stored row has version {version}"),
            Some(Some(other)) => format!("the stored row has a {}", other.value_type()),
        };
        let message =
            format!("{what} by another writer: this write expects {expected}, but {stored}");
        Self::new(ErrorKind::VersionConflict, message)
            .remedy(remedy)
            .of(table)
            .at(key)
            .on(attribute)
    }

    /// Another row holds a unique value that an item of this key was to have.
    #[must_use]
    pub fn unique_violation(table: &Table, key: &Key, claim: &Claim<'_>, holder: Key) -> Self {
        let violation = Violation {
            attributes: claim.unique.attributes.clone(),
            values: claim.values.clone(),
            holders: vec![holder],
        };
        let message = format!(
            "{} is unique in table {:?}, and the item {} has it already",
            table.describe(&violation),
            table.name,
            violation.holders[0]
        );
        let mut error = Self::new(ErrorKind::UniqueViolation, message)
            .remedy(Remedy::OtherValue)
            .of(table)
            .at(key);
        if let [attribute] = &*claim.unique.attributes {
            error = error.on(attribute);
        }
        error.violations = Some(Arc::new([violation]));
        error
    }

    /// Values cannot become unique, because rows have them twice. They are sorted. At most `SHOWN` are in the message.
    #[must_use]
    pub fn duplicates(table: &Table, mut violations: Vec<Violation>) -> Self {
        const SHOWN: usize = 10;
        for violation in &mut violations {
            violation.holders.sort();
        }
        violations.sort_by(|one, other| {
            (&one.attributes, &one.values).cmp(&(&other.attributes, &other.values))
        });
        let shown: Vec<String> = violations
            .iter()
            .take(SHOWN)
            .map(|violation| {
                let holders: Vec<String> = violation
                    .holders
                    .iter()
                    .take(SHOWN)
                    .map(Key::to_string)
                    .collect();
                format!("{} in {}", table.describe(violation), holders.join(", "))
            })
            .collect();
        let more = match violations.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let mut error = Self::new(
            ErrorKind::UniqueViolation,
            format!(
                "rows of table {:?} have the same values where they must be unique ({}{more}), and the table was left as it was",
                table.name,
                shown.join("; ")
            ),
        )
        .advice("change or delete all of them but one each, then try again")
        .of(table);
        error.violations = Some(violations.into());
        error
    }

    /// The condition was false.
    #[must_use]
    pub fn condition_failed(table: &Table, key: &Key, found: bool) -> Self {
        let message = if found {
            "the condition is false for the stored row, and nothing was written"
        } else {
            "the condition is false, because there is no stored row, and nothing was written"
        };
        Self::new(ErrorKind::ConditionFailed, message)
            .of(table)
            .at(key)
    }

    /// A stored row that cannot be read; `why` is what its reader said.
    #[must_use]
    pub fn damaged(table: &Table, key: Option<&Key>, why: Self) -> Self {
        let row = if key.is_some() { "the row" } else { "a row" };
        let message = format!("{row} in table {:?}: {why}", table.name);
        let mut damaged = Self::new(why.kind, message).of(table);
        damaged.key = key.cloned().map(Box::new);
        damaged.caused_by(why)
    }

    /// A read returned a row with another key than the requested one.
    #[must_use]
    pub fn other_row(table: &Table) -> Self {
        Self::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "the store returned a row of table {:?} with another key than the requested one",
                table.name
            ),
        )
        .advice(
            "find out whether another program changed the row, or a proxy before the server mixes up responses",
        )
        .of(table)
    }

    /// A part of a key is absent (`None`) or of another type.
    #[must_use]
    pub fn key_type(table: &Table, attribute: &KeyAttribute, found: Option<ValueType>) -> Self {
        let wanted = attribute.kind.value_type();
        let found = found.map_or_else(|| "is missing".to_owned(), |found| format!("is a {found}"));
        let message = format!("the key attribute {found}: give it a {wanted}");
        Self::invalid(message).of(table).on(&attribute.name)
    }

    /// A page cursor that belongs to another query than the one on this table.
    #[must_use]
    pub fn foreign_cursor(table: &Table) -> Self {
        Self::new(
            ErrorKind::InvalidCursor,
            "this cursor belongs to another query, or is damaged",
        )
        .remedy(Remedy::StartAgain)
        .of(table)
    }
}
