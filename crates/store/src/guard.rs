//! Guards: what must be true of a stored row for a write to happen.

use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::number::Number;
use crate::table::Table;
use crate::value::{Item, Name, Value};
use crate::work::Work;

/// What must be true of the stored row for a write to happen. An expired row counts as absent.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Whether the row must exist.
    pub row: Row,
    /// The attribute that holds the version, and the version the stored row must have; `None`: the
    /// row must be absent, or have none.
    pub version: Option<(Name, Option<Number>)>,
    /// A condition on the stored row; an absent row is evaluated as an item without attributes.
    pub condition: Option<Condition>,
    /// Whether the key was generated with 64 random bits or more, so that no row can be expected to have it. An engine
    /// whose batches support no conditions may then put the item in a batch without a check.
    pub collision_free: bool,
}

/// Whether a row must exist.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Row {
    /// It does not matter.
    #[default]
    Any,
    /// It must not exist (else `KeyCollision`).
    Absent,
    /// It must exist (else `ItemGone`).
    Present,
}

impl Guard {
    /// Checks the condition itself.
    pub(crate) fn check_condition(&self) -> Result<()> {
        self.condition.as_ref().map_or(Ok(()), Condition::check)
    }

    /// Checks the stored row; `None` if there is none or it has expired.
    ///
    /// # Errors
    ///
    /// `KeyCollision`, `ItemGone`, `VersionConflict`, `ConditionFailed`, in this order; each carries the
    /// stored item. The error that ends the work.
    pub fn check<E: From<Error>>(
        &self,
        table: &Table,
        key: &Key,
        stored: Option<&Item>,
        work: &mut Work<'_, E>,
    ) -> std::result::Result<(), E> {
        match (self.row, stored) {
            (Row::Absent, Some(_)) => {
                let error = Error::collision(table, key).with_item(stored.cloned());
                return Err(error.into());
            }
            (Row::Present, None) => {
                return Err(Error::gone(table, key, self.version.is_some()).into());
            }
            _ => {}
        }
        if let Some((name, expected)) = &self.version {
            // A null is no version: another program may have written it.
            let found = stored
                .and_then(|item| item.get(name))
                .filter(|value| !matches!(value, Value::Null));
            let agrees = match (found, expected) {
                (Some(Value::Number(found)), Some(expected)) => found == expected,
                (None, None) => true,
                _ => false,
            };
            if !agrees {
                let error =
                    Error::version_conflict(table, key, name, *expected, stored.map(|_| found));
                return Err(error.with_item(stored.cloned()).into());
            }
        }
        if let Some(condition) = &self.condition
            && !condition.evaluate(stored.unwrap_or(&Item::new()), work)?
        {
            let error = Error::condition_failed(table, key, stored.is_some());
            return Err(error.with_item(stored.cloned()).into());
        }
        Ok(())
    }

    /// Whether every row passes.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.row, Row::Any) && self.version.is_none() && self.condition.is_none()
    }
}
