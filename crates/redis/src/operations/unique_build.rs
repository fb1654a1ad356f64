//! Adds unique values to a table that has rows: claims what the rows have, or takes the declaration back if rows have the
//! same values.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use mintkey_store::{
    Error, ErrorKind, Guard, Key, Result, Returning, Table, Update, Violation, json,
};

use crate::keyspace::rows::decode_item;
use crate::keyspace::unique::drop_markers_call;
use crate::operations::catalog::ROWS_PER_CALL;
use crate::operations::context::OperationContext;
use crate::operations::join_all::JoinAll;
use crate::protocol::replies::checked;

impl OperationContext<'_> {
    /// Claims the new unique values of a table for its rows. Each process whose class declares them does it. Several at once
    /// do no harm.
    ///
    /// # Errors
    ///
    /// `UniqueViolation` that lists all duplicates, or `InvalidValue`. The table has its old unique values then.
    pub fn build_unique<'b>(
        &'b self,
        table: &'b Arc<Table>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'b>> {
        // Only a class that declares the values builds them. This one follows the catalog.
        let follower = Arc::new(table.without_unique());
        Box::pin(async move {
            let Some((draft, before)) = self.pending_unique(&follower).await? else {
                return Ok(());
            };
            let Some(error) = self.claim_rows(&follower).await? else {
                return self.finish_unique(draft, &follower).await.map(drop);
            };
            let error = if error.kind == ErrorKind::UniqueViolation {
                let violations = self.duplicates(&follower).await?;
                if violations.is_empty() {
                    // They are gone meanwhile: the next round begins again.
                    return Ok(());
                }
                Error::duplicates(table, violations)
            } else {
                error
            };
            self.restore_unique(draft, before, &follower).await?;
            Err(error)
        })
    }

    /// Writes each row without a change, which claims its unique values. Returns the error of a row that cannot be written.
    async fn claim_rows(&self, table: &Arc<Table>) -> Result<Option<Error>> {
        let mut refused = None;
        for layout in self.all_layouts(table).await? {
            let mut low = b"-".to_vec();
            while refused.is_none()
                && let Some(keys) = self.next_keys(&layout, &mut low).await?
            {
                for keys in keys.chunks(ROWS_PER_CALL) {
                    self.channel.deadline().restart();
                    refused = refused.or(self.claim_keys(table, keys).await?);
                }
            }
        }
        Ok(refused)
    }

    async fn claim_keys(&self, table: &Arc<Table>, keys: &[Key]) -> Result<Option<Error>> {
        let mut join_all = JoinAll::new();
        for (index, key) in keys.iter().enumerate() {
            let update = Update {
                table: Arc::clone(table),
                key: key.clone(),
                actions: Vec::new(),
                guard: Guard::default(),
                returning: Returning::Nothing,
            };
            let context = *self;
            join_all.add(self.channel, index, |channel| async move {
                context.on(&channel).update(&update).await.map(drop)
            });
        }
        let results = join_all.finish(self.channel).await;
        let mut refused = None;
        for error in results.into_iter().filter_map(|(_, result)| result.err()) {
            match error.kind {
                ErrorKind::ItemGone => {}
                kind if kind.outcome().is_none() => refused = Some(error),
                _ => return Err(error),
            }
        }
        Ok(refused)
    }

    /// The unique values that several rows have.
    async fn duplicates(&self, table: &Arc<Table>) -> Result<Vec<Violation>> {
        let mut found: Vec<Violation> = Vec::new();
        let mut positions: HashMap<(String, Vec<u8>), usize> = HashMap::new();
        let mut decoder = json::Decoder::default();
        for layout in self.all_layouts(table).await? {
            let mut low = b"-".to_vec();
            while let Some(keys) = self.next_keys(&layout, &mut low).await? {
                for keys in keys.chunks(ROWS_PER_CALL) {
                    self.channel.deadline().restart();
                    let calls = keys.iter().map(|key| layout.read_call(key));
                    let replies = self.channel.send(calls.collect()).await?;
                    for (key, reply) in keys.iter().zip(replies) {
                        let known = &layout.table;
                        let item = decode_item(reply, known, key, &mut decoder);
                        let item = item.map_err(|error| error.at(key))?;
                        let item = item.filter(|item| !known.is_expired(item, self.now));
                        let claims = item.as_ref().map(|item| known.claims(item));
                        for claim in claims.and_then(Result::ok).unwrap_or_default() {
                            let value = (claim.unique.name.clone(), claim.encode());
                            let position = *positions.entry(value).or_insert_with(|| {
                                found.push(Violation {
                                    attributes: claim.unique.attributes.clone(),
                                    values: claim.values.clone(),
                                    holders: Vec::new(),
                                });
                                found.len() - 1
                            });
                            found[position].holders.push(key.clone());
                        }
                    }
                }
            }
        }
        found.retain(|violation| violation.holders.len() > 1);
        Ok(found)
    }

    /// Gives the rows of a table with fewer unique values than before what they claim now, and removes the markers that are
    /// left.
    pub async fn release_rows(&self, table: &Arc<Table>, removed: &[String]) -> Result<()> {
        self.claim_rows(table).await?;
        if removed.is_empty() {
            return Ok(());
        }
        let layouts = self.all_layouts(table).await?;
        let calls = layouts
            .iter()
            .map(|layout| drop_markers_call(layout, removed));
        for reply in self.channel.send(calls.collect()).await? {
            checked(reply, table)?;
        }
        Ok(())
    }
}
