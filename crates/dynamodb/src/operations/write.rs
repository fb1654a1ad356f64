//! What each request does: calls, and what their answers mean.

use mintkey_store::size::{self, MAX_ITEM};
use mintkey_store::{
    Action, Delete, Error, ErrorKind, Get, Guard, Item, Key, Name, Operation, Put, Reply, Request,
    Result, Row, Table, Update, Value, update,
};

use crate::client::{Answer, Repeat, Session};
use crate::operations::{batch, read, tables};
use crate::store::Inner;
use crate::transport::Link;
use crate::wire::body;
use crate::wire::errors::{About, Class, Failure, Refusal};

/// How often a write is tried when the row keeps changing between two calls.
const ATTEMPTS: usize = 5;

/// The characters that a table's name may have, its prefix included.
const LONGEST_NAME: usize = 255;

/// Carries a request out.
pub async fn run<L: Link>(inner: &Inner, link: &L, request: &Request) -> Result<Reply> {
    let notes = &request.notes;
    let session = Session::new(inner, link, notes);
    let now = request.now;
    check_name(inner, request.operation.table())?;
    match &request.operation {
        Operation::CreateTable(table) => tables::create(&session, table).await,
        Operation::TableExists(table) => tables::exists(&session, table).await,
        Operation::DeleteTable(table) => tables::delete(&session, table).await,
        Operation::Get(get) => read_one(&session, get, now).await,
        Operation::Put(put) => put_item(&session, put, now).await,
        Operation::Update(update) => update_item(&session, update, now).await,
        Operation::Delete(delete) => delete_item(&session, delete, now).await,
        Operation::BatchGet(batch) => batch::get(&session, batch, now).await,
        Operation::BatchWrite(batch) => batch::write(&session, batch, now).await,
        Operation::Query(query) => read::query(&session, query, now).await,
        Operation::Scan(scan) => read::scan(&session, scan, now).await,
    }
}

/// A class's name for its table is of a length that fits, but the prefix stands before it.
fn check_name(inner: &Inner, table: &Table) -> Result<()> {
    let length = inner.config.prefix.len() + table.name.len();
    if length <= LONGEST_NAME {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "the name of the table of {} has {length} characters with its prefix, and {LONGEST_NAME} are allowed: shorten \
         ?table_prefix=, or name the table with ModelConfig(table=…)",
        table.model
    ))
    .of(table))
}

impl<L: Link> Session<'_, L> {
    const fn about<'b>(&'b self, table: &'b Table, key: &'b Key) -> About<'b> {
        About {
            config: &self.inner.config,
            table,
            key: Some(key),
            progress: &self.progress,
        }
    }

    /// Reads the row of a key as it lies there, expired or not.
    async fn look(&self, table: &Table, key: &Key, body: &str) -> Result<Option<Item>> {
        let answer = self.call("GetItem", body, Repeat::Read).await;
        let answer = answer.map_err(|failure| self.about(table, key).worded(failure))?;
        Self::item(&answer, "Item", table)
    }

    fn item(answer: &Answer<'_>, entry: &str, table: &Table) -> Result<Option<Item>> {
        let mut item = None;
        answer
            .read(|parser, name| {
                if name == entry {
                    item = Some(parser.item()?);
                    Some(())
                } else {
                    parser.skip()
                }
            })
            .map_err(|error| error.of(table))?;
        Ok(item.map(|item| body::unmark(table, item)))
    }

    /// The live row that a guard met. A server that does not send it along is asked for it, unless
    /// it explains the refusal that there is none.
    async fn met(
        &self,
        write: &Write<'_>,
        refusal: &mut Refusal,
        now: i64,
    ) -> Result<Option<Item>> {
        let sent = refusal.item.take();
        let stored = match sent {
            Some(item) => Some(body::unmark(write.table, item)),
            None if write.check(None).is_err() => None,
            None => {
                let get = Get {
                    table: write.shared.clone(),
                    key: write.key.clone(),
                    consistent: true,
                    attributes: None,
                };
                let body = body::get(self.inner, &get);
                self.look(write.table, write.key, &body).await?
            }
        };
        Ok(stored.filter(|item| !write.table.is_expired(item, now)))
    }
}

