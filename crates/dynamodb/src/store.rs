//! The store: entry points, closing, forking.

use std::result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mintkey_runtime::{Generations, locked};
use mintkey_store::store::Never;
use mintkey_store::{
    Capabilities, Done, Error, Interrupt, Notice, Reply, Request, Result, Store, Submission, Ticket,
};

use crate::aws::credentials::fork_gate;
use crate::config::Config;
use crate::operations;
use crate::shared::Shared;
use crate::transport::blocking::Blocking;
use crate::transport::http_transport::HttpTransport;
use crate::transport::join_all::join_all;
use crate::worker::Worker;

/// A store in `DynamoDB`.
pub struct DynamoStore(Generations<ProcessState>);

/// What one process has of a store.
struct ProcessState {
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
    closed: AtomicBool,
}

impl ProcessState {
    fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            worker: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn address(&self) -> &str {
        &self.shared.config.address
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed(self.address()));
        }
        Ok(())
    }

    fn transport(&self, interrupt: &'static dyn Interrupt) -> HttpTransport<Blocking> {
        HttpTransport::of_call(&self.shared.config, &self.shared.pool, interrupt)
    }

    fn submit(&self, request: &Arc<Request>, done: Done) -> Box<dyn Ticket> {
        let submission = Submission::new(done);
        let ticket = submission.ticket();
        if let Err(refused) = self.enqueue(request, submission) {
            let (submission, error) = *refused;
            submission.answer(Err(error)).deliver();
        }
        ticket
    }

    /// Gives a request to the worker, which is started if there is none, or if a panic has ended it.
    fn enqueue(
        &self,
        request: &Arc<Request>,
        submission: Submission,
    ) -> result::Result<(), Box<(Submission, Error)>> {
        let mut worker = locked(&self.worker);
        if let Err(closed) = self.check_open() {
            return Err(Box::new((submission, closed)));
        }
        let submission = match &*worker {
            None => submission,
            Some(running) => match running.submit(Arc::clone(request), submission) {
                Ok(()) => return Ok(()),
                Err(submission) => submission,
            },
        };
        let started = match Worker::start(Arc::clone(&self.shared)) {
            Ok(started) => worker.insert(started),
            Err(error) => return Err(Box::new((submission, error))),
        };
        // If the new thread has ended, dropping the submission reports it.
        drop(started.submit(Arc::clone(request), submission));
        Ok(())
    }

    fn end_idle_worker(&self) {
        let mut worker = locked(&self.worker);
        if worker.as_ref().is_some_and(Worker::is_idle)
            && let Some(idle) = worker.take()
        {
            idle.finish(&Never);
        }
    }

    /// Refuses new requests, and returns the worker that completes the others.
    fn close(&self) -> Option<Worker> {
        self.closed.store(true, Ordering::SeqCst);
        self.shared.pool.close();
        locked(&self.worker).take()
    }
}

impl DynamoStore {
    /// The store of this configuration.
    pub fn new(config: Config) -> Self {
        Self(Generations::new(ProcessState::new(Shared::new(config))))
    }
}

impl Store for DynamoStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "dynamodb",
            address: self.0.current().address().to_owned(),
            creates_tables: false,
            ordered_scans: false,
            largest_batch: 500,
        }
    }

    fn notice(&self) -> Option<Notice> {
        self.0.current().shared.config.notices.take()
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let state = self.0.current();
        state.check_open()?;
        let transport = state.transport(interrupt);
        transport.run(operations::run(
            &state.shared,
            &transport,
            request,
            Instant::now(),
        ))
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let state = self.0.current();
        let transport = state.transport(interrupt);
        let started = Instant::now();
        let runs = requests.iter().map(async |request: &Arc<Request>| {
            let reply = operations::run(&state.shared, &transport, request, started).await;
            request.metrics.finish();
            Ok(reply)
        });
        let replies = match state.check_open() {
            Ok(()) => transport.run(join_all(runs)),
            Err(closed) => Err(closed),
        };
        replies.unwrap_or_else(|error| error.of_all(requests.len()))
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.0.current().submit(&request, done)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        if let Some(worker) = self.0.current().close() {
            worker.finish(interrupt);
        }
    }

    fn before_fork(&self) {
        let state = self.0.current();
        state.end_idle_worker();
        // The parent connects again. Sockets that a child has open, too, would keep the server waiting.
        state.shared.pool.clear();
        fork_gate::before_fork();
    }

    fn in_parent(&self) {
        fork_gate::in_parent();
    }

    fn in_child(&self) {
        fork_gate::in_child();
        self.0.in_child(|parent| {
            let own = ProcessState::new(Shared::new(parent.shared.config.in_child()));
            if parent.is_closed() {
                own.close();
            }
            own
        });
    }
}

