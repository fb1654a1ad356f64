//! Single writes: put, update, delete.

use std::sync::Arc;

use mintkey_store::size::{self, MAX_ITEM, check_item};
use mintkey_store::{
    Action, Condition, Delete, Error, ErrorKind, Guard, Item, Key, Name, Path, Put, Reply, Result,
    Returning, Row, Table, Update, Value, ValueType, Work, update,
};

use crate::client::{Client, Effect, Output};
use crate::operations::read::{own_row, stored};
use crate::transport::Transport;
use crate::wire::errors::{ErrorClass, ErrorContext, ErrorResponse, Failure, Progress};
use crate::wire::{body, response as wire};

/// How often an update is sent to a row whose nulls change.
const ATTEMPTS: usize = 5;

/// A write with a guard, which the stored row may refuse.
pub struct GuardedWrite<'a> {
    pub table: &'a Arc<Table>,
    pub key: &'a Key,
    pub guard: &'a Guard,
}

impl GuardedWrite<'_> {
    /// The error if the guard refuses this stored row.
    pub fn check(&self, stored: Option<&Item>) -> Result<()> {
        // The server has accepted the condition, so both it and the row are small.
        let mut ask = || Ok::<(), Error>(());
        let work = &mut Work::new(&mut ask);
        self.guard.check(self.table, self.key, stored, work)
    }

    /// The error for a write that the server refused because of this stored row.
    pub fn refused(&self, stored: Option<Item>) -> Error {
        match self.check(stored.as_ref()) {
            Err(error) => error,
            // The row has changed since, or the server evaluates a condition differently.
            Ok(()) => {
                Error::condition_failed(self.table, self.key, stored.is_some()).with_item(stored)
            }
        }
    }

    /// The live row that refused the write. It is read if the server did not send it, unless a missing row explains the
    /// refusal.
    async fn conflicting_row<T: Transport>(
        &self,
        client: &Client<'_, T>,
        refusal: &mut ErrorResponse,
        now: i64,
    ) -> Result<Option<Item>> {
        let row = match refusal.item.take() {
            Some(item) if !self.table.has_key(&item, self.key) => {
                // It was sent in response to another write.
                client.transport.close_idle();
                client.progress.set(Progress::Uncertain);
                return Err(Error::other_row(self.table).at(self.key).uncertain());
            }
            Some(item) => Some(body::strip_whole_table_key(self.table, item)),
            // After an attempt without a response, only the row shows what became of it.
            None if !refusal.uncertain && self.check(None).is_err() => None,
            None => stored(client, self.table, self.key).await?,
        };
        Ok(self.table.live(row, now))
    }
}

/// What sending a write twice does. If the retry is refused, a version or a row shows whether the first attempt was
/// carried out, but a condition alone does not.
fn effect(guard: &Guard, is_idempotent: bool) -> Effect {
    let resolvable = guard.version.is_some() || guard.row == Row::Absent;
    if resolvable || (is_idempotent && guard.condition.is_none()) {
        Effect::Idempotent
    } else {
        Effect::Once
    }
}

/// Whether the stored version is the one that this write would have stored. Then a row with other values was written by
/// another writer, and this write was not applied.
fn has_new_version(
    guard: &Guard,
    assigned: impl Fn(&Name) -> Option<Value>,
    stored: Option<&Item>,
) -> bool {
    match (&guard.version, stored) {
        (Some((name, _)), Some(stored)) => {
            let new = assigned(name);
            new.is_some() && stored.get(name) == new.as_ref()
        }
        _ => false,
    }
}

