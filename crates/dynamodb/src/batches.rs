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

use crate::calls::{Answer, Repeat, Session};
use crate::errors::About;
use crate::json::Parser;
use crate::link::{Link, Why};
use crate::operations::{self, keep};
use crate::store::Inner;
use crate::together::together;
use crate::{errors, retry, translate};

/// The keys that one call may ask for.
const MOST_READ: usize = 100;
/// The writes that one call may carry.
const MOST_WRITTEN: usize = 25;

/// What a call of a batch came to.
enum Sent {
    /// Done, but for these places.
    Left(Vec<usize>),
    /// Refused as a whole.
    Refused(Error),
}

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
    for items in together(
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
    let body = translate::batch_get(session.inner, batch, keys);
    let answer = session.call("BatchGetItem", &body, Repeat::Read).await;
    let answer = answer.map_err(|failure| about(session.inner, table, false).worded(failure))?;
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    answer.read(session.inner, Repeat::Read, |parser, name| match &*name {
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
        found.push((key, translate::unmark(table, item)));
    }
    let mut left = Vec::with_capacity(refused.len());
    for item in refused {
        let key = table.key_of(&item)?;
        left.extend(keys.iter().find(|own| ***own == key));
    }
    Ok(left)
}

const fn about<'a>(inner: &'a Inner, table: &'a Table, writes: bool) -> About<'a> {
    About {
        inner,
        table,
        key: None,
        writes,
    }
}

/// Lets the service breathe, which had no room for all.
async fn pause<L: Link>(session: &Session<'_, L>, table: &Table, round: u32) -> Result<()> {
    session.notes.throttle();
    let paused = session
        .link
        .pause(retry::pause(round), session.deadline)
        .await;
    paused.map_err(|fault| match fault.why {
        Why::Late => throttled(session.inner, table),
        _ => errors::fault(session.inner, &fault, Outcome::NotApplied).of(table),
    })
}

fn throttled(inner: &Inner, table: &Table) -> Error {
    Error::new(
        ErrorKind::Throttled,
        format!(
            "{}: DynamoDB had no room for this part of the batch on table {:?} within {} s: it was not done; slow down \
             (rate_limit=), or raise the table's capacity",
            inner.config.address,
            table.name,
            inner.config.timeout.as_secs_f64()
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
        None => Err(unbegun(
            session.inner,
            &batch.table,
            broken.borrow().as_ref(),
        )),
    });
    Ok(Reply::Written(outcomes.collect()))
}

/// A write that was not begun, because the ones before it found nobody.
fn unbegun(inner: &Inner, table: &Table, broken: Option<&Error>) -> Error {
    let why = broken.map_or("", |error| error.message.as_str());
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{}: not sent, because the server is not there ({why})",
            inner.config.address
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
        for outcomes in together(self.session.link, calls).await {
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
            [only] => vec![(*only, self.single(*only).await)],
            places => self.joined(places).await?,
        };
        for (_, outcome) in &outcomes {
            let Err(error) = outcome else { continue };
            match error.kind {
                ErrorKind::Interrupted(_) => {
                    return Err(Error::new(error.kind, error.message.clone()));
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
    async fn single(&self, place: usize) -> Result<()> {
        let session = self.session.anew();
        let result = match &self.batch.writes[place] {
            Write::Put(put) => operations::put_item(&session, put, self.now).await,
            Write::Update(update) => operations::update_item(&session, update, self.now).await,
            Write::Delete(delete) => operations::delete_item(&session, delete, self.now).await,
        };
        result.map(drop)
    }

    /// Writes several items in one call, again as long as some are left.
    async fn joined(&self, places: &[usize]) -> Result<Outcomes> {
        let session = self.session.anew();
        let table = &*self.batch.table;
        let mut outcomes = Vec::with_capacity(places.len());
        let mut left = places.to_vec();
        let mut rounds = 0;
        while !left.is_empty() {
            if rounds > 0
                && let Err(error) = pause(&session, table, rounds).await
            {
                if !matches!(error.kind, ErrorKind::Throttled) {
                    return Err(error);
                }
                let refused = |place| (place, Err(throttled(self.session.inner, table)));
                outcomes.extend(left.into_iter().map(refused));
                break;
            }
            let before = left.len();
            match self.write_some(&session, &left).await {
                Sent::Left(again) => {
                    let done = left.iter().filter(|place| !again.contains(place));
                    outcomes.extend(done.map(|place| (*place, Ok(()))));
                    left = again;
                }
                // One item that cannot be is no reason for the others: each for itself then.
                Sent::Refused(error) if error.kind == ErrorKind::InvalidValue => {
                    for place in left {
                        outcomes.push((place, self.single(place).await));
                    }
                    break;
                }
                Sent::Refused(error) => {
                    let own = || Error::new(error.kind, error.message.clone()).of(table);
                    outcomes.extend(left.into_iter().map(|place| (place, Err(own()))));
                    break;
                }
            }
            rounds = if left.len() < before { 1 } else { rounds + 1 };
        }
        Ok(outcomes)
    }

    async fn write_some(&self, session: &Session<'_, L>, places: &[usize]) -> Sent {
        let table = &*self.batch.table;
        let writes = places.iter().map(|place| &self.batch.writes[*place]);
        let body = translate::batch_write(self.session.inner, table, writes);
        let answer = match session.call("BatchWriteItem", &body, Repeat::Write).await {
            Ok(answer) => answer,
            Err(failure) => {
                return Sent::Refused(about(self.session.inner, table, true).worded(failure));
            }
        };
        match self.unprocessed(&answer, places) {
            Ok(left) => Sent::Left(left),
            Err(error) => Sent::Refused(error),
        }
    }

    /// The places of the writes that the service had no room for.
    fn unprocessed(&self, answer: &Answer, places: &[usize]) -> Result<Vec<usize>> {
        let mut keys = Vec::new();
        answer.read(self.session.inner, Repeat::Write, |parser, name| {
            if name != "UnprocessedItems" {
                return parser.skip();
            }
            parser.object(|parser, _| {
                parser.list(|parser| {
                    keys.push(read_write(parser)?);
                    Some(())
                })
            })
        })?;
        let table = &*self.batch.table;
        let mut left = Vec::with_capacity(keys.len());
        for item in keys {
            let key = table.key_of(&item)?;
            let own = |place: &&usize| {
                checked_key(table, &self.batch.writes[**place]).is_ok_and(|own| own == key)
            };
            left.extend(places.iter().find(own));
        }
        Ok(left)
    }
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