/// A guarded write, as its refusal is judged.
struct Write<'a> {
    shared: &'a std::sync::Arc<Table>,
    table: &'a Table,
    key: &'a Key,
    guard: &'a Guard,
    /// Whether an absent row alone refuses it.
    needs_row: bool,
}

impl<'a> Write<'a> {
    const fn new(
        shared: &'a std::sync::Arc<Table>,
        table: &'a Table,
        key: &'a Key,
        guard: &'a Guard,
        needs_row: bool,
    ) -> Self {
        Self {
            shared,
            table,
            key,
            guard,
            needs_row,
        }
    }

    fn check(&self, stored: Option<&Item>) -> Result<()> {
        if self.needs_row && stored.is_none() && self.guard.version.is_none() {
            return Err(Error::gone(self.table, self.key, false));
        }
        self.guard.check(self.table, self.key, stored)?;
        if self.needs_row && stored.is_none() {
            return Err(Error::gone(self.table, self.key, true));
        }
        Ok(())
    }

    /// The error when the store refused what the contract's meaning allows.
    fn disagreement(&self, stored: Option<Item>) -> Error {
        Error::condition_failed(self.table, self.key, stored.is_some()).with_item(stored)
    }
}

/// How a write may be sent again: what a guard refuses the second time can be told from what others
/// did, unless a condition alone refuses.
fn repeat(guard: &Guard, idempotent: bool) -> Repeat {
    let resolved = guard.version.is_some() || guard.row == Row::Absent;
    if resolved || (idempotent && guard.condition.is_none()) {
        Repeat::Write
    } else {
        Repeat::Never
    }
}

/// Whether the version shows that another writer was first: it took the very step that this write
/// would have taken, with another content.
fn lost_race(
    guard: &Guard,
    written: impl Fn(&Name) -> Option<Value>,
    stored: Option<&Item>,
) -> bool {
    match (&guard.version, stored) {
        (Some((name, _)), Some(stored)) => {
            let own = written(name);
            own.is_some() && stored.get(name) == own.as_ref()
        }
        _ => false,
    }
}

async fn read_one<L: Link>(session: &Session<'_, L>, get: &Get, now: i64) -> Result<Reply> {
    let table = &get.table;
    table.check_key(&get.key)?;
    let body = body::get(session.inner, get);
    let item = session.look(table, &get.key, &body).await?;
    let mut item = item.filter(|item| !table.is_expired(item, now));
    if let (Some(item), Some(attributes)) = (&mut item, &get.attributes) {
        keep(item, table, attributes);
    }
    Ok(Reply::Item(item))
}

/// Leaves an item its keys and the named attributes.
pub fn keep(item: &mut Item, table: &Table, attributes: &[Name]) {
    item.retain(|name, _| {
        *name == table.partition.name
            || table.sort.as_ref().is_some_and(|sort| sort.name == *name)
            || attributes.contains(name)
    });
}

/// Writes a whole item.
pub async fn put_item<L: Link>(session: &Session<'_, L>, put: &Put, now: i64) -> Result<Reply> {
    let (table, guard) = (&put.table, &put.guard);
    let key = table.key_of(&put.item)?;
    size::check_item(&put.item, table, MAX_ITEM)?;
    table.check_indexed(&put.item)?;
    if let Some(condition) = &guard.condition {
        condition.check()?;
    }
    let condition = body::guard(table, guard, now, false);
    let body = body::put(session.inner, table, &put.item, condition.as_ref());
    let about = session.about(table, &key);
    let refusal = match session.call("PutItem", &body, repeat(guard, true)).await {
        Ok(answer) => {
            Session::<L>::item(&answer, "", table)?;
            return Ok(Reply::Done);
        }
        Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => refusal,
        Err(failure) => return Err(about.worded(failure)),
    };
    let mut refusal = refusal;
    let write = Write::new(table, table, &key, guard, false);
    let stored = session.met(&write, &mut refusal, now).await?;
    if refusal.doubtful {
        if stored.as_ref() == Some(&*put.item) {
            // What refused the second attempt is the first one's work.
            return Ok(Reply::Done);
        }
        let version = |name: &Name| put.item.get(name).cloned();
        if !lost_race(guard, version, stored.as_ref()) {
            return Err(about.refused(&refusal));
        }
    }
    write.check(stored.as_ref())?;
    Err(write.disagreement(stored))
}