/// Writes a whole item.
pub async fn put<T: Transport>(client: &Client<'_, T>, put: &Put, now: i64) -> Result<Reply> {
    let (table, guard, key) = (&put.table, &put.guard, &put.key);
    put.check(table, MAX_ITEM)?;
    table.check_indexed(&put.item)?;
    let condition = body::guard(table, guard, now)?;
    let body = body::put(&client.shared.config, table, &put.item, condition.as_ref());
    let errors = client.errors(table, Some(key));
    let mut refusal = match client.call("PutItem", &body, effect(guard, true)).await {
        Ok(output) => {
            check_empty(&output, table, key)?;
            return Ok(Reply::Done);
        }
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::ConditionFailed => refusal,
        Err(failure) => return Err(errors.failed(failure)),
    };
    let write = GuardedWrite { table, key, guard };
    let stored = write.conflicting_row(client, &mut refusal, now).await?;
    if refusal.uncertain {
        if stored.as_ref() == Some(&*put.item) {
            // The row that refused the retry was written by the first attempt.
            return Ok(Reply::Done);
        }
        let assigned = |name: &Name| put.item.get(name).cloned();
        if !has_new_version(guard, assigned, stored.as_ref()) {
            return Err(errors.refused(&refusal));
        }
    }
    Err(write.refused(stored))
}

/// Deletes an item.
pub async fn delete<T: Transport>(
    client: &Client<'_, T>,
    delete: &Delete,
    now: i64,
) -> Result<Reply> {
    let (table, guard, key) = (&delete.table, &delete.guard, &delete.key);
    delete.check()?;
    let condition = body::guard(table, guard, now)?;
    let config = &client.shared.config;
    let body = if delete.returns_old {
        // DynamoDB Local returns a row from several concurrent deletions unless they have conditions.
        let exists = Condition::Exists(Path::attribute(table.partition.name.clone()));
        let condition = Condition::all(condition.into_iter().chain([exists]).collect());
        body::delete_returning(config, table, key, condition.as_ref())
    } else {
        body::delete(config, table, key, condition.as_ref())
    };
    let errors = client.errors(table, Some(key));
    let effect = if delete.returns_old {
        // A second attempt finds no row.
        Effect::Once
    } else {
        effect(guard, true)
    };
    let call = client.call("DeleteItem", &body, effect);
    let mut refusal = match call.await {
        Ok(output) if delete.returns_old => {
            let old = attributes(&output, table, key)?;
            return Ok(Reply::Item(table.live(old, now)));
        }
        Ok(output) => {
            check_empty(&output, table, key)?;
            return Ok(Reply::Done);
        }
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::ConditionFailed => refusal,
        Err(failure) => return Err(errors.failed(failure)),
    };
    let write = GuardedWrite { table, key, guard };
    if delete.returns_old && refusal.item.is_none() && write.check(None).is_ok() {
        return Ok(Reply::Item(None));
    }
    let stored = write.conflicting_row(client, &mut refusal, now).await?;
    if refusal.uncertain {
        return match stored {
            None => Ok(Reply::Done),
            // Perhaps the first attempt deleted a row, and this one was written after it.
            Some(_) => Err(errors.refused(&refusal)),
        };
    }
    Err(write.refused(stored))
}

/// Changes an item.
pub async fn update<T: Transport>(
    client: &Client<'_, T>,
    update: &Update,
    now: i64,
) -> Result<Reply> {
    update.check()?;
    let values = check_values(&update.table, update)?;
    let mut result = send_update(client, update, &values, now).await;
    for _ in 0..ATTEMPTS {
        let Err(error) = &mut result else { break };
        let filled = match error.kind {
            ErrorKind::InvalidValue => explain(client, update, error, now).await?,
            ErrorKind::ConditionFailed => refused_for_nulls(update, error.item.as_deref()),
            _ => None,
        };
        let Some(filled) = filled else { break };
        match send_update(client, &filled, &values, now).await {
            // Perhaps the nulls are gone.
            Err(error) if error.kind == ErrorKind::ConditionFailed => {
                result = send_update(client, update, &values, now).await;
            }
            other => return other,
        }
    }
    result
}

