//! Batch writes. Different rows are written concurrently. Writes that need not read the row before share calls, one or
//! more for each slot group.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::{discriminant, take};
use std::sync::Arc;

use mintkey_runtime::Stop;
use mintkey_store::transaction::MAX_ITEMS;
use mintkey_store::{
    BatchWrite, Error, ErrorKind, Outcome, Put, Reply, Result, Table, TransactionWrite, Write,
};

use crate::keyspace::commands::{
    MAX_FIELDS, MAX_PUTS_PER_CALL, Mode, RowPut, ScriptResult, puts_call, puts_unique_call,
    remove_call, script_result, single_step_mode, write_call,
};
use crate::keyspace::layout::{Layout, MarkerLocation};
use crate::keyspace::unique::{UniqueValue, unique_values};
use crate::operations::context::OperationContext;
use crate::operations::join_all::JoinAll;
use crate::operations::uncertainty::Uncertainty;
use crate::operations::write::{decode_present_row, is_uncertain};
use crate::protocol::channel::{FinalReply, Replies};
use crate::protocol::resp::{Call, Value};

impl OperationContext<'_> {
    /// Writes several items: different rows concurrently, the same row in order.
    pub async fn batch_write(&self, batch: &BatchWrite) -> Result<Reply> {
        let mut written: Vec<Result<()>> = Vec::with_capacity(batch.writes.len());
        let mut rest = &batch.writes[..];
        while !rest.is_empty() {
            let mut writes = &rest[..distinct_rows(rest)];
            let result = match self.independent(&batch.table, writes).await {
                Ok((layouts, count)) => {
                    writes = &writes[..count];
                    self.write_distinct(&batch.table, &layouts, writes).await
                }
                Err(error) => Err(error),
            };
            rest = &rest[writes.len()..];
            match result {
                Ok(results) => written.extend(results),
                Err(error) if written.is_empty() => return Err(error),
                Err(error) => written.extend(error.of_all(writes.len())),
            }
            let failed = written.iter().filter_map(|result| result.as_ref().err());
            match failed
                .map(|error| error.kind)
                .find(|kind| ends_batch(*kind))
            {
                // An interrupt is the result of the whole batch.
                Some(ErrorKind::Interrupted(_)) => {
                    let address = &self.store.config.address;
                    let doing = "waiting for a reply in the middle of a batch";
                    let may_be_written = |result: &Result<()>| match result {
                        Ok(()) => true,
                        Err(error) => error.kind.outcome() == Some(Outcome::Unknown),
                    };
                    let outcome = if written.iter().any(may_be_written) {
                        Outcome::Unknown
                    } else {
                        Outcome::NotApplied
                    };
                    return Err(Stop::Interrupted.error(address, doing, outcome));
                }
                Some(_) => {
                    let kind = ErrorKind::Timeout(Outcome::NotApplied);
                    let message = "not sent, because Redis took too long for the items before it";
                    written.extend(Error::new(kind, message).of_all(rest.len()));
                    break;
                }
                None => {}
            }
        }
        Ok(Reply::Written(written))
    }

    /// Writes different rows, concurrently.
    async fn write_distinct(
        &self,
        table: &Arc<Table>,
        layouts: &[Arc<Layout>],
        writes: &[Write],
    ) -> Result<Vec<Result<()>>> {
        let mut plan = self.plan(layouts, writes);
        let mut written = self.write_shared(layouts, writes, &mut plan.others).await;
        let mut join_all = JoinAll::new();
        for index in &plan.others {
            self.add_write(
                &mut join_all,
                *index,
                &writes[*index],
                Uncertainty::default(),
            );
        }
        let replies = join_all.exchange(self.channel, plan.calls).await;
        check_batch(&replies)?;
        for (reply, indexes) in replies.into_iter().zip(&plan.indexes) {
            match reply {
                Ok(reply) => {
                    written.extend(self.results_of(table, writes, indexes, reply, &mut join_all));
                }
                // The rows show whether they were written.
                Err(error) if is_uncertain(&error) => {
                    for index in indexes {
                        let uncertainty = Uncertainty::of(&error);
                        self.add_write(&mut join_all, *index, &writes[*index], uncertainty);
                    }
                }
                Err(error) => {
                    let failed = error.of_all(indexes.len());
                    written.extend(indexes.iter().copied().zip(failed));
                }
            }
        }
        written.extend(join_all.finish(self.channel).await);
        written.sort_by_key(|(index, _)| *index);
        Ok(written.into_iter().map(|(_, result)| result).collect())
    }

    /// The results of the writes of one call. Those that it has not written are added to `join_all`.
    fn results_of<'a>(
        &self,
        table: &Table,
        writes: &'a [Write],
        indexes: &[usize],
        reply: FinalReply,
        join_all: &mut JoinAll<'a>,
    ) -> Vec<(usize, Result<()>)>
    where
        Self: 'a,
    {
        if matches!(&reply.value, Value::Status(word) if word == "OK") {
            return indexes.iter().map(|index| (*index, Ok(()))).collect();
        }
        let mut results = Vec::with_capacity(indexes.len());
        let values = reply_for_each(reply.value, indexes.len());
        for (index, value) in indexes.iter().zip(values) {
            let write = &writes[*index];
            let mut uncertainty = Uncertainty::after(reply.sent_before);
            match script_result(value, table, &self.store.layouts) {
                Ok(ScriptResult::Done) => {
                    results.push((*index, Ok(())));
                    continue;
                }
                Ok(ScriptResult::RowPresent(row)) => {
                    if let Err(error) = decode_present_row(row, table, write.key()) {
                        uncertainty.add(Uncertainty::of(&error));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let error = error.at(write.key());
                    results.push((*index, uncertainty.settle(Err(error))));
                    continue;
                }
            }
            self.add_write(join_all, *index, write, uncertainty);
        }
        results
    }

    /// Writes rows of a table whose markers are in other slot groups: the rows of one slot group in as few transactions as
    /// possible. Returns what was written. Of what was refused nothing was written: it stays in `others`, because one row must
    /// not stop the others.
    async fn write_shared(
        &self,
        layouts: &[Arc<Layout>],
        writes: &[Write],
        others: &mut Vec<usize>,
    ) -> Vec<(usize, Result<()>)> {
        let Some(first) = layouts
            .first()
            .filter(|own| own.markers == MarkerLocation::Distributed)
        else {
            return Vec::new();
        };
        // Each row may give up and claim each of its values.
        let most = MAX_ITEMS / (1 + 2 * first.table.unique.len());
        let mut groups: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for index in take(others) {
            let partition = &writes[index].key().partition;
            let group = self
                .store
                .config
                .keyspace
                .slot_group(&first.table, partition);
            groups.entry(group).or_default().push(index);
        }
        let chunks = groups.values().flat_map(|group| group.chunks(most.max(1)));
        let (shared, single): (Vec<&[usize]>, Vec<_>) = chunks.partition(|own| own.len() > 1);
        others.extend(single.into_iter().flatten());
        let mut join_all = JoinAll::new();
        for (number, chunk) in shared.iter().enumerate() {
            let items: Vec<TransactionWrite> = chunk
                .iter()
                .map(|index| match writes[*index].clone() {
                    Write::Put(put) => TransactionWrite::Put(put),
                    Write::Update(update) => TransactionWrite::Update(update),
                    Write::Delete(delete) => TransactionWrite::Delete(delete),
                })
                .collect();
            let context = *self;
            join_all.add(self.channel, number, |channel| async move {
                context.on(&channel).write_all(&items).await.map(drop)
            });
        }
        let mut written = Vec::with_capacity(writes.len());
        for (number, result) in join_all.finish(self.channel).await {
            let chunk = shared[number];
            match result {
                Ok(()) => written.extend(chunk.iter().map(|index| (*index, Ok(())))),
                Err(error) if error.kind.outcome().is_none() => others.extend(chunk),
                Err(error) => {
                    let failed = error.of_all(chunk.len());
                    written.extend(chunk.iter().copied().zip(failed));
                }
            }
        }
        others.sort_unstable();
        written
    }

    /// Adds a write that must read the row before, or that is uncertain.
    fn add_write<'a>(
        &self,
        join_all: &mut JoinAll<'a>,
        index: usize,
        write: &'a Write,
        uncertainty: Uncertainty,
    ) where
        Self: 'a,
    {
        let context = *self;
        join_all.add(self.channel, index, |channel| async move {
            let context = context.on(&channel);
            match write {
                Write::Put(put) => context.put(put, uncertainty).await,
                Write::Update(update) => context.update(update).await.map(drop),
                Write::Delete(delete) => context.delete(delete, uncertainty).await.map(drop),
            }
        });
    }

    /// The layouts in the slot groups of these writes, and the number of them, from the first on, that do not concern the same
    /// unique values. Those of one value must be done in order.
    async fn independent(
        &self,
        table: &Arc<Table>,
        writes: &[Write],
    ) -> Result<(Vec<Arc<Layout>>, usize)> {
        let layouts = self.layouts_of(table, writes).await?;
        let is_plain = layouts
            .iter()
            .all(|own| own.markers == MarkerLocation::None);
        if is_plain || writes.len() == 1 {
            return Ok((layouts, writes.len()));
        }
        let count = self.independent_values(&layouts, writes).await?;
        Ok((layouts, count))
    }

    /// The layouts in the slot groups of these writes, in order.
    async fn layouts_of(&self, table: &Arc<Table>, writes: &[Write]) -> Result<Vec<Arc<Layout>>> {
        let keyspace = &self.store.config.keyspace;
        let slot_groups: BTreeSet<u8> = writes
            .iter()
            .map(|write| keyspace.slot_group(table, &write.key().partition))
            .collect();
        let slot_groups: Vec<u8> = slot_groups.into_iter().collect();
        self.layouts(table, &slot_groups).await
    }

    /// Plans as few calls as possible for the writes that need not read the row before.
    fn plan(&self, layouts: &[Arc<Layout>], writes: &[Write]) -> CallPlan {
        let mut plan = CallPlan::default();
        let mut groups: Vec<PutGroup<'_>> = layouts.iter().map(|_| PutGroup::default()).collect();
        let push_call = |layout: &Layout, group: &mut PutGroup<'_>, plan: &mut CallPlan| {
            let call = group.call(layout, self.now);
            plan.push(call, take(&mut group.indexes));
        };
        for (index, write) in writes.iter().enumerate() {
            let Some((layout_index, mode)) = self.single_step_of(layouts, write) else {
                plan.others.push(index);
                continue;
            };
            let layout = &layouts[layout_index];
            let call = match (write, mode) {
                (Write::Put(put), Some(mode)) if shares_calls(layout, put) => {
                    let group = &mut groups[layout_index];
                    let is_certain = put.guard.collision_free && matches!(mode, Mode::Absent);
                    let mode = if is_certain { Mode::New } else { mode };
                    let Ok(claims) = unique_values(&layout.table, &put.item) else {
                        plan.others.push(index);
                        continue;
                    };
                    if group.needs_call_before(layout, mode) {
                        push_call(layout, group, &mut plan);
                    }
                    group.puts.push((put, mode));
                    group.claims.push(claims);
                    group.indexes.push(index);
                    continue;
                }
                (Write::Put(put), Some(mode)) => {
                    let call = write_call(layout, &put.key, &put.item, mode, self.now);
                    let Ok(call) = call else {
                        plan.others.push(index);
                        continue;
                    };
                    call
                }
                _ => remove_call(layout, write.key(), None),
            };
            plan.push(call, vec![index]);
        }
        for (layout, mut group) in layouts.iter().zip(groups) {
            if !group.puts.is_empty() {
                push_call(layout, &mut group, &mut plan);
            }
        }
        plan
    }

    /// The index of the layout and the mode of a put, for a write that need not read the row before. `None` if it must, or
    /// is refused.
    fn single_step_of(&self, layouts: &[Arc<Layout>], write: &Write) -> Option<SingleStep> {
        let key = write.key();
        let keyspace = &self.store.config.keyspace;
        let slot_group = keyspace.slot_group(&layouts.first()?.table, &key.partition);
        let layout_index = layouts
            .binary_search_by_key(&slot_group, |layout| layout.slot_group)
            .ok()?;
        if layouts[layout_index].markers == MarkerLocation::Distributed {
            return None;
        }
        match write {
            Write::Put(put) => {
                let mode = single_step_mode(put)?;
                let table = &layouts[layout_index].table;
                put.check(table, self.store.config.max_item).ok()?;
                Some((layout_index, Some(mode)))
            }
            Write::Delete(delete) if delete.guard.is_open() => {
                delete.check().ok()?;
                Some((layout_index, None))
            }
            _ => None,
        }
    }
}

