//! Update actions and what they mean.

use std::collections::BTreeSet;

use crate::condition::{Path, Step};
use crate::error::{Error, Result};
use crate::number::Number;
use crate::table::Table;
use crate::value::{Item, Value};

/// One change to an item in the store.
///
/// The actions of one update all start from the stored item: none sees another's result, and indexes
/// into lists count as they were stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Puts the value there; beyond a list's end it is appended.
    Set(Path, Value),
    /// Takes the value away; nothing happens if it is not there.
    Remove(Path),
    /// Adds to a number; an absent one counts as 0.
    Add(Path, Number),
    /// Puts values at a list's end; an absent list counts as empty.
    Append(Path, Vec<Value>),
    /// Puts values at a list's start; an absent list counts as empty.
    Prepend(Path, Vec<Value>),
    /// Puts the value there unless there is one.
    SetIfAbsent(Path, Value),
    /// Adds the members of a set to a set; an absent one counts as empty.
    AddToSet(Path, Value),
    /// Takes the members of a set out of a set; an emptied set is taken away whole.
    DeleteFromSet(Path, Value),
}

impl Action {
    /// Where it works.
    #[must_use]
    pub const fn path(&self) -> &Path {
        match self {
            Self::Set(path, _)
            | Self::Remove(path)
            | Self::Add(path, _)
            | Self::Append(path, _)
            | Self::Prepend(path, _)
            | Self::SetIfAbsent(path, _)
            | Self::AddToSet(path, _)
            | Self::DeleteFromSet(path, _) => path,
        }
    }
}

/// Checks that actions can be carried out together: their paths do not overlap, none touches the
/// table's key, and set actions have sets.
///
/// # Errors
///
/// `InvalidValue` that names the paths.
pub fn check(actions: &[Action], table: &Table) -> Result<()> {
    for action in actions {
        let path = action.path();
        path.check()?;
        let mut keys = std::iter::once(&table.partition).chain(&table.sort);
        if let Some(key) = keys.find(|key| path.root() == Some(&key.name)) {
            return Err(Error::invalid(format!(
                "{} is a key of {}: a stored key cannot change; save a new item and delete this one",
                key.name, table.model
            ))
            .of(table)
            .on(&key.name));
        }
        if let Action::AddToSet(path, value) | Action::DeleteFromSet(path, value) = action
            && members(value).is_none_or(|count| count == 0)
        {
            return Err(Error::invalid(format!(
                "the change to {path} needs a set with at least one member"
            ))
            .within(path));
        }
    }
    let mut paths: Vec<&Path> = actions.iter().map(Action::path).collect();
    paths.sort();
    // In order, a path stands right before one that it leads to, or that is the same; and the last one into a map right
    // before the first one into a list in the same place.
    for pair in paths.windows(2) {
        let (left, right) = (pair[0], pair[1]);
        if right.0.starts_with(&left.0) {
            return Err(Error::invalid(format!(
                "{left} and {right} overlap: one update may change a value only once"
            ))
            .of(table));
        }
        let mut steps = left.0.iter().zip(&right.0);
        if let Some((Step::Name(_), Step::Index(_))) = steps.find(|(left, right)| left != right) {
            return Err(Error::invalid(format!(
                "{left} and {right} conflict: the same value cannot be a map and a list"
            ))
            .of(table));
        }
    }
    Ok(())
}

/// Carries actions out. After an error the item may be half changed: work on a copy.
///
/// # Errors
///
/// `InvalidValue` if a path leads through a value that is not there or is no container, if the stored
/// value is of a type that the action does not fit, or if a sum cannot be stored.
pub fn apply(actions: &[Action], item: &mut Item) -> Result<()> {
    let mut ordered: Vec<&Action> = actions.iter().collect();
    // In the order of paths several values set beyond a list's end are appended in the order of their
    // indexes. Removals come last and from behind, so that no index moves before its turn.
    ordered.sort_by(|left, right| left.path().cmp(right.path()));
    let (removals, changes): (Vec<&Action>, Vec<&Action>) = ordered
        .into_iter()
        .partition(|action| matches!(action, Action::Remove(_)));
    let mut emptied = Vec::new();
    for action in changes {
        change(action, item, &mut emptied).map_err(|error| error.within(action.path()))?;
    }
    let mut removed: Vec<&Path> = removals
        .into_iter()
        .map(Action::path)
        .chain(emptied)
        .collect();
    removed.sort();
    for path in removed.into_iter().rev() {
        match (parent(path, item)?, path.0.last()) {
            (Parent::Map(map), Some(Step::Name(name))) => {
                map.remove(name);
            }
            (Parent::List(list), Some(Step::Index(index))) if *index < list.len() => {
                list.remove(*index);
            }
            (Parent::List(_), Some(Step::Index(_))) => {}
            _ => return Err(no_parent(path)),
        }
    }
    Ok(())
}