/// Replaces the error for an update that the server finds invalid by one that names the path, which the server does not
/// do. Returns another update if nulls of the row are the reason.
async fn explain<T: Transport>(
    client: &Client<'_, T>,
    update: &Update,
    error: &mut Error,
    now: i64,
) -> Result<Option<Update>> {
    let row = match stored(client, &update.table, &update.key).await {
        Ok(row) => update.table.live(row, now),
        Err(stopped) if matches!(stopped.kind, ErrorKind::Interrupted(_)) => return Err(stopped),
        // What the server has said is worth more than why the row cannot be read.
        Err(_) => {
            *error = with_paths(error.clone(), update);
            return Ok(None);
        }
    };
    if let Err(named) = applied(update, row.clone()) {
        *error = named;
        return Ok(None);
    }
    Ok(row.and_then(|row| without_nulls(update, &row)))
}

/// The update for a row that refused this one only because of its nulls; `None` if the guard refused it too.
fn refused_for_nulls(update: &Update, row: Option<&Item>) -> Option<Update> {
    if update::filled_paths(&update.actions).is_empty() {
        return None;
    }
    let write = GuardedWrite {
        table: &update.table,
        key: &update.key,
        guard: &update.guard,
    };
    write.check(row).ok()?;
    without_nulls(update, row?)
}

/// The update of a row with nulls that the update counts as absent, but the server does not; `None` without such nulls. It
/// is on the condition that the nulls are still there.
pub fn without_nulls(update: &Update, row: &Item) -> Option<Update> {
    let (actions, nulls) = update::without_nulls(&update.actions, row)?;
    let nulls = nulls
        .into_iter()
        .map(|path| Condition::IsType(path, ValueType::Null));
    let mut guard = update.guard.clone();
    guard.condition = Condition::all(guard.condition.into_iter().chain(nulls).collect());
    Some(Update {
        actions,
        guard,
        ..update.clone()
    })
}

async fn send_update<T: Transport>(
    client: &Client<'_, T>,
    update: &Update,
    values: &Item,
    now: i64,
) -> Result<Reply> {
    let (table, guard, key) = (&update.table, &update.guard, &update.key);
    let condition = body::guard(table, &update_guard(update), now)?;
    let body = body::update(&client.shared.config, update, condition.as_ref());
    let errors = client.errors(table, Some(key));
    let effect = if update.returning == Returning::Old {
        // A second attempt would return the changed row.
        Effect::Once
    } else {
        effect(guard, body::is_idempotent(&update.actions))
    };
    let mut refusal = match client.call("UpdateItem", &body, effect).await {
        Ok(output) => {
            if update.returning == Returning::Nothing {
                check_empty(&output, table, key)?;
                return Ok(Reply::Done);
            }
            let item = attributes(&output, table, key)?;
            if item.is_none() && update.returning == Returning::New {
                return Err(output.unreadable().of(table).at(key));
            }
            return Ok(Reply::Item(item));
        }
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::ConditionFailed => refusal,
        Err(failure) => return Err(with_largest(errors.failed(failure), values, table)),
    };
    let write = GuardedWrite { table, key, guard };
    let stored = write.conflicting_row(client, &mut refusal, now).await?;
    resolve_update(&errors, &refusal, &write, update, stored)
}

/// The guard of an update that is sent. Without a row, the server would create one. An attribute that is set unless it has
/// a value must not be null, because the server takes a null for a value.
pub fn update_guard(update: &Update) -> Guard {
    let guard = update.guard.clone();
    let filled = update::filled_paths(&update.actions).into_iter();
    let no_nulls = filled.map(|path| Condition::IsType(path, ValueType::Null).negated());
    let condition = Condition::all(guard.condition.into_iter().chain(no_nulls).collect());
    Guard {
        row: Row::Present,
        condition,
        ..guard
    }
}

/// Checks the response to a write that returns no row.
pub fn check_empty<T: Transport>(output: &Output<'_, T>, table: &Table, key: &Key) -> Result<()> {
    match output.parse().map_err(|error| error.of(table))? {
        wire::Row {
            item: None,
            attributes: None,
            other: None,
        } => Ok(()),
        wire::Row { .. } => Err(output.unreadable().of(table).at(key)),
    }
}

