//! The parts of requests: conditions, guards, update actions, sort conditions.

use std::ops::Bound as Limit;

use mintkey_store::{
    Action, Guard, KeyAttribute, KeyValue, Name, Number, Path, Position, Row, SortCondition, Step,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};

use crate::models::codec::Codec;
use crate::models::fields::{Selected, top};
use crate::panics::caught;
use crate::values::action::PyAction;
use crate::values::condition::PyCondition;

impl Codec {
    /// The actions of an update: `values` are set (None removes), then the others; checked together.
    pub(super) fn actions(
        &self,
        values: &Bound<'_, PyDict>,
        actions: &[Bound<'_, PyAction>],
    ) -> PyResult<Vec<Action>> {
        caught(values.py(), || {
            let py = values.py();
            let table = self.table(py)?;
            let mut compiled = Vec::with_capacity(values.len() + actions.len());
            // A copy, which no code that runs meanwhile can change.
            for (name, object) in &values.copy()? {
                let name: String = name.extract()?;
                let index = self
                    .fields
                    .iter()
                    .position(|field| field.label == name)
                    .ok_or_else(|| self.unknown(&name))?;
                let field = &self.fields[index];
                let stored = if object.is_none() {
                    None
                } else {
                    self.stored(field, &object)?
                };
                if stored.is_none() && field.required {
                    return Err(self.invalid(py, field, "required, so an update cannot remove it"));
                }
                compiled.push(stored.map_or_else(
                    || Action::Remove(top(&field.alias)),
                    |value| Action::Set(top(&field.alias), value),
                ));
            }
            compiled.extend(actions.iter().map(|action| action.get().inner.clone()));
            mintkey_store::update::check(&compiled, table)
                .map_err(|error| self.raise(py, error))?;
            Ok(compiled)
        })
    }

    pub(super) fn sort_condition(
        &self,
        tuple: &Bound<'_, PyTuple>,
        attribute: &KeyAttribute,
    ) -> PyResult<SortCondition> {
        let name: String = tuple.get_item(0)?.extract()?;
        let operand = |index: usize| self.key_value(&tuple.get_item(index)?, attribute);
        let bound = |value: usize, inclusive: usize| -> PyResult<Limit<KeyValue>> {
            if tuple.get_item(value)?.is_none() {
                return Ok(Limit::Unbounded);
            }
            let limit = operand(value)?;
            let inclusive = tuple.get_item(inclusive)?.cast::<PyBool>()?.is_true();
            Ok(if inclusive {
                Limit::Included(limit)
            } else {
                Limit::Excluded(limit)
            })
        };
        Ok(match name.as_str() {
            "==" => SortCondition::Eq(operand(1)?),
            "<" => SortCondition::Lt(operand(1)?),
            "<=" => SortCondition::Le(operand(1)?),
            ">" => SortCondition::Gt(operand(1)?),
            ">=" => SortCondition::Ge(operand(1)?),
            "between" => SortCondition::Between(operand(1)?, operand(2)?),
            "begins_with" => SortCondition::BeginsWith(operand(1)?),
            "range" => SortCondition::Range {
                low: bound(1, 2)?,
                high: bound(3, 4)?,
            },
            other => {
                return Err(PyValueError::new_err(format!(
                    "{other:?} is not a condition on a sort key"
                )));
            }
        })
    }

    pub(super) fn guard(
        row: &str,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyCondition>>,
    ) -> Guard {
        let row = match row {
            "absent" => Row::Absent,
            "present" => Row::Present,
            _ => Row::Any,
        };
        let version = version.map(|(name, stored)| (Name::from(name), stored.map(Number::from)));
        Guard {
            row,
            version,
            condition: condition.map(|condition| condition.get().compiled()),
            collision_free: false,
        }
    }

    pub(super) fn position(
        &self,
        py: Python<'_>,
        bytes: Option<&[u8]>,
    ) -> PyResult<Option<Position>> {
        bytes
            .map(Position::from_bytes)
            .transpose()
            .map_err(|error| self.raise(py, error))
    }

    /// The paths that are read; `None`: everything.
    pub(super) fn selected(&self, selected: Option<Vec<Selected>>) -> PyResult<Option<Vec<Path>>> {
        let Some(selected) = selected else {
            return Ok(None);
        };
        let path = |(name, steps): (String, Vec<String>)| {
            let field = self.fields.iter().find(|field| field.label == name);
            // An attribute of a subclass has its stored name.
            let root = field.map_or_else(|| name.into(), |field| field.alias.clone());
            let steps = steps.into_iter().map(|step| Step::Name(step.into()));
            Ok(Path(
                std::iter::once(Step::Name(root)).chain(steps).collect(),
            ))
        };
        let parts = selected.into_iter().map(Selected::into_parts);
        parts.map(path).collect::<PyResult<_>>().map(Some)
    }
}