enum Parent<'a> {
    Map(&'a mut Item),
    List(&'a mut Vec<Value>),
}

/// The container of the value at the end of a path.
fn parent<'a>(path: &Path, item: &'a mut Item) -> Result<Parent<'a>> {
    let mut place = Parent::Map(item);
    for step in path.0.iter().take(path.0.len().saturating_sub(1)) {
        let inner = match (place, step) {
            (Parent::Map(map), Step::Name(name)) => map.get_mut(name),
            (Parent::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        };
        place = match inner {
            Some(Value::Map(map)) => Parent::Map(map),
            Some(Value::List(list)) => Parent::List(list),
            _ => return Err(no_parent(path)),
        };
    }
    Ok(place)
}

fn no_parent(path: &Path) -> Error {
    Error::invalid(format!(
        "{path} leads through a value that is not there or is no list or map: set the outer value first"
    ))
    .within(path)
}

/// Carries out anything but a removal. A set that loses its last member is added to `emptied`.
fn change<'a>(action: &'a Action, item: &mut Item, emptied: &mut Vec<&'a Path>) -> Result<()> {
    let path = action.path();
    let place = parent(path, item)?;
    let present = match (&place, path.0.last()) {
        (Parent::Map(map), Some(Step::Name(name))) => map.get(name).is_some(),
        (Parent::List(list), Some(Step::Index(index))) => *index < list.len(),
        _ => return Err(no_parent(path)),
    };
    if !present {
        let fresh = match action {
            Action::Set(_, value) | Action::SetIfAbsent(_, value) | Action::AddToSet(_, value) => {
                value.clone()
            }
            Action::Add(_, number) => Value::Number(*number),
            Action::Append(_, values) | Action::Prepend(_, values) => Value::List(values.clone()),
            Action::Remove(_) | Action::DeleteFromSet(..) => return Ok(()),
        };
        match (place, path.0.last()) {
            (Parent::Map(map), Some(Step::Name(name))) => {
                map.insert(name.clone(), fresh);
            }
            (Parent::List(list), _) => list.push(fresh),
            (Parent::Map(_), _) => return Err(no_parent(path)),
        }
        return Ok(());
    }
    let stored = match (place, path.0.last()) {
        (Parent::Map(map), Some(Step::Name(name))) => map.get_mut(name),
        (Parent::List(list), Some(Step::Index(index))) => list.get_mut(*index),
        _ => None,
    };
    let Some(stored) = stored else {
        return Err(no_parent(path));
    };
    let fits = match (action, &mut *stored) {
        (Action::Set(_, value), stored) => {
            *stored = value.clone();
            true
        }
        (Action::SetIfAbsent(..), _) => true,
        (Action::Add(_, number), Value::Number(stored)) => {
            *stored = stored.add(number).map_err(|reason| {
                Error::invalid(format!("{path} + {number} cannot be stored: {reason}"))
                    .caused_by(reason)
            })?;
            true
        }
        (Action::Append(_, values), Value::List(stored)) => {
            stored.extend_from_slice(values);
            true
        }
        (Action::Prepend(_, values), Value::List(stored)) => {
            stored.splice(0..0, values.iter().cloned());
            true
        }
        (Action::AddToSet(_, value), stored) => merge(stored, value),
        (Action::DeleteFromSet(_, value), stored) => subtract(stored, value),
        _ => false,
    };
    if !fits {
        let wanted = match action {
            Action::Add(..) => "a number",
            Action::Append(..) | Action::Prepend(..) => "a list",
            _ => "a set of the same type",
        };
        return Err(Error::invalid(format!(
            "{path} holds a {}, but this change needs {wanted}",
            stored.value_type()
        )));
    }
    if matches!(action, Action::DeleteFromSet(..)) && members(stored) == Some(0) {
        emptied.push(path);
    }
    Ok(())
}

/// How many members a set has; `None` if it is none.
fn members(value: &Value) -> Option<usize> {
    match value {
        Value::StringSet(set) => Some(set.len()),
        Value::NumberSet(set) => Some(set.len()),
        Value::BinarySet(set) => Some(set.len()),
        _ => None,
    }
}

/// Adds the members of one set to another; false if they are not two sets of one type.
fn merge(stored: &mut Value, value: &Value) -> bool {
    match (stored, value) {
        (Value::StringSet(stored), Value::StringSet(new)) => stored.extend(new.iter().cloned()),
        (Value::NumberSet(stored), Value::NumberSet(new)) => stored.extend(new),
        (Value::BinarySet(stored), Value::BinarySet(new)) => stored.extend(new.iter().cloned()),
        _ => return false,
    }
    true
}

fn subtract(stored: &mut Value, value: &Value) -> bool {
    fn without<T: Ord>(stored: &mut BTreeSet<T>, old: &BTreeSet<T>) {
        stored.retain(|member| !old.contains(member));
    }
    match (stored, value) {
        (Value::StringSet(stored), Value::StringSet(old)) => without(stored, old),
        (Value::NumberSet(stored), Value::NumberSet(old)) => without(stored, old),
        (Value::BinarySet(stored), Value::BinarySet(old)) => without(stored, old),
        _ => return false,
    }
    true
}