impl Drop for DynamoStore {
    fn drop(&mut self) {
        // Not waited for: the thread that drops the store may hold what the answers need.
        drop(self.0.current().close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    use mintkey_store::{
        ErrorKind, Get, Key, KeyAttribute, KeyKind, KeyValue, Operation, Outcome, Table,
    };

    use super::*;
    use crate::aws::credentials::cache::CredentialsCache;
    use crate::aws::credentials::environment::Environment;

    /// A store without a server, which looks up environment variables like this.
    fn store(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> DynamoStore {
        // Nothing listens on port 1.
        let url = "dynamodb://us-east-1?endpoint=http://127.0.0.1:1&retries=0";
        let mut shared = Shared::new(Config::parse(url).unwrap());
        shared.credentials = CredentialsCache::of(Environment::from_fn(var));
        DynamoStore(Generations::new(ProcessState::new(shared)))
    }

    fn submit(store: &DynamoStore) -> Receiver<Result<Reply>> {
        let table = Table {
            partition: KeyAttribute {
                name: "pk".into(),
                kind: KeyKind::String,
            },
            ..Table::unknown("rows")
        };
        let get = Operation::Get(Get {
            table: Arc::new(table),
            key: Key {
                partition: KeyValue::String("a".into()),
                sort: None,
            },
            consistent: false,
            attributes: None,
        });
        let (sender, answers) = channel();
        let done: Done = Box::new(move |answer| sender.send(answer).unwrap());
        store.submit(Arc::new(Request::new(0, get)), done);
        answers
    }

    fn failed(answers: &Receiver<Result<Reply>>) -> Error {
        answers.recv().unwrap().unwrap_err()
    }

    #[test]
    fn a_request_that_panics_is_answered_and_does_not_stop_others() {
        let asked = AtomicUsize::new(0);
        let store = store(move |_| {
            assert!(
                asked.fetch_add(1, Ordering::SeqCst) > 0,
                "as a defect would"
            );
            Some("local".to_owned())
        });
        let first = submit(&store);
        let unknown = ErrorKind::Unavailable(Outcome::Unknown);
        assert_eq!(failed(&first).kind, unknown);
        let second = failed(&submit(&store));
        assert!(second.message.contains("no connection"), "{second}");
        // The request no longer counts as unanswered: the worker ends before a fork.
        while locked(&store.0.current().worker).is_some() {
            store.before_fork();
            store.in_parent();
            std::thread::yield_now();
        }
        store.close(&Never);
    }

    #[test]
    fn a_worker_that_panics_answers_all_and_is_started_again() {
        let store = store(|_| Some("local".to_owned()));
        let panicking = Worker::start_with("dynamodb://", |mut queue| async move {
            let first = queue.recv().await;
            let second = queue.recv().await;
            drop(queue);
            drop(first);
            drop(second);
            panic!("as a defect would");
        });
        *locked(&store.0.current().worker) = Some(panicking.unwrap());
        let (first, second) = (submit(&store), submit(&store));
        for answers in [first, second] {
            let not_applied = ErrorKind::Unavailable(Outcome::NotApplied);
            let error = failed(&answers);
            assert_eq!(error.kind, not_applied);
            assert!(error.message.contains("thread ended"), "{error}");
        }
        let third = failed(&submit(&store));
        assert!(third.message.contains("no connection"), "{third}");
        store.close(&Never);
    }
}