/// The row in the response to a write that returns one.
fn attributes<T: Transport>(
    output: &Output<'_, T>,
    table: &Table,
    key: &Key,
) -> Result<Option<Item>> {
    let row: wire::Row = output.parse().map_err(|error| error.of(table))?;
    if row.item.is_some() || row.other.is_some() {
        return Err(output.unreadable().of(table).at(key));
    }
    let item = row.attributes.map(|item| own_row(output, item, table, key));
    item.transpose()
}

/// The result of an update that the stored row refused: an error, unless the row shows that an earlier attempt was
/// carried out.
fn resolve_update(
    errors: &ErrorContext<'_>,
    refusal: &ErrorResponse,
    write: &GuardedWrite<'_>,
    update: &Update,
    stored: Option<Item>,
) -> Result<Reply> {
    if refusal.uncertain {
        let assigned = |name: &Name| assigned(&update.actions, name);
        if !has_new_version(&update.guard, assigned, stored.as_ref()) {
            return Err(errors.refused(refusal));
        }
        if !body::is_idempotent(&update.actions) {
            // Another writer may have added the same number to the same version.
            return Err(errors.refused(refusal));
        }
        if stored
            .as_ref()
            .is_some_and(|stored| is_result(&update.actions, stored))
        {
            return Ok(match update.returning {
                Returning::Nothing => Reply::Done,
                Returning::Old => Reply::Item(None),
                Returning::New => Reply::Item(stored),
            });
        }
    }
    Err(write.refused(stored))
}

/// The item that an update makes of a row, or of an absent one.
pub fn applied(update: &Update, row: Option<Item>) -> Result<Item> {
    let (table, key) = (&update.table, &update.key);
    let mut item = row.unwrap_or_else(|| table.item_of(key));
    update::apply(&update.actions, &mut item).map_err(|error| error.of(table).at(key))?;
    check_item(&item, table, MAX_ITEM).map_err(|error| error.at(key))?;
    table.check_indexed(&item)?;
    Ok(item)
}

/// Checks the values that an update sets, as far as they can be checked without the row.
pub fn check_values(table: &Table, update: &Update) -> Result<Item> {
    let mut item = Item::with_capacity(update.actions.len());
    for action in &update.actions {
        if let (Action::Set(path, value) | Action::SetIfAbsent(path, value), [_]) =
            (action, &action.path().0[..])
            && let Some(name) = path.root()
        {
            item.insert(name.clone(), value.clone());
        }
    }
    check_item(&item, table, MAX_ITEM)?;
    table.check_indexed(&item)?;
    Ok(item)
}

/// Adds the largest value to the error for an update whose item is too large.
fn with_largest(mut error: Error, values: &Item, table: &Table) -> Error {
    let largest = values
        .iter()
        .max_by_key(|(_, value)| size::value_size(value));
    if let (ErrorKind::ItemTooLarge, Some((name, value))) = (error.kind, largest) {
        let size = size::value_size(value);
        error.message = format!(
            "{}; the largest value that is set is {} ({size} bytes)",
            error.message,
            table.label(name)
        );
        error = error.on(name);
    }
    error
}

/// Adds the paths of an update to an error about one of its values: the server does not name the value.
fn with_paths(mut error: Error, update: &Update) -> Error {
    let version = update.guard.version.as_ref().map(|version| &version.0);
    let paths = update.actions.iter().map(Action::path);
    let paths: Vec<&Path> = paths.filter(|path| path.root() != version).collect();
    let named = paths.iter().map(|path| update.table.label_path(path));
    let named: Vec<String> = named.collect();
    error.message = format!("{} (of {})", error.message, named.join(", "));
    match &*paths {
        [path] => error.within(path),
        _ => error,
    }
}

/// The value that an update assigns to an attribute.
fn assigned(actions: &[Action], name: &Name) -> Option<Value> {
    actions.iter().find_map(|action| match action {
        Action::Set(path, value) if path.0.len() == 1 && path.root() == Some(name) => {
            Some(value.clone())
        }
        _ => None,
    })
}

/// Whether an item can be the result of these actions, which change nothing when they are applied again.
fn is_result(actions: &[Action], item: &Item) -> bool {
    let mut again = item.clone();
    update::apply(actions, &mut again).is_ok() && again == *item
}
