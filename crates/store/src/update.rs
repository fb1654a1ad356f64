//! Update actions and what they mean.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::number::Number;
use crate::path::{Path, Step};
use crate::table::Table;
use crate::value::{Item, Map, Value, remove_all};

/// One change to an item in the store.
///
/// The actions of one update all start from the stored item: none sees another's result, and indexes
/// into lists count as they were stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sets the value; beyond a list's end it is appended.
    Set(Path, Value),
    /// Sets the value of the other path, which the item must have.
    SetFrom(Path, Path),
    /// Removes the value, if there is one.
    Remove(Path),
    /// Adds to a number; an absent one counts as 0.
    Add(Path, Number),
    /// Adds values at a list's end; an absent list counts as empty.
    Append(Path, Vec<Value>),
    /// Adds values at a list's start; an absent list counts as empty.
    Prepend(Path, Vec<Value>),
    /// Sets the value unless there is one.
    SetIfAbsent(Path, Value),
    /// Adds the members of a set to a set; an absent one counts as empty.
    AddToSet(Path, Value),
    /// Removes the members of a set from a set; an empty set is removed.
    DeleteFromSet(Path, Value),
}

impl Action {
    /// The path of the value that it changes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        match self {
            Self::Set(path, _)
            | Self::SetFrom(path, _)
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
        let mut keys = table.key_attributes();
        if let Some(key) = keys.find(|key| path.root() == Some(&key.name)) {
            return Err(Error::invalid(
                "a stored key cannot change: save a new item with the other key, and delete this one",
            )
            .of(table)
            .on(&key.name));
        }
        if let Action::SetFrom(_, from) = action {
            from.check()?;
        }
        if let Action::AddToSet(path, value) | Action::DeleteFromSet(path, value) = action
            && members(value).is_none_or(|count| count == 0)
        {
            return Err(
                Error::invalid("the change needs a set with at least one member").within(path),
            );
        }
    }
    let mut paths: Vec<&Path> = actions.iter().map(Action::path).collect();
    paths.sort();
    // In order, a path stands right before one that it leads to, or that is the same; and the last one into a map right
    // before the first one into a list in the same place.
    for pair in paths.windows(2) {
        let (left, right) = (pair[0], pair[1]);
        if right.0.starts_with(&left.0) {
            let (left, right) = (table.label_path(left), table.label_path(right));
            return Err(Error::invalid(format!(
                "{left} and {right} overlap: one update may change a value only once"
            ))
            .of(table));
        }
        let mut steps = left.0.iter().zip(&right.0);
        if let Some((Step::Name(_), Step::Index(_))) = steps.find(|(left, right)| left != right) {
            let (left, right) = (table.label_path(left), table.label_path(right));
            return Err(Error::invalid(format!(
                "{left} and {right} conflict: the same value cannot be a map and a list"
            ))
            .of(table));
        }
    }
    Ok(())
}

/// Carries actions out, whose paths do not overlap. After an error the item may be half changed: work on a copy.
///
/// # Errors
///
/// `InvalidValue` if a path contains a value that is missing or not a container, if the stored
/// value is of a type that the action does not fit, or if a sum cannot be stored.
pub fn apply(actions: &[Action], item: &mut Item) -> Result<()> {
    let read = read_values(actions, item)?;
    let actions = read.as_deref().unwrap_or(actions);
    // In the order of paths, the actions inside one container stand together, and several values set beyond a list's
    // end are appended in the order of their indexes.
    let mut ordered: Vec<&Action> = actions.iter().collect();
    ordered.sort_by(|left, right| left.path().cmp(right.path()));
    change_map(&ordered, 0, item)
}

/// The actions with the values that they read of the item before it is changed; `None` if they read none.
fn read_values(actions: &[Action], item: &Item) -> Result<Option<Vec<Action>>> {
    if !actions
        .iter()
        .any(|action| matches!(action, Action::SetFrom(..)))
    {
        return Ok(None);
    }
    let read = actions.iter().map(|action| match action {
        Action::SetFrom(path, from) => match from.find(item) {
            Some(value) => Ok(Action::Set(path.clone(), value.clone())),
            None => Err(Error::invalid(format!(
                "{} cannot be set to the value of another attribute, because the stored item has none there",
                path.below()
            ))
            .within(path)),
        },
        other => Ok(other.clone()),
    });
    read.collect::<Result<_>>().map(Some)
}

/// What an action makes of a value inside a container.
enum Change {
    /// It is changed in place, or not at all.
    InPlace,
    /// There was none, and now it is this.
    New(Value),
    /// It is to be removed from its container.
    Gone,
}

