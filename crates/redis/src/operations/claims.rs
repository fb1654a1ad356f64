//! Unique values in a Cluster: a write claims the markers of its values, in the slot groups of these, before it writes its
//! rows. Whether a marker counts is decided by the row that it names. See `docs/decisions/0065-unique-values-on-redis.md`.

use std::sync::Arc;

use mintkey_store::{Error, Item, Key, Result, Table, TransactionWrite};

use crate::keyspace::commands::clean_call;
use crate::keyspace::layout::{Keyspace, Layout, MarkerLocation};
use crate::keyspace::rows::{StoredRow, decode_row};
use crate::keyspace::transactions::{Change, TransactionMarker};
use crate::keyspace::unique::{
    Claimant, TakenValue, UniqueValue, claim_call, inspect_call, intent_call, marker, parse_marker,
    release_exact_call,
};
use crate::operations::context::OperationContext;
use crate::operations::evaluation::{Evaluated, Tables, cancelled_for};
use crate::operations::unique::{Holder, damaged_marker, not_applied, violation};
use crate::operations::write::is_uncertain;
use crate::protocol::replies::{checked, unexpected_reply};
use crate::protocol::resp::{Call, Value};

/// The intent of an attempt. While it is there, the attempt can write its rows.
pub struct Intent<'a> {
    /// The marker of the attempt.
    marker: &'a TransactionMarker,
    key: Vec<u8>,
    is_sent: bool,
}

impl<'a> Intent<'a> {
    /// The intent of an attempt with this marker.
    pub fn new(keyspace: &Keyspace, marker: &'a TransactionMarker) -> Self {
        Self {
            marker,
            key: keyspace.intent_key(marker.slot_group, &marker.token),
            is_sent: false,
        }
    }

    /// The call that writes it.
    pub fn call(&mut self) -> Call {
        self.is_sent = true;
        intent_call(self.marker.slot_group, &self.key, &self.marker.lifetime)
    }

    /// Its key, if it was written.
    pub fn into_key(self) -> Option<Vec<u8>> {
        self.is_sent.then_some(self.key)
    }
}

/// The evaluated items of a transaction.
pub struct Items<'a> {
    pub tables: &'a Tables<'a>,
    /// The items.
    pub writes: &'a [TransactionWrite],
    /// What becomes of them.
    pub evaluated: &'a [Evaluated],
}

impl<'a> Items<'a> {
    /// The item at a position, if it is put: its key and what is written.
    pub fn put(&self, index: usize) -> Option<(&'a Key, &'a Item)> {
        match &self.evaluated.get(index)?.change {
            Change::Put(item) => Some((self.writes[index].key(), item)),
            Change::Nothing | Change::Delete => None,
        }
    }

    fn table(&self, index: usize) -> &'a Arc<Table> {
        self.writes[index].table()
    }

    /// Whether an item of this table and key gives up a value.
    fn releases(&self, table: &Table, key: &Key, value: &UniqueValue) -> bool {
        let mut items = self.writes.iter().zip(self.evaluated);
        items.any(|(write, own)| {
            write.table().name == table.name
                && write.key() == key
                && own.claims.released.iter().any(|other| other.is_same(value))
        })
    }

    fn claims(&self, table: &Table, value: &UniqueValue) -> bool {
        let mut items = self.writes.iter().zip(self.evaluated);
        items.any(|(write, own)| {
            write.table().name == table.name
                && own.claims.claimed.iter().any(|other| other.is_same(value))
        })
    }
}

/// A value that an attempt claims.
pub struct DistributedClaim {
    /// The position of the item.
    index: usize,
    value: UniqueValue,
    /// The layout in the slot group of the value.
    layout: Arc<Layout>,
    claimant: Claimant,
    /// An item of the same transaction that gives up the value.
    previous: Option<Claimant>,
    /// The marker that may be replaced, or empty.
    replaced: Vec<u8>,
    is_claimed: bool,
    /// Whether the row has the value before, and only the marker may be missing.
    is_kept: bool,
}

impl DistributedClaim {
    fn marker(&self) -> Vec<u8> {
        marker(std::iter::once(&self.claimant).chain(&self.previous))
    }

    fn call(&self) -> Call {
        claim_call(&self.layout, &self.value, &self.marker(), &self.replaced)
    }

