//! Batches: what they write goes together, and what needs no look before in a call for the rows of each
//! bucket.

use std::collections::{BTreeSet, HashSet};
use std::mem::take;
use std::sync::Arc;

use mintkey_store::{BatchWrite, Error, ErrorKind, Key, Outcome, Reply, Result, Table, Write};

use crate::keyspace::commands::{
    Ended, GROUP, Mode, RowPut, ended, one_step, puts_call, remove_call, write_call,
};
use crate::keyspace::layout::Layout;
use crate::operations::context::Errand;
use crate::operations::join_all::Abreast;
use crate::operations::uncertainty::Doubt;
use crate::operations::write::is_doubtful;
use crate::protocol::resp::{Call, Value};

impl Errand<'_> {
    /// Writes several items. Those of different rows go together; a row's own follow one another.
    pub async fn batch_write(&self, batch: &BatchWrite) -> Result<Reply> {
        let mut written: Vec<Result<()>> = Vec::with_capacity(batch.writes.len());
        let keys: Vec<Option<Key>> = batch.writes.iter().map(Write::key).collect();
        let (mut rest, mut rest_keys) = (&batch.writes[..], &keys[..]);
        while !rest.is_empty() {
            let many = once_each(rest_keys);
            let (writes, keys);
            (writes, rest) = rest.split_at(many);
            (keys, rest_keys) = rest_keys.split_at(many);
            match self.write_together(&batch.table, writes, keys).await {
                Ok(answers) => written.extend(answers),
                Err(error) if written.is_empty() => return Err(error),
                Err(error) => written.extend(error.of_all(writes.len())),
            }
            let failed = written.iter().filter_map(|result| result.as_ref().err());
            match failed.map(|error| error.kind).find(|kind| ends_all(*kind)) {
                // Whoever is interrupted hears of nothing else.
                Some(ErrorKind::Interrupted(_)) => {
                    let kind = ErrorKind::Interrupted(Outcome::Unknown);
                    let message =
                        "interrupted while waiting for Redis: some of it may have been written";
                    return Err(Error::new(kind, message));
                }
                Some(_) => {
                    let kind = ErrorKind::Timeout(Outcome::NotApplied);
                    let message = "not begun, because Redis took too long for what came before";
                    written.extend(Error::new(kind, message).of_all(rest.len()));
                    break;
                }
                None => {}
            }
        }
        Ok(Reply::Written(written))
    }

    /// Writes items of different rows: all that can be asked at once is.
    async fn write_together(
        &self,
        table: &Arc<Table>,
        writes: &[Write],
        keys: &[Option<Key>],
    ) -> Result<Vec<Result<()>>> {
        let layouts = self.layouts_of(table, writes).await?;
        let together = self.together(&layouts, writes, keys);
        let mut abreast = Abreast::default();
        for place in &together.others {
            self.begin(&mut abreast, *place, &writes[*place], Doubt::default());
        }
        let answer = abreast.ask(self.talk, together.calls).await;
        let mut written: Vec<(usize, Result<()>)> = Vec::with_capacity(writes.len());
        match answer {
            Ok(answered) => {
                for (answered, places) in answered.into_iter().zip(&together.places) {
                    if matches!(&answered.value, Value::Status(word) if word == "OK") {
                        written.extend(places.iter().map(|place| (*place, Ok(()))));
                        continue;
                    }
                    let sent_before = answered.sent_before;
                    for (place, value) in places.iter().zip(each(answered.value, places.len())) {
                        let doubt = Doubt::after(sent_before);
                        let write = &writes[*place];
                        match ended(value, table) {
                            Ok(Ended::Done) => written.push((*place, Ok(()))),
                            Ok(other) => {
                                if matches!(other, Ended::Stale) {
                                    self.engine.layouts.forget();
                                }
                                self.begin(&mut abreast, *place, write, doubt);
                            }
                            Err(error) => written.push((
                                *place,
                                doubt.settle(Err(match &keys[*place] {
                                    Some(key) => error.at(key),
                                    None => error,
                                })),
                            )),
                        }
                    }
                }
            }
            Err(error) if is_doubtful(&error) => {
                // The others had only looked: they begin anew.
                abreast = Abreast::default();
                for place in &together.others {
                    self.begin(&mut abreast, *place, &writes[*place], Doubt::default());
                }
                for place in together.places.iter().flatten() {
                    self.begin(&mut abreast, *place, &writes[*place], Doubt::of(&error));
                }
            }
            Err(error) => return Err(error),
        }
        written.extend(abreast.finish(self.talk).await);
        written.sort_by_key(|(place, _)| *place);
        Ok(written.into_iter().map(|(_, result)| result).collect())
    }

    /// Begins a write that needs a look before, or that was sent before and may have been carried out.
    fn begin<'a>(&self, abreast: &mut Abreast<'a>, place: usize, write: &'a Write, doubt: Doubt)
    where
        Self: 'a,
    {
        let (engine, now) = (self.engine, self.now);
        abreast.begin(place, |talk| async move {
            let errand = Errand {
                engine,
                talk: &talk,
                now,
            };
            match write {
                Write::Put(put) => errand.put(put, doubt).await,
                Write::Update(update) => errand.update(update).await.map(drop),
                Write::Delete(delete) => errand.delete(delete, doubt).await,
            }
        });
    }

    /// The layouts of the buckets that these writes go to, in order.
    async fn layouts_of(&self, table: &Arc<Table>, writes: &[Write]) -> Result<Vec<Arc<Layout>>> {
        let space = &self.engine.config.space;
        if !space.in_buckets {
            return self.all_layouts(table).await;
        }
        let buckets: BTreeSet<u8> = writes
            .iter()
            .filter_map(|write| match write {
                Write::Put(put) => space.bucket_of(put),
                Write::Update(update) => Some(space.bucket(&update.key.partition)),
                Write::Delete(delete) => Some(space.bucket(&delete.key.partition)),
            })
            .collect();
        let buckets: Vec<u8> = buckets.into_iter().collect();
        self.layouts(table, &buckets).await
    }

    /// Those of these writes that need no look before, as few calls.
    fn together(
        &self,
        layouts: &[Arc<Layout>],
        writes: &[Write],
        keys: &[Option<Key>],
    ) -> Together {
        let mut together = Together::default();
        let mut groups: Vec<Group<'_>> = layouts.iter().map(|_| Group::default()).collect();
        for (place, (write, key)) in writes.iter().zip(keys).enumerate() {
            let step = key
                .as_ref()
                .and_then(|key| Some((key, self.one_step_of(layouts, write, key)?)));
            let Some((key, (number, mode))) = step else {
                together.others.push(place);
                continue;
            };
            let layout = &layouts[number];
            let call = match (write, mode) {
                (Write::Put(put), Some(mode)) if layout.table.indexes.is_empty() => {
                    let group = &mut groups[number];
                    let certain = put.guard.wide && matches!(mode, Mode::Absent);
                    let mode = if certain { Mode::New } else { mode };
                    group.puts.push((key, put, mode));
                    group.places.push(place);
                    if group.puts.len() == GROUP {
                        together.push(
                            puts_call(layout, &group.puts, self.now),
                            take(&mut group.places),
                        );
                        group.puts.clear();
                    }
                    continue;
                }
                (Write::Put(put), Some(mode)) => write_call(layout, key, &put.item, mode, self.now),
                _ => remove_call(layout, key, None),
            };
            together.push(call, vec![place]);
        }
        for (layout, group) in layouts.iter().zip(groups) {
            if !group.puts.is_empty() {
                together.push(puts_call(layout, &group.puts, self.now), group.places);
            }
        }
        together
    }

    /// Which of the layouts a write that needs no look before goes to, and the mode of a put;
    /// nothing if it needs one, or is refused.
    fn one_step_of(&self, layouts: &[Arc<Layout>], write: &Write, key: &Key) -> Option<OneStep> {
        let bucket = self.engine.config.space.bucket(&key.partition);
        let number = layouts
            .binary_search_by_key(&bucket, |layout| layout.bucket)
            .ok()?;
        match write {
            Write::Put(put) => {
                let mode = one_step(put)?;
                self.check_put(&layouts[number], put).ok()?;
                Some((number, Some(mode)))
            }
            Write::Delete(delete) if delete.guard.is_open() => {
                delete.table.check_key(key).ok()?;
                Some((number, None))
            }
            _ => None,
        }
    }
}