/// A write that need not read the row before: the index of its layout, and the mode of a put.
type SingleStep = (usize, Option<Mode<'static>>);

/// Rows of one slot group that one call puts, and the indexes of their writes.
#[derive(Default)]
struct PutGroup<'a> {
    puts: Vec<RowPut<'a>>,
    /// The unique values that each row claims.
    claims: Vec<Vec<UniqueValue>>,
    indexes: Vec<usize>,
}

impl PutGroup<'_> {
    /// Whether a row with this mode cannot be in the same call.
    fn needs_call_before(&self, layout: &Layout, mode: Mode<'_>) -> bool {
        let Some((_, first)) = self.puts.first() else {
            return false;
        };
        let differs = discriminant(first) != discriminant(&mode);
        self.puts.len() == MAX_PUTS_PER_CALL || (differs && layout.markers != MarkerLocation::None)
    }

    /// The call that puts the rows. They leave the group.
    fn call(&mut self, layout: &Layout, now: i64) -> Call {
        let (puts, claims) = (take(&mut self.puts), take(&mut self.claims));
        if layout.markers == MarkerLocation::None {
            puts_call(layout, &puts, now)
        } else {
            puts_unique_call(layout, &puts, &claims, now)
        }
    }
}

/// Whether a put can be in one call with others.
fn shares_calls(layout: &Layout, put: &Put) -> bool {
    layout.table.indexes.is_empty()
        && (layout.markers == MarkerLocation::None || put.item.len() < MAX_FIELDS / 2)
}

