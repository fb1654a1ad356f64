//! The ways in which a store carries requests out, blocking and submitted.

use std::sync::Arc;
use std::sync::mpsc::channel;

use mintkey_store::store::Never;
use mintkey_store::{Done, Operation, Reply, Result, Store};

use crate::requests::{request, submit};

/// The ways to carry a request out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Execute,
    ExecuteAll,
    Begin,
    Submit,
    SubmitAll,
}

pub const WAYS: [Way; 5] = [
    Way::Execute,
    Way::ExecuteAll,
    Way::Begin,
    Way::Submit,
    Way::SubmitAll,
];

impl Way {
    /// What comes of each of some operations, which do not depend on one another.
    pub fn run(self, store: &dyn Store, operations: Vec<Operation>) -> Vec<Result<Reply>> {
        let requests: Vec<_> = operations
            .into_iter()
            .map(|own| Arc::new(request(own)))
            .collect();
        match self {
            Self::Execute => requests
                .iter()
                .map(|own| store.execute(own, &Never))
                .collect(),
            Self::ExecuteAll => store.execute_all(&requests, &Never),
            Self::Begin => {
                let begun = requests.iter().map(|own| {
                    let mut begun = store.begin(own, &Never).unwrap();
                    begun.send();
                    begun
                });
                let begun: Vec<_> = begun.collect();
                begun.into_iter().map(|own| own.finish(None)).collect()
            }
            Self::Submit => {
                let submitted = requests
                    .iter()
                    .map(|own| submit(store, own.operation.clone()).1);
                let submitted: Vec<_> = submitted.collect();
                submitted
                    .into_iter()
                    .map(|answer| answer.recv().unwrap())
                    .collect()
            }
            Self::SubmitAll => {
                let (sender, receiver) = channel();
                let numbered = requests.iter().enumerate();
                let submitted = numbered.map(|(number, own)| {
                    let sender = sender.clone();
                    let done = move |answer| sender.send((number, answer)).unwrap();
                    (Arc::clone(own), Box::new(done) as Done)
                });
                drop(store.submit_all(submitted.collect()));
                let mut answers: Vec<_> = receiver.iter().take(requests.len()).collect();
                answers.sort_by_key(|(number, _)| *number);
                answers.into_iter().map(|(_, answer)| answer).collect()
            }
        }
    }
}