/// The actions on each entry of a container, which is at this depth of their paths.
fn by_entry<'a, 'b>(
    actions: &'b [&'a Action],
    depth: usize,
) -> impl Iterator<Item = (&'a Step, &'b [&'a Action])> {
    let step = move |action: &&'a Action| action.path().0.get(depth);
    let groups = actions.chunk_by(move |left, right| step(left) == step(right));
    groups.filter_map(move |group| Some((step(&group[0])?, group)))
}

fn change_map(actions: &[&Action], depth: usize, map: &mut Map) -> Result<()> {
    let mut names = Vec::new();
    for (step, group) in by_entry(actions, depth) {
        match step {
            Step::Name(name) => names.push(name),
            Step::Index(_) => return Err(no_parent(group[0].path())),
        }
    }
    // Found before anything changes, all in one pass over a large map.
    let positions = map.positions(&names);
    let mut gone = Vec::new();
    for ((_, group), (name, position)) in by_entry(actions, depth).zip(names.iter().zip(positions))
    {
        let stored = position.map(|position| map.value_at(position));
        match change_entry(group, depth, stored)? {
            Change::InPlace => {}
            Change::New(value) => map.push((*name).clone(), value),
            Change::Gone => gone.extend(position),
        }
    }
    gone.sort_unstable();
    map.remove_all(&gone);
    Ok(())
}

fn change_list(actions: &[&Action], depth: usize, list: &mut Vec<Value>) -> Result<()> {
    // Indexes count as stored: what is appended has none yet, and removals come last.
    let stored = list.len();
    let mut gone = Vec::new();
    for (step, group) in by_entry(actions, depth) {
        let Step::Index(index) = step else {
            return Err(no_parent(group[0].path()));
        };
        let value = list[..stored].get_mut(*index);
        match change_entry(group, depth, value)? {
            Change::InPlace => {}
            Change::New(value) => list.push(value),
            Change::Gone => gone.push(*index),
        }
    }
    remove_all(list, &gone);
    Ok(())
}

/// Carries out the actions on one entry of a container, or inside of it.
fn change_entry(actions: &[&Action], depth: usize, stored: Option<&mut Value>) -> Result<Change> {
    let path = actions[0].path();
    if let [action] = actions
        && path.0.len() == depth + 1
    {
        return match stored {
            Some(stored) => change(action, stored).map_err(|error| error.within(path)),
            None => Ok(create(action)),
        };
    }
    match stored {
        Some(Value::Map(map)) => change_map(actions, depth + 1, map)?,
        Some(Value::List(list)) => change_list(actions, depth + 1, list)?,
        _ => return Err(no_parent(path)),
    }
    Ok(Change::InPlace)
}

fn no_parent(path: &Path) -> Error {
    Error::invalid(format!(
        "{} contains a value that is missing, or not a list or map: set the outer value first",
        path.below()
    ))
    .within(path)
}

/// Carries an action out where no value is.
fn create(action: &Action) -> Change {
    Change::New(match action {
        Action::Set(_, value) | Action::SetIfAbsent(_, value) | Action::AddToSet(_, value) => {
            value.clone()
        }
        Action::Add(_, number) => Value::Number(*number),
        Action::Append(_, values) | Action::Prepend(_, values) => Value::List(values.clone()),
        // A value of another path was read before.
        Action::SetFrom(..) | Action::Remove(_) | Action::DeleteFromSet(..) => {
            return Change::InPlace;
        }
    })
}

/// Whether an action needs a stored value of a certain type.
const fn needs_type(action: &Action) -> bool {
    matches!(
        action,
        Action::Add(..)
            | Action::Append(..)
            | Action::Prepend(..)
            | Action::AddToSet(..)
            | Action::DeleteFromSet(..)
    )
}

/// Whether an action sets an attribute unless it has a value. A null is no value of an attribute, but inside lists and maps
/// it is.
fn fills_attribute(action: &Action) -> bool {
    matches!(action, Action::SetIfAbsent(..)) && action.path().0.len() == 1
}

/// Whether one of these actions needs a stored value of a certain type, so that a null could be in its way.
#[must_use]
pub fn needs_types(actions: &[Action]) -> bool {
    actions.iter().any(needs_type)
}

/// The paths that must not hold a null when these actions are sent to a store that does not count nulls as absent, and that
/// would not refuse them.
#[must_use]
pub fn filled_paths(actions: &[Action]) -> Vec<Path> {
    let filling = actions.iter().filter(|action| fills_attribute(action));
    filling.map(|action| action.path().clone()).collect()
}

/// The actions of an update of an item with nulls that the actions count as absent, for a store that does not; `None` if
/// there are no such nulls. The paths of these nulls come with the actions.
#[must_use]
pub fn without_nulls(actions: &[Action], stored: &Item) -> Option<(Vec<Action>, Vec<Path>)> {
    let mut paths = Vec::new();
    let mut replaced = Vec::with_capacity(actions.len());
    for action in actions {
        let path = action.path();
        let counts_null = needs_type(action) || fills_attribute(action);
        if !counts_null || path.find(stored) != Some(&Value::Null) {
            replaced.push(action.clone());
            continue;
        }
        paths.push(path.clone());
        if let Change::New(value) = create(action) {
            replaced.push(Action::Set(path.clone(), value));
        }
    }
    (!paths.is_empty()).then_some((replaced, paths))
}

/// Applies an action to a value. A set without members is removed.
fn change(action: &Action, stored: &mut Value) -> Result<Change> {
    let path = action.path();
    if matches!(stored, Value::Null) && (needs_type(action) || fills_attribute(action)) {
        // A null counts as absent.
        return Ok(match create(action) {
            Change::New(value) => {
                *stored = value;
                Change::InPlace
            }
            other => other,
        });
    }
    let fits = match (action, &mut *stored) {
        (Action::Set(_, value), stored) => {
            *stored = value.clone();
            true
        }
        (Action::SetIfAbsent(..), _) => true,
        (Action::Remove(_), _) => return Ok(Change::Gone),
        (Action::Add(_, number), Value::Number(stored)) => {
            *stored = stored.add(number).map_err(|reason| {
                let target = path.below();
                Error::invalid(format!("{target} + {number} cannot be stored: {reason}"))
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
            "{} holds a {}, but this change needs {wanted}",
            path.below(),
            stored.value_type()
        )));
    }
    let emptied = matches!(action, Action::DeleteFromSet(..)) && members(stored) == Some(0);
    Ok(if emptied {
        Change::Gone
    } else {
        Change::InPlace
    })
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