/// A write that needs no look before: its layout's place, the mode of a put.
type OneStep = (usize, Option<Mode<'static>>);

/// Rows of one bucket that are put in one step, and the places of their writes.
#[derive(Default)]
struct Group<'a> {
    puts: Vec<RowPut<'a>>,
    places: Vec<usize>,
}

/// Writes that go together.
#[derive(Default)]
struct Together {
    calls: Vec<Call>,
    /// The places of the writes that each call carries.
    places: Vec<Vec<usize>>,
    /// The places of those that need a look, or are refused.
    others: Vec<usize>,
}

impl Together {
    fn push(&mut self, call: Call, places: Vec<usize>) {
        self.calls.push(call);
        self.places.push(places);
    }
}

/// What a call says to each of its writes.
fn each(value: Value, writes: usize) -> Vec<Value> {
    match value {
        Value::Array(answers) if answers.len() == writes => answers,
        other => vec![other; writes],
    }
}

/// How many writes of rows with these keys, from the first on, write no row twice: a write that must be done again must
/// not come behind another of the same row.
fn once_each(keys: &[Option<Key>]) -> usize {
    let mut met = HashSet::with_capacity(keys.len());
    // What has no key is refused, and gets in nobody's way.
    let mut known = keys.iter().map(Option::as_ref);
    known
        .position(|key| key.is_some_and(|key| !met.insert(key)))
        .unwrap_or(keys.len())
}

/// Whether an error leaves no time for what comes behind it.
const fn ends_all(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted(_) | ErrorKind::Timeout(_))
}
