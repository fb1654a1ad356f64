//! Coalesces puts that were submitted together into one batch. Many rows in one call of a script cost little more than one.

use std::sync::Arc;

use mintkey_store::{BatchWrite, Operation, Put, Reply, Request, Result, Write};

use crate::driver::queue::Job;
use crate::keyspace::commands::{MAX_PUTS_PER_CALL, single_step_mode};
use crate::keyspace::layout::Keyspace;

/// The jobs in order, with the request to carry out for each group of them. Consecutive puts of one table and slot group
/// share a request. Those of other slot groups do not: one must not wait for a server of the Cluster that only another one
/// needs.
pub fn coalesce(
    keyspace: &Keyspace,
    jobs: impl Iterator<Item = Job>,
) -> impl Iterator<Item = (Vec<Job>, Arc<Request>)> {
    let mut jobs = jobs.peekable();
    std::iter::from_fn(move || {
        let mut group = vec![jobs.next()?];
        while group.len() < MAX_PUTS_PER_CALL
            && let Some(next) =
                jobs.next_if(|next| can_share(keyspace, &group[0].request, &next.request))
        {
            group.push(next);
        }
        let request = if group.len() == 1 {
            Arc::clone(&group[0].request)
        } else {
            Arc::new(batch_of(&group))
        };
        Some((group, request))
    })
}

/// The put of a request that need not read the row before, of a table without indexes and unique values.
fn plain_put(request: &Request) -> Option<&Put> {
    match &request.operation {
        Operation::Put(put)
            if put.table.indexes.is_empty()
                && put.table.unique.is_empty()
                && single_step_mode(put).is_some() =>
        {
            Some(put)
        }
        _ => None,
    }
}

fn can_share(keyspace: &Keyspace, one: &Request, other: &Request) -> bool {
    match (plain_put(one), plain_put(other)) {
        (Some(put), Some(next)) => {
            one.now == other.now
                && Arc::ptr_eq(&put.table, &next.table)
                && keyspace.slot_group(&put.table, &put.key.partition)
                    == keyspace.slot_group(&next.table, &next.key.partition)
        }
        _ => false,
    }
}

fn batch_of(jobs: &[Job]) -> Request {
    let puts: Vec<Put> = jobs
        .iter()
        .filter_map(|job| plain_put(&job.request))
        .map(|put| {
            let mut put = put.clone();
            // A batch may skip the check for an existing row if keys are collision-free, a single save may not.
            put.guard.collision_free = false;
            put
        })
        .collect();
    let operation = Operation::BatchWrite(BatchWrite {
        table: Arc::clone(&puts[0].table),
        writes: puts.into_iter().map(Write::Put).collect(),
    });
    Request::new(jobs[0].request.now, operation)
}

/// Answers the jobs that shared a request.
pub fn answer_all(jobs: &[Job], result: Result<Reply>) {
    if let [job] = jobs {
        return job.answer(result);
    }
    let results = match result {
        Ok(Reply::Written(results)) => results,
        Ok(_) => jobs.iter().map(|_| Ok(())).collect(),
        Err(error) => error.of_all(jobs.len()),
    };
    for (job, result) in jobs.iter().zip(results) {
        job.answer(result.map(|()| Reply::Done));
    }
}
