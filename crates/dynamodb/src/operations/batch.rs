//! Batches: many reads, or many writes that each stand for themselves.
//!
//! The service takes 100 keys or 25 writes at a time, gives back what it had no room for, and knows
//! no conditions there: what has one goes as a single write.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mintkey_store::size::{self, MAX_ITEM};
use mintkey_store::{
    BatchGet, BatchWrite, Delete, Error, ErrorKind, Guard, Item, Key, Outcome, Put, Reply, Result,
    Row, Table, Write,
};

use crate::aws::retry;
use crate::client::{Answer, Repeat, Session};
use crate::operations::write::{self, keep};
use crate::transport::join_all::join_all;
use crate::transport::{Fault, Link, Why};
use crate::wire::errors::About;
use crate::wire::json::Parser;
use crate::wire::{body, errors};

/// The keys that one call may ask for.
const MOST_READ: usize = 100;
/// The writes that one call may carry.
const MOST_WRITTEN: usize = 25;

/// What became of writes, by their places.
type Outcomes = Vec<(usize, Result<()>)>;

/// Answers a batch of reads.
pub async fn get<L: Link>(session: &Session<'_, L>, batch: &BatchGet, now: i64) -> Result<Reply> {
    let table = &batch.table;
    // Each key once: the service refuses one that comes twice.
    let mut found: HashMap<&Key, Option<Item>> = HashMap::with_capacity(batch.keys.len());
    let mut wanted = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        table.check_key(key)?;
        if let Entry::Vacant(place) = found.entry(key) {
            place.insert(None);
            wanted.push(key);
        }
    }
    let calls = wanted.chunks(MOST_READ);
    for items in join_all(
        session.link,
        calls.map(|keys| read_all(session, batch, keys)),
    )
    .await
    {
        for (key, item) in items? {
            if let Some(place) = found.get_mut(&key) {
                *place = Some(item);
            }
        }
    }
    let mut items = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        let item = found.get(key).cloned().flatten();
        let mut item = item.filter(|item| !table.is_expired(item, now));
        if let (Some(item), Some(attributes)) = (&mut item, &batch.attributes) {
            keep(item, table, attributes);
        }
        items.push(item);
    }
    Ok(Reply::Items(items))
}

/// Reads keys, again as long as some are left.
async fn read_all<L: Link>(
    session: &Session<'_, L>,
    batch: &BatchGet,
    keys: &[&Key],
) -> Result<Vec<(Key, Item)>> {
    let session = session.anew();
    let mut found = Vec::with_capacity(keys.len());
    let mut left = keys.to_vec();
    let mut rounds = 0;
    while !left.is_empty() {
        if rounds > 0 {
            pause(&session, &batch.table, rounds).await?;
        }
        let before = left.len();
        left = read_some(&session, batch, &left, &mut found).await?;
        // Progress is no reason to wait longer each time.
        rounds = if left.len() < before { 1 } else { rounds + 1 };
    }
    Ok(found)
}

/// Reads keys and gives back those that the service had no room for.
async fn read_some<'k, L: Link>(
    session: &Session<'_, L>,
    batch: &BatchGet,
    keys: &[&'k Key],
    found: &mut Vec<(Key, Item)>,
) -> Result<Vec<&'k Key>> {
    let table = &*batch.table;
    let body = body::batch_get(session.inner, batch, keys);
    let answer = session.call("BatchGetItem", &body, Repeat::Read).await;
    let answer = answer.map_err(|failure| about(session, table).worded(failure))?;
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    answer.read(|parser, name| match &*name {
        "Responses" => parser.object(|parser, _| {
            parser.list(|parser| {
                items.push(parser.item()?);
                Some(())
            })
        }),
        "UnprocessedKeys" => parser.object(|parser, _| {
            parser.object(|parser, name| match &*name {
                "Keys" => parser.list(|parser| {
                    refused.push(parser.item()?);
                    Some(())
                }),
                _ => parser.skip(),
            })
        }),
        _ => parser.skip(),
    })?;
    for item in items {
        let key = table.key_of(&item)?;
        found.push((key, body::unmark(table, item)));
    }
    let mut left = Vec::with_capacity(refused.len());
    for item in refused {
        let key = table.key_of(&item)?;
        left.extend(keys.iter().find(|own| ***own == key));
    }
    Ok(left)
}

const fn about<'a, L>(session: &'a Session<'_, L>, table: &'a Table) -> About<'a> {
    About {
        config: &session.inner.config,
        table,
        key: None,
        progress: &session.progress,
    }
}

/// Waits before a part of a batch is sent again that the server had no capacity for.
async fn pause<L: Link>(session: &Session<'_, L>, table: &Table, round: u32) -> Result<()> {
    session.notes.throttle();
    let paused = session
        .link
        .pause(retry::pause(round), session.deadline.get())
        .await;
    paused.map_err(|fault| {
        if matches!(fault.why, Why::Late) {
            return throttled(session, table);
        }
        let outcome = session.progress.get().outcome();
        errors::fault(&session.inner.config, &fault, outcome).of(table)
    })
}