/// Removes an item.
pub async fn delete_item<L: Link>(
    session: &Session<'_, L>,
    delete: &Delete,
    now: i64,
) -> Result<Reply> {
    let (table, guard, key) = (&delete.table, &delete.guard, &delete.key);
    table.check_key(key)?;
    if let Some(condition) = &guard.condition {
        condition.check()?;
    }
    let condition = body::guard(table, guard, now, false);
    let body = body::delete(session.inner, table, key, condition.as_ref());
    let about = session.about(table, key);
    let mut refusal = match session.call("DeleteItem", &body, repeat(guard, true)).await {
        Ok(answer) => {
            Session::<L>::item(&answer, "", table)?;
            return Ok(Reply::Done);
        }
        Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => refusal,
        Err(failure) => return Err(about.worded(failure)),
    };
    let write = Write::new(table, table, key, guard, false);
    let stored = session.met(&write, &mut refusal, now).await?;
    if refusal.doubtful {
        // Whoever removed the row: it is not there. A row that is there may be another one, in the place of the removed.
        return match stored {
            None => Ok(Reply::Done),
            Some(_) => Err(about.refused(&refusal)),
        };
    }
    write.check(stored.as_ref())?;
    Err(write.disagreement(stored))
}

/// Changes an item.
pub async fn update_item<L: Link>(
    session: &Session<'_, L>,
    update: &Update,
    now: i64,
) -> Result<Reply> {
    let (table, guard, key) = (&update.table, &update.guard, &update.key);
    table.check_key(key)?;
    update::check(&update.actions, table)?;
    let values = check_values(table, update)?;
    if let Some(condition) = &guard.condition {
        condition.check()?;
    }
    let needs_row = !update.upsert;
    let wanted = Guard {
        row: if needs_row && guard.row == Row::Any {
            Row::Present
        } else {
            guard.row
        },
        ..guard.clone()
    };
    // An expired row must not be changed: its attributes would live on.
    let condition = body::guard(table, &wanted, now, true);
    let body = body::update(session.inner, update, condition.as_ref());
    let about = session.about(table, key);
    let again = repeat(guard, body::is_idempotent(&update.actions));
    let write = Write::new(table, table, key, guard, needs_row);
    for _ in 0..ATTEMPTS {
        let mut refusal = match session.call("UpdateItem", &body, again).await {
            Ok(answer) => {
                let item = Session::<L>::item(&answer, "Attributes", table)?;
                return Ok(if update.returning {
                    Reply::Item(item)
                } else {
                    Reply::Done
                });
            }
            Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => refusal,
            Err(failure) => {
                let error = with_largest(about.worded(failure), &values);
                return Err(with_paths(error, &update.actions));
            }
        };
        let is_stored = refusal.item.is_some();
        let stored = session.met(&write, &mut refusal, now).await?;
        let is_expired = is_stored && stored.is_none() && write.check(None).is_ok();
        if !is_expired {
            return refused_update(&about, &refusal, &write, update, stored);
        }
        // An expired row is in the way of an upsert: it is replaced by one that starts from the key.
        if let Some(reply) = replace(session, update, now).await? {
            return Ok(reply);
        }
    }
    let outcome = session.progress.get().outcome();
    Err(Error::new(
        ErrorKind::Unavailable(outcome),
        format!(
            "{} {key} keeps changing while it is updated: {}; try again",
            table.model,
            outcome.words()
        ),
    )
    .of(table)
    .at(key))
}

/// What an update comes to that the stored row refused: an error, unless the row shows that an attempt before was
/// carried out.
fn refused_update(
    about: &About<'_>,
    refusal: &Refusal,
    write: &Write<'_>,
    update: &Update,
    stored: Option<Item>,
) -> Result<Reply> {
    if refusal.doubtful {
        let version = |name: &Name| written(&update.actions, name);
        if !lost_race(&update.guard, version, stored.as_ref()) {
            return Err(about.refused(refusal));
        }
        if let Some(stored) = stored
            .as_ref()
            .filter(|stored| shows(&update.actions, stored))
        {
            return Ok(if update.returning {
                Reply::Item(Some(stored.clone()))
            } else {
                Reply::Done
            });
        }
    }
    write.check(stored.as_ref())?;
    Err(write.disagreement(stored))
}

