//! The operations of the contract: which commands they send, and what the replies mean.

mod batch;
mod catalog;
pub mod context;
mod join_all;
mod read;
mod slot_group_merge;
mod uncertainty;
mod write;

use mintkey_store::{Operation, Reply, Request, Result};

use crate::operations::context::{Engine, Errand};
use crate::operations::uncertainty::Doubt;
use crate::protocol::channel::Talk;

/// Carries a request out; whoever polls this looks after the talk.
pub async fn run(engine: &Engine, talk: &Talk, request: &Request) -> Result<Reply> {
    let errand = Errand {
        engine,
        talk,
        now: request.now,
    };
    // These take several steps: when one fails, those before it have been done.
    let in_steps = |result: Result<()>| match result {
        Err(error) if talk.wrote() && error.kind.outcome().is_some() => Err(error.in_doubt()),
        other => other.map(|()| Reply::Done),
    };
    match &request.operation {
        Operation::CreateTable(table) => {
            engine.layouts.forget();
            in_steps(errand.all_layouts(table).await.map(drop))
        }
        Operation::TableExists(table) => Ok(Reply::Exists(errand.table_exists(table).await?)),
        Operation::DeleteTable(table) => in_steps(errand.drop_table(table).await),
        Operation::Get(get) => errand.get(get).await,
        Operation::BatchGet(batch) => errand.batch_get(batch).await,
        Operation::Put(put) => errand
            .put(put, Doubt::default())
            .await
            .map(|()| Reply::Done),
        Operation::Update(update) => errand.update(update).await,
        Operation::Delete(delete) => errand
            .delete(delete, Doubt::default())
            .await
            .map(|()| Reply::Done),
        Operation::BatchWrite(batch) => errand.batch_write(batch).await,
        Operation::Query(query) => errand.query(query).await,
        Operation::Scan(scan) => errand.scan(scan).await,
    }
}