fn throttled<L>(session: &Session<'_, L>, table: &Table) -> Error {
    let config = &session.inner.config;
    let outcome = session.progress.get().outcome();
    let kind = match outcome {
        Outcome::NotApplied => ErrorKind::Throttled,
        Outcome::Unknown => ErrorKind::Timeout(outcome),
    };
    Error::new(
        kind,
        format!(
            "{}: DynamoDB had no capacity for this part of the batch on table {:?} within {} s: {}; slow down \
             (rate_limit=), or raise the table's capacity",
            config.address,
            table.name,
            config.timeout.as_secs_f64(),
            outcome.words()
        ),
    )
    .of(table)
}

/// Answers a batch of writes.
pub async fn write<L: Link>(
    session: &Session<'_, L>,
    batch: &BatchWrite,
    now: i64,
) -> Result<Reply> {
    let mut writing = Writing {
        session,
        batch,
        now,
        outcomes: batch.writes.iter().map(|_| None).collect(),
        broken: RefCell::default(),
    };
    for wave in writing.waves() {
        writing.wave(&wave).await?;
    }
    let Writing {
        outcomes, broken, ..
    } = writing;
    let outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Some(outcome) => outcome,
        None => Err(unbegun(session, &batch.table, broken.borrow().as_ref())),
    });
    Ok(Reply::Written(outcomes.collect()))
}

/// A write that was not begun, because the ones before it found nobody.
fn unbegun<L>(session: &Session<'_, L>, table: &Table, broken: Option<&Error>) -> Error {
    let why = broken.map_or("", |error| error.message.as_str());
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{}: not sent, because the server is not there ({why})",
            session.inner.config.address
        ),
    )
    .of(table)
}

struct Writing<'a, L> {
    session: &'a Session<'a, L>,
    batch: &'a BatchWrite,
    now: i64,
    outcomes: Vec<Option<Result<()>>>,
    /// Why nothing more is sent.
    broken: RefCell<Option<Error>>,
}