/// Names what was to be changed where the service, which does not say which change it was, found a value that cannot be.
fn with_paths(mut error: Error, actions: &[Action]) -> Error {
    if error.kind != ErrorKind::InvalidValue {
        return error;
    }
    let paths: Vec<String> = actions
        .iter()
        .map(|action| action.path().to_string())
        .collect();
    error.message = format!("{} (of {})", error.message, paths.join(", "));
    match actions {
        [action] => error.within(action.path()),
        _ => error,
    }
}

/// Puts what an update makes of an absent row in the place of an expired one; nothing if the row is
/// no longer that.
async fn replace<L: Link>(
    session: &Session<'_, L>,
    update: &Update,
    now: i64,
) -> Result<Option<Reply>> {
    let (table, key) = (&update.table, &update.key);
    let mut item = Item::with_capacity(8);
    item.insert(table.partition.name.clone(), key.partition.to_value());
    if let (Some(attribute), Some(value)) = (&table.sort, &key.sort) {
        item.insert(attribute.name.clone(), value.to_value());
    }
    update::apply(&update.actions, &mut item).map_err(|error| error.of(table).at(key))?;
    size::check_item(&item, table, MAX_ITEM)?;
    table.check_indexed(&item)?;
    let condition = body::absent(table, now);
    let body = body::put(session.inner, table, &item, Some(&condition));
    let about = session.about(table, key);
    match session.call("PutItem", &body, Repeat::Write).await {
        Ok(answer) => {
            Session::<L>::item(&answer, "", table)?;
        }
        Err(Failure::Refused(refusal)) if refusal.class == Class::ConditionFailed => {
            if !refusal.doubtful {
                return Ok(None);
            }
            let stored = refusal.item.clone().map(|item| body::unmark(table, item));
            if stored.as_ref() != Some(&item) {
                return Err(about.refused(&refusal));
            }
        }
        Err(failure) => return Err(about.worded(failure)),
    }
    Ok(Some(if update.returning {
        Reply::Item(Some(item))
    } else {
        Reply::Done
    }))
}

/// Checks the values that an update sets: what can be seen without the row is told without a call.
fn check_values(table: &Table, update: &Update) -> Result<Item> {
    let mut item = Item::with_capacity(update.actions.len());
    for action in &update.actions {
        if let (Action::Set(path, value) | Action::SetIfAbsent(path, value), [_]) =
            (action, &action.path().0[..])
            && let Some(name) = path.root()
        {
            item.insert(name.clone(), value.clone());
        }
    }
    size::check_item(&item, table, MAX_ITEM)?;
    table.check_indexed(&item)?;
    Ok(item)
}

/// Names the largest value of an update that made its item too large.
fn with_largest(mut error: Error, values: &Item) -> Error {
    let largest = values
        .iter()
        .max_by_key(|(_, value)| size::value_size(value));
    if let (ErrorKind::ItemTooLarge, Some((name, value))) = (error.kind, largest) {
        let size = size::value_size(value);
        error.message = format!(
            "{}; the largest value that is set is {name} ({size} bytes)",
            error.message
        );
        error = error.on(name);
    }
    error
}

/// What an update sets an attribute to.
fn written(actions: &[Action], name: &Name) -> Option<Value> {
    actions.iter().find_map(|action| match action {
        Action::Set(path, value) if path.0.len() == 1 && path.root() == Some(name) => {
            Some(value.clone())
        }
        _ => None,
    })
}

/// Whether an item looks as if the actions had been carried out on it.
fn shows(actions: &[Action], item: &Item) -> bool {
    actions.iter().all(|action| match action {
        Action::Set(path, value) => path.find(item) == Some(value),
        Action::Remove(path) => path.find(item).is_none(),
        _ => true,
    })
}