    /// The call that leaves only this claimant in the marker.
    fn settle_call(&self, claimant: &Claimant) -> Call {
        claim_call(
            &self.layout,
            &self.value,
            &marker([claimant]),
            &self.marker(),
        )
    }
}

/// A row that holds a value.
struct HolderRow {
    claimant: Claimant,
    layout: Arc<Layout>,
    row: StoredRow,
}

/// What the rows in a marker show.
#[derive(Default)]
struct MarkerState {
    holder: Option<HolderRow>,
    /// Writes that claim the value, and that may still write their rows.
    open: Vec<(Arc<Layout>, Claimant)>,
}

/// What became of a marker that another row has.
enum Resolution {
    /// The claim may be sent again.
    Again,
    /// Another row holds the value: this one.
    Taken(Key),
    RowChanged,
}

impl OperationContext<'_> {
    /// Claims the values whose markers are in other slot groups. `None`: the attempt must be repeated.
    ///
    /// # Errors
    ///
    /// The transaction is cancelled if another row holds a value. Nothing was written.
    pub async fn claim_distributed(
        &self,
        layouts: &[Arc<Layout>],
        items: &Items<'_>,
        intent: &mut Intent<'_>,
    ) -> Result<Option<Vec<DistributedClaim>>> {
        let mut claims = self
            .distributed_claims(layouts, items, &intent.marker.token)
            .await?;
        if claims.is_empty() {
            return Ok(Some(claims));
        }
        if !intent.is_sent {
            match self.channel.send_one(intent.call()).await {
                Ok(reply) => drop(checked(reply, items.table(0)).map_err(not_applied)?),
                // Another attempt has another intent.
                Err(error) if is_uncertain(&error) => return Ok(None),
                Err(error) => return Err(not_applied(error)),
            }
        }
        let refused = self.claim_all(&mut claims, items).await;
        let Some(reasons) = refused.map_err(not_applied)? else {
            return Ok(Some(claims));
        };
        let undone = undo_calls(&claims);
        let withdrawn = Call::on(intent.marker.slot_group, "DEL")
            .arg(&intent.key)
            .writing();
        // What remains is removed by the next user of the values.
        self.channel
            .exchange(undone.into_iter().chain([withdrawn]).collect())
            .await;
        cancelled_for(reasons)?;
        Ok(None)
    }

    /// The values that the items claim, with the layouts in their slot groups.
    async fn distributed_claims(
        &self,
        layouts: &[Arc<Layout>],
        items: &Items<'_>,
        token: &str,
    ) -> Result<Vec<DistributedClaim>> {
        let keyspace = &self.store.config.keyspace;
        let mut claims = Vec::new();
        for (index, own) in items.evaluated.iter().enumerate() {
            if layouts[items.tables.positions[index]].markers != MarkerLocation::Distributed {
                continue;
            }
            let kept = own.claims.kept.iter().filter(|_| own.claims.again);
            let kept = kept.map(|value| (value, true));
            let claimed = own.claims.claimed.iter().map(|value| (value, false));
            for (value, is_kept) in kept.chain(claimed) {
                let table = items.table(index);
                let group = keyspace.marker_group(table, &value.encoded);
                let token = match std::str::from_utf8(&value.token) {
                    Ok(token) if is_kept => token,
                    _ => token,
                };
                claims.push(DistributedClaim {
                    index,
                    value: value.clone(),
                    layout: self.layout_in(table, group).await?,
                    claimant: Claimant {
                        token: token.to_owned(),
                        key: items.writes[index].key().clone(),
                    },
                    previous: None,
                    replaced: Vec::new(),
                    is_claimed: false,
                    is_kept,
                });
            }
        }
        Ok(claims)
    }

    /// Claims values until all are claimed, or one cannot be. Then it returns the reasons of the items whose values other rows
    /// hold; none if a row or a catalog entry has changed.
    async fn claim_all(
        &self,
        claims: &mut [DistributedClaim],
        items: &Items<'_>,
    ) -> Result<Option<Vec<Option<Error>>>> {
        loop {
            let unclaimed: Vec<usize> = (0..claims.len())
                .filter(|number| !claims[*number].is_claimed)
                .collect();
            if unclaimed.is_empty() {
                return Ok(None);
            }
            let calls = unclaimed.iter().map(|number| claims[*number].call());
            let replies = self.channel.send(calls.collect()).await?;
            let mut taken = Vec::new();
            for (number, reply) in unclaimed.into_iter().zip(replies) {
                let claim = &mut claims[number];
                match checked(reply, &claim.layout.table)? {
                    Value::Status(word) if word == "OK" => claim.is_claimed = true,
                    Value::Status(word) if word == "STALE" => {
                        self.store.layouts.clear();
                        return Ok(Some(Vec::new()));
                    }
                    Value::Bulk(marker) => taken.push((number, marker)),
                    _ => return Err(unexpected_reply(&claim.layout.table)),
                }
            }
            let mut reasons = vec![None; items.writes.len()];
            for (number, resolved) in self.resolve(claims, items, taken).await? {
                let claim = &claims[number];
                match resolved {
                    Resolution::Again => {}
                    Resolution::RowChanged => return Ok(Some(Vec::new())),
                    Resolution::Taken(holder) => {
                        let Some((key, item)) = items.put(claim.index) else {
                            continue;
                        };
                        let table = &claim.layout.table;
                        let error = violation(table, key, item, &claim.value, holder);
                        reasons[claim.index].get_or_insert(error);
                    }
                }
            }
            if reasons.iter().any(Option::is_some) {
                return Ok(Some(reasons));
            }
        }
    }

    /// Finds out which of the markers count. Claims of the others may be sent again.
    async fn resolve(
        &self,
        claims: &mut [DistributedClaim],
        items: &Items<'_>,
        taken: Vec<(usize, Vec<u8>)>,
    ) -> Result<Vec<(usize, Resolution)>> {
        let mut states = Vec::with_capacity(taken.len());
        for (number, marker) in &taken {
            let claim = &claims[*number];
            let table = items.table(claim.index);
            let mut own = self
                .inspect_marker(table, &claim.layout, &claim.value, marker)
                .await?;
            if own.holder.is_none() {
                own.open = self.cancel(own.open, &claim.value).await?;
            }
            states.push(own);
        }
        let mut resolved = Vec::with_capacity(taken.len());
        for ((number, marker), own) in taken.into_iter().zip(states) {
            let claim = &mut claims[number];
            let table = items.table(claim.index);
            let result = match own.holder {
                // A write has written its row before it could be cancelled.
                None if !own.open.is_empty() => Resolution::Again,
                None => {
                    claim.replaced = marker;
                    claim.previous = None;
                    Resolution::Again
                }
                Some(holder) if self.has_expired(&holder) => {
                    let key = &holder.claimant.key;
                    let member = Layout::member(key);
                    let item = Some(&holder.row.item);
                    let mut call = clean_call(&holder.layout, key, &member, None, item);
                    call.retry_when_busy = true;
                    self.channel.send(vec![call]).await?;
                    Resolution::Again
                }
                Some(holder) if holder.claimant.key == claim.claimant.key => Resolution::RowChanged,
                Some(holder) if items.releases(table, &holder.claimant.key, &claim.value) => {
                    claim.replaced = marker;
                    claim.previous = Some(holder.claimant);
                    Resolution::Again
                }
                Some(holder) => Resolution::Taken(holder.claimant.key),
            };
            resolved.push((number, result));
        }
        Ok(resolved)
    }

    /// Cancels the intents of writes. Returns those that have written their rows before.
    async fn cancel(
        &self,
        open: Vec<(Arc<Layout>, Claimant)>,
        value: &UniqueValue,
    ) -> Result<Vec<(Arc<Layout>, Claimant)>> {
        if open.is_empty() {
            return Ok(open);
        }
        let keyspace = &self.store.config.keyspace;
        let calls = open
            .iter()
            .map(|(layout, claimant)| inspect_call(keyspace, layout, claimant, value, true));
        let replies = self.channel.send(calls.collect()).await?;
        let mut written = Vec::new();
        for (own, reply) in open.into_iter().zip(replies) {
            match checked(reply, &own.0.table)? {
                Value::Status(word) if word == "FREE" => {}
                _ => written.push(own),
            }
        }
        Ok(written)
    }

    fn has_expired(&self, holder: &HolderRow) -> bool {
        holder.layout.table.is_expired(&holder.row.item, self.now)
    }

    /// Looks at the rows in a marker: the one that may still have the value first.
    async fn inspect_marker(
        &self,
        table: &Arc<Table>,
        layout: &Layout,
        value: &UniqueValue,
        marker: &[u8],
    ) -> Result<MarkerState> {
        let mut claimants =
            parse_marker(layout, marker).ok_or_else(|| damaged_marker(&layout.table))?;
        claimants.reverse();
        let mut layouts = Vec::with_capacity(claimants.len());
        for claimant in &claimants {
            layouts.push(self.layout(table, &claimant.key.partition).await?);
        }
        let keyspace = &self.store.config.keyspace;
        let calls = claimants.iter().zip(&layouts);
        let calls =
            calls.map(|(claimant, layout)| inspect_call(keyspace, layout, claimant, value, false));
        let replies = self.channel.send(calls.collect()).await?;
        let mut states = MarkerState::default();
        for ((claimant, layout), reply) in claimants.into_iter().zip(layouts).zip(replies) {
            match checked(reply, table)? {
                Value::Status(word) if word == "FREE" => {}
                Value::Status(word) if word == "OPEN" => states.open.push((layout, claimant)),
                row @ Value::Array(_) => {
                    let row = decode_row(row, &layout.table, &claimant.key);
                    let row = row.map_err(|error| error.at(&claimant.key))?;
                    states.holder = row.map(|row| HolderRow {
                        claimant,
                        layout,
                        row,
                    });
                    break;
                }
                _ => return Err(unexpected_reply(table)),
            }
        }
        Ok(states)
    }

    /// Finds out whether a row of a marker holds the value. If not, and nothing is in flight, removes the marker. `layout` is
    /// that of the slot group of the value.
    pub async fn distributed_holder(
        &self,
        layout: &Layout,
        table: &Arc<Table>,
        taken: &TakenValue,
    ) -> Result<Holder> {
        let states = self
            .inspect_marker(table, layout, &taken.value, &taken.marker)
            .await?;
        if let Some(holder) = states.holder {
            let key = &holder.claimant.key;
            let item = Some(holder.row.item);
            let live = self.unless_expired(&holder.layout, key, item).await?;
            return Ok(live.map_or(Holder::None, Holder::Row));
        }
        // A value that is claimed, and whose row is not written, has no holder yet.
        if !states.open.is_empty() {
            return Ok(Holder::None);
        }
        let call = release_exact_call(layout, &taken.value, &taken.marker);
        Ok(match checked(self.channel.send_one(call).await?, table)? {
            Value::Int(1) => Holder::None,
            _ => Holder::Changed,
        })
    }

    /// After an attempt: removes the markers of values that the rows have given up, or the own claims if nothing was written.
    pub async fn clear_distributed(
        &self,
        items: &Items<'_>,
        claims: &[DistributedClaim],
        is_done: bool,
    ) {
        let calls = if is_done {
            self.release_calls(items, claims).await
        } else {
            undo_calls(claims)
        };
        if !calls.is_empty() {
            // What remains is removed by the next user of the values.
            self.channel.exchange(calls).await;
        }
    }

    /// The calls that remove the markers of values that rows have given up.
    async fn release_calls(&self, items: &Items<'_>, claims: &[DistributedClaim]) -> Vec<Call> {
        let moved = claims.iter().filter(|claim| claim.previous.is_some());
        let mut calls: Vec<Call> = moved
            .map(|claim| claim.settle_call(&claim.claimant))
            .collect();
        for (write, own) in items.writes.iter().zip(items.evaluated) {
            for value in &own.claims.released {
                let token = String::from_utf8_lossy(&value.token).into_owned();
                if token.is_empty() || items.claims(write.table(), value) {
                    continue;
                }
                let keyspace = &self.store.config.keyspace;
                let group = keyspace.marker_group(write.table(), &value.encoded);
                let key = write.key().clone();
                if let Ok(layout) = self.layout_in(write.table(), group).await {
                    let marker = marker([&Claimant { token, key }]);
                    calls.push(release_exact_call(&layout, value, &marker));
                }
            }
        }
        calls
    }
}

fn undo_calls(claims: &[DistributedClaim]) -> Vec<Call> {
    let own = claims
        .iter()
        .filter(|claim| claim.is_claimed && !claim.is_kept);
    own.map(|claim| match &claim.previous {
        Some(previous) => claim.settle_call(previous),
        None => release_exact_call(&claim.layout, &claim.value, &claim.marker()),
    })
    .collect()
}