impl<L: Link> Writing<'_, L> {
    /// The places of the writes in groups without a key twice, so that two writes of a key happen in
    /// their order. What cannot be written at all has its outcome here.
    fn waves(&mut self) -> Vec<Vec<usize>> {
        let mut waves: Vec<Vec<usize>> = Vec::new();
        let mut seen: HashMap<Key, usize> = HashMap::with_capacity(self.batch.writes.len());
        for (place, write) in self.batch.writes.iter().enumerate() {
            let key = match checked_key(&self.batch.table, write) {
                Ok(key) => key,
                Err(error) => {
                    self.outcomes[place] = Some(Err(error));
                    continue;
                }
            };
            let wave = seen.entry(key).and_modify(|wave| *wave += 1).or_insert(0);
            if waves.len() <= *wave {
                waves.push(Vec::new());
            }
            waves[*wave].push(place);
        }
        waves
    }

    /// Writes a group, several calls at a time. An interrupt ends the whole batch.
    async fn wave(&mut self, places: &[usize]) -> Result<()> {
        let (plain, guarded): (Vec<usize>, Vec<usize>) = places
            .iter()
            .partition(|place| is_plain(&self.batch.writes[**place]));
        let calls: Vec<&[usize]> = plain
            .chunks(MOST_WRITTEN)
            .chain(guarded.chunks(1))
            .collect();
        let calls = calls.into_iter().map(|places| self.send(places));
        for outcomes in join_all(self.session.link, calls).await {
            for (place, outcome) in outcomes? {
                self.outcomes[place] = Some(outcome);
            }
        }
        Ok(())
    }

    /// Writes the items of one call, unless nobody was there for an earlier one.
    async fn send(&self, places: &[usize]) -> Result<Outcomes> {
        if self.broken.borrow().is_some() {
            return Ok(Vec::new());
        }
        let outcomes = match places {
            [only] => vec![(*only, self.single(self.session.anew(), *only).await)],
            places => self.joined(places).await,
        };
        for (_, outcome) in &outcomes {
            let Err(error) = outcome else { continue };
            match error.kind {
                ErrorKind::Interrupted(_) => {
                    // Of the batch as a whole: other writes of it may have been carried out.
                    let fault = Fault {
                        sent: true,
                        why: Why::Interrupted,
                    };
                    let config = &self.session.inner.config;
                    return Err(errors::fault(config, &fault, Outcome::Unknown));
                }
                ErrorKind::Unavailable(_) | ErrorKind::Timeout(_) => {
                    let why = Error::new(error.kind, error.message.clone());
                    self.broken.borrow_mut().get_or_insert(why);
                }
                _ => {}
            }
        }
        Ok(outcomes)
    }

    /// Writes one item by itself.
    async fn single(&self, session: Session<'_, L>, place: usize) -> Result<()> {
        let result = match &self.batch.writes[place] {
            Write::Put(put) => write::put_item(&session, put, self.now).await,
            Write::Update(update) => write::update_item(&session, update, self.now).await,
            Write::Delete(delete) => write::delete_item(&session, delete, self.now).await,
        };
        result.map(drop)
    }

    /// Writes several items in one call, again as long as some are left. What is left keeps the session's doubt: an
    /// attempt that was not answered may have written it.
    async fn joined(&self, places: &[usize]) -> Outcomes {
        let session = self.session.anew();
        let table = &*self.batch.table;
        let mut outcomes = Vec::with_capacity(places.len());
        let mut left = places.to_vec();
        let mut rounds = 0;
        while !left.is_empty() {
            if rounds > 0
                && let Err(error) = pause(&session, table, rounds).await
            {
                outcomes.extend(all_failed(left, error, table));
                break;
            }
            let before = left.len();
            match self.write_some(&session, &left).await {
                Ok(again) => {
                    let done = left.iter().filter(|place| !again.contains(place));
                    outcomes.extend(done.map(|place| (*place, Ok(()))));
                    left = again;
                }
                // One item that cannot be is no reason for the others: each for itself then.
                Err(error) if error.kind == ErrorKind::InvalidValue => {
                    for place in left {
                        outcomes.push((place, self.single(session.anew(), place).await));
                    }
                    break;
                }
                Err(error) => {
                    outcomes.extend(all_failed(left, error, table));
                    break;
                }
            }
            rounds = if left.len() < before { 1 } else { rounds + 1 };
        }
        outcomes
    }

    /// Sends writes in one call; gives back the places of those that the server had no capacity for.
    async fn write_some(&self, session: &Session<'_, L>, places: &[usize]) -> Result<Vec<usize>> {
        let table = &*self.batch.table;
        let writes = places.iter().map(|place| &self.batch.writes[*place]);
        let body = body::batch_write(self.session.inner, table, writes);
        let answer = session.call("BatchWriteItem", &body, Repeat::Write).await;
        let answer = answer.map_err(|failure| about(session, table).worded(failure))?;
        self.unprocessed(&answer, places)
    }

    /// The places of the writes that the server had no capacity for.
    fn unprocessed(&self, answer: &Answer<'_>, places: &[usize]) -> Result<Vec<usize>> {
        let mut items = Vec::new();
        answer.read(|parser, name| {
            if name != "UnprocessedItems" {
                return parser.skip();
            }
            parser.object(|parser, _| {
                parser.list(|parser| {
                    items.push(read_write(parser)?);
                    Some(())
                })
            })
        })?;
        let table = &*self.batch.table;
        let place = |item: &Item| {
            let key = table.key_of(item).ok()?;
            let own = |place: &&usize| {
                checked_key(table, &self.batch.writes[**place]).is_ok_and(|own| own == key)
            };
            places.iter().find(own).copied()
        };
        // A write that was not sent cannot come back: then this is the answer to something else.
        let left = items.iter().map(place).collect::<Option<_>>();
        left.ok_or_else(|| answer.unreadable())
    }
}

/// One failure of several writes.
fn all_failed(places: Vec<usize>, error: Error, table: &Table) -> Outcomes {
    let errors = error.of_all(places.len()).into_iter();
    let errors = errors.map(|own: Result<()>| own.map_err(|error| error.of(table)));
    places.into_iter().zip(errors).collect()
}

/// Reads a write that comes back, as an item that has its key.
fn read_write(parser: &mut Parser<'_>) -> Option<Item> {
    let mut found = None;
    parser.object(|parser, _| {
        parser.object(|parser, name| match &*name {
            "Item" | "Key" => {
                found = Some(parser.item()?);
                Some(())
            }
            _ => parser.skip(),
        })
    })?;
    found
}

/// The key of a write that can be sent.
fn checked_key(table: &Table, write: &Write) -> Result<Key> {
    match write {
        Write::Put(put) => {
            let key = table.key_of(&put.item)?;
            size::check_item(&put.item, table, MAX_ITEM)?;
            table.check_indexed(&put.item)?;
            Ok(key)
        }
        Write::Update(update) => {
            table.check_key(&update.key)?;
            Ok(update.key.clone())
        }
        Write::Delete(delete) => {
            table.check_key(&delete.key)?;
            Ok(delete.key.clone())
        }
    }
}

/// Whether a write needs no look at the stored row.
fn is_plain(write: &Write) -> bool {
    let open = |guard: &Guard| {
        let expected = guard.row == Row::Any || (guard.row == Row::Absent && guard.wide);
        expected && guard.version.is_none() && guard.condition.is_none()
    };
    match write {
        Write::Put(Put { guard, .. }) => open(guard),
        Write::Delete(Delete { guard, .. }) => guard.is_open(),
        Write::Update(_) => false,
    }
}
