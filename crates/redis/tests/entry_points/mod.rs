//! The entry points of a store: blocking and submitted requests.

use std::sync::Arc;
use std::sync::mpsc::channel;

use mintkey_store::store::Never;
use mintkey_store::{Done, Operation, Reply, Result, Store};

use crate::requests::{request, submit};

/// The entry points for requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EntryPoint {
    Execute,
    ExecuteAll,
    Submit,
    SubmitAll,
}

pub const ENTRY_POINTS: [EntryPoint; 4] = [
    EntryPoint::Execute,
    EntryPoint::ExecuteAll,
    EntryPoint::Submit,
    EntryPoint::SubmitAll,
];

impl EntryPoint {
    /// Carries out independent operations. Returns the result of each.
    pub fn run(self, store: &dyn Store, operations: Vec<Operation>) -> Vec<Result<Reply>> {
        let requests: Vec<_> = operations
            .into_iter()
            .map(|operation| Arc::new(request(operation)))
            .collect();
        match self {
            Self::Execute => requests
                .iter()
                .map(|own| store.execute(own, &Never))
                .collect(),
            Self::ExecuteAll => store.execute_all(&requests, &Never),
            Self::Submit => {
                let submitted = requests
                    .iter()
                    .map(|own| submit(store, own.operation.clone()).1);
                let submitted: Vec<_> = submitted.collect();
                submitted
                    .into_iter()
                    .map(|result| result.recv().unwrap())
                    .collect()
            }
            Self::SubmitAll => {
                let (sender, receiver) = channel();
                let numbered = requests.iter().enumerate();
                let submitted = numbered.map(|(number, own)| {
                    let sender = sender.clone();
                    let done = move |result| sender.send((number, result)).unwrap();
                    (Arc::clone(own), Box::new(done) as Done)
                });
                drop(store.submit_all(submitted.collect()));
                let mut results: Vec<_> = receiver.iter().take(requests.len()).collect();
                results.sort_by_key(|(number, _)| *number);
                results.into_iter().map(|(_, result)| result).collect()
            }
        }
    }
}
