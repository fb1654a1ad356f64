//! The context of operations.

use std::sync::Arc;

use mintkey_store::{Error, Outcome, Result, Work};

use crate::config::Config;
use crate::keyspace::layout::Layout;
use crate::keyspace::layout_cache::LayoutCache;
use crate::protocol::channel::Channel;
use crate::protocol::replies::checked;
use crate::protocol::resp::{Call, Value};
use crate::transport::topology::Topology;

/// What all operations of a store share.
pub struct StoreContext {
    /// The configuration.
    pub config: Config,
    /// The layouts of tables.
    pub layouts: LayoutCache,
    /// The servers, with idle connections for blocking requests.
    pub topology: Topology,
}

#[derive(Clone, Copy)]
pub struct OperationContext<'a> {
    /// What all operations share.
    pub store: &'a StoreContext,
    /// Where it sends calls.
    pub channel: &'a Channel,
    /// The time of the request, which decides about expiry.
    pub now: i64,
}

impl OperationContext<'_> {
    /// The context of a part of the operation, which sends its calls there.
    pub const fn on<'c>(&self, channel: &'c Channel) -> OperationContext<'c>
    where
        Self: 'c,
    {
        OperationContext {
            store: self.store,
            channel,
            now: self.now,
        }
    }

    /// Evaluates rows that a server has sent, until the deadline of the request.
    pub fn evaluate<T>(
        &self,
        evaluate: impl FnOnce(&mut Work<'_, Error>) -> Result<T>,
    ) -> Result<T> {
        let address = &self.store.config.address;
        // While rows are evaluated, no write is in flight.
        let mut ask = || {
            let checked = self.channel.deadline().check();
            checked.map_err(|stop| stop.error(address, "evaluating rows", Outcome::NotApplied))
        };
        evaluate(&mut Work::new(&mut ask))
    }

    /// Sends calls on a table in these slot groups, and checks the epochs of its catalog entries. Returns `None` if one has
    /// changed.
    pub async fn send_with_epochs(
        &self,
        layouts: &[Arc<Layout>],
        mut calls: Vec<Call>,
    ) -> Result<Option<Vec<Value>>> {
        let epochs = layouts
            .iter()
            .map(|layout| layout.call("HGET").arg(&layout.catalog_key).arg("epoch"));
        calls.extend(epochs);
        let mut replies = self.channel.send(calls).await?;
        let epochs = replies.split_off(replies.len() - layouts.len());
        for (layout, epoch) in layouts.iter().zip(epochs) {
            match checked(epoch, &layout.table)? {
                Value::Bulk(epoch) if epoch == layout.epoch.as_bytes() => {}
                Value::Nil if layout.epoch.is_empty() => {}
                _ => {
                    self.store.layouts.clear();
                    return Ok(None);
                }
            }
        }
        Ok(Some(replies))
    }
}
