//! Puts that were submitted at the same time, as one request: many rows in one step of the server cost
//! little more than one.

use std::sync::Arc;

use mintkey_store::{BatchWrite, Guard, Operation, Put, Request, Write};

use crate::driver::queue::Entry;
use crate::keyspace::commands::{GROUP, one_step};
use crate::keyspace::layout::Space;

/// What was submitted, in order, with the request to carry out for it: neighbours that put rows of one
/// table and bucket share one. Those of other buckets have nothing to do with each other: one may wait for
/// a server of the Cluster that the other does not need.
pub fn joined(
    space: &Space,
    entries: impl Iterator<Item = Entry>,
) -> impl Iterator<Item = (Vec<Entry>, Arc<Request>)> {
    let mut entries = entries.peekable();
    std::iter::from_fn(move || {
        let mut own = vec![entries.next()?];
        while own.len() < GROUP
            && let Some(next) =
                entries.next_if(|next| go_together(space, &own[0].request, &next.request))
        {
            own.push(next);
        }
        let request = if own.len() == 1 {
            Arc::clone(&own[0].request)
        } else {
            Arc::new(join(&own))
        };
        Some((own, request))
    })
}

/// The put of a request that needs no look before, of a table without indexes.
fn plain_put(request: &Request) -> Option<&Put> {
    match &request.operation {
        Operation::Put(put) if put.table.indexes.is_empty() && one_step(put).is_some() => Some(put),
        _ => None,
    }
}

fn go_together(space: &Space, one: &Request, other: &Request) -> bool {
    match (plain_put(one), plain_put(other)) {
        (Some(put), Some(next)) => {
            one.now == other.now
                && Arc::ptr_eq(&put.table, &next.table)
                && space.bucket_of(put) == space.bucket_of(next)
        }
        _ => false,
    }
}

fn join(entries: &[Entry]) -> Request {
    let puts = entries
        .iter()
        .filter_map(|entry| plain_put(&entry.request))
        .map(|put| {
            // What a batch may leave out for a wide key, a save of its own may not.
            let guard = Guard {
                wide: false,
                ..put.guard.clone()
            };
            Put {
                guard,
                ..put.clone()
            }
        });
    let operation = Operation::BatchWrite(BatchWrite {
        table: Arc::clone(entries[0].request.operation.table()),
        writes: puts.map(Write::Put).collect(),
    });
    Request::new(entries[0].request.now, operation)
}