/// The calls of a batch.
#[derive(Default)]
struct CallPlan {
    calls: Vec<Call>,
    /// The indexes of the writes in each call.
    indexes: Vec<Vec<usize>>,
    /// The indexes of the writes that must read the row before, or are refused.
    others: Vec<usize>,
}

impl CallPlan {
    fn push(&mut self, call: Call, indexes: Vec<usize>) {
        self.calls.push(call);
        self.indexes.push(indexes);
    }
}

/// The reply to each write of a call.
fn reply_for_each(value: Value, writes: usize) -> Vec<Value> {
    match value {
        Value::Array(replies) if replies.len() == writes => replies,
        other => vec![other; writes],
    }
}

/// The number of writes, from the first on, that write no row twice. A write that is sent again must not come after another
/// one of the same row.
fn distinct_rows(writes: &[Write]) -> usize {
    let mut seen = HashSet::with_capacity(writes.len());
    let repeated = writes.iter().position(|write| !seen.insert(write.key()));
    repeated.unwrap_or(writes.len())
}

/// Fails if a batch fails as a whole: it was interrupted, or all its calls failed in the same way, and reading the rows
/// cannot show more.
fn check_batch(replies: &Replies) -> Result<()> {
    let failed = |reply: &Result<FinalReply>| reply.as_ref().err().map(|error| error.kind);
    let Some(first) = replies.iter().find_map(|reply| reply.as_ref().err()) else {
        return Ok(());
    };
    let is_uniform = replies
        .iter()
        .all(|reply| failed(reply) == Some(first.kind));
    match first.kind {
        ErrorKind::Interrupted(_) if !is_uniform => Err(first.for_another().uncertain()),
        ErrorKind::Unavailable(Outcome::Unknown) => Ok(()),
        _ if is_uniform => Err(first.for_another()),
        _ => Ok(()),
    }
}

/// Whether an error leaves no time for the writes after it.
const fn ends_batch(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted(_) | ErrorKind::Timeout(_))
}
