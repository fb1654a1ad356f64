//! What every operation works with.

use std::sync::Arc;

use mintkey_store::Result;

use crate::config::Config;
use crate::keyspace::layout::Layout;
use crate::keyspace::layout_cache::LayoutCache;
use crate::protocol::channel::Talk;
use crate::protocol::replies::accepted;
use crate::protocol::resp::{Call, Value};

/// What the operations of one store share.
pub struct Engine {
    /// What the address says.
    pub config: Config,
    /// What is known of the tables.
    pub layouts: LayoutCache,
}

/// One request on its way.
pub struct Errand<'a> {
    /// What all share.
    pub engine: &'a Engine,
    /// Where it asks the server.
    pub talk: &'a Talk,
    /// The time by which expiry is judged.
    pub now: i64,
}

impl Errand<'_> {
    /// Asks something of these buckets of a table; nothing if a catalog is not what is known here.
    pub async fn ask(
        &self,
        layouts: &[Arc<Layout>],
        mut calls: Vec<Call>,
    ) -> Result<Option<Vec<Value>>> {
        let epochs = layouts
            .iter()
            .map(|layout| layout.call("HGET").arg(&layout.catalog).arg("epoch"));
        calls.extend(epochs);
        let mut replies = self.talk.ask(calls).await?;
        let epochs = replies.split_off(replies.len() - layouts.len());
        for (layout, epoch) in layouts.iter().zip(epochs) {
            match accepted(epoch, &layout.table)? {
                Value::Bulk(epoch) if epoch == layout.epoch.as_bytes() => {}
                _ => {
                    self.engine.layouts.forget();
                    return Ok(None);
                }
            }
        }
        Ok(Some(replies))
    }
}
