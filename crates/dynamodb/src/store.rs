//! The store: entry points, closing, forking.

use std::io;
use std::mem;
use std::result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mintkey_store::store::Never;
use mintkey_store::{
    Capabilities, Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, Store,
    Submission, Ticket,
};

use crate::config::Config;
use crate::operations;
use crate::shared::Shared;
use crate::transport::blocking::Blocking;
use crate::transport::join_all::join_all;
use crate::worker::Worker;

/// A store in `DynamoDB`.
pub struct DynamoStore(Arc<Generation>);

/// What one process has of a store.
///
/// The child of a fork gets a new generation and never touches its parent's, whose locks may be held by threads that the
/// child does not have. So a fork waits for no lock.
struct Generation {
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
    closed: AtomicBool,
    /// The generation of the child, after a fork.
    next: OnceLock<Arc<Self>>,
}

impl Generation {
    fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            worker: Mutex::default(),
            closed: AtomicBool::new(false),
            next: OnceLock::new(),
        }
    }

    fn address(&self) -> &str {
        &self.shared.config.address
    }

    fn worker(&self) -> MutexGuard<'_, Option<Worker>> {
        // No holder of this lock leaves the worker in an invalid state.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The transport of a blocking call.
    fn transport(&self, interrupt: &'static dyn Interrupt) -> Blocking<'_> {
        let Shared {
            config, tls, pool, ..
        } = &*self.shared;
        Blocking::new(config, tls, pool, interrupt)
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
        let mut worker = self.worker();
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
            Err(error) => return Err(Box::new((submission, self.no_thread(error)))),
        };
        // If the new thread has ended, dropping the submission reports it.
        drop(started.submit(Arc::clone(request), submission));
        Ok(())
    }

    fn no_thread(&self, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: the thread for awaited requests cannot be started ({error})",
                self.address()
            ),
        )
        .advice("allow more threads (ulimit -u, or the pids limit of the container)")
        .caused_by(error)
    }

    /// Ends the worker if it is idle.
    fn end_idle_worker(&self) {
        let mut worker = self.worker();
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
        self.worker().take()
    }
}

impl DynamoStore {
    /// The store of this configuration.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Generation::new(Shared::new(config))))
    }

    /// The generation of this process.
    fn generation(&self) -> &Arc<Generation> {
        let mut generation = &self.0;
        while let Some(next) = generation.next.get() {
            generation = next;
        }
        generation
    }
}

impl Store for DynamoStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "dynamodb",
            address: self.0.address().to_owned(),
            creates_tables: false,
            consistent_indexes: false,
            ordered_scans: false,
        }
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let generation = self.generation();
        generation.check_open()?;
        let transport = generation.transport(interrupt);
        transport.run(operations::run(&generation.shared, &transport, request))
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let generation = self.generation();
        let transport = generation.transport(interrupt);
        let runs = requests
            .iter()
            .map(|request| operations::run(&generation.shared, &transport, request));
        let replies = match generation.check_open() {
            Ok(()) => transport.run(async { Ok(join_all(&transport, runs).await) }),
            Err(closed) => Err(closed),
        };
        replies.unwrap_or_else(|error| error.of_all(requests.len()))
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.generation().submit(&request, done)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        if let Some(worker) = self.generation().close() {
            worker.finish(interrupt);
        }
    }

    fn before_fork(&self) {
        let generation = self.generation();
        generation.end_idle_worker();
        // The parent connects again. Sockets that a child has open, too, would keep the server waiting.
        generation.shared.pool.clear();
    }

    fn in_parent(&self) {}

    fn in_child(&self) {
        let parents = self.generation();
        let own = Generation::new(Shared::new(parents.shared.config.clone()));
        if parents.is_closed() {
            own.close();
        }
        // Other threads of the parent were using its generation, so nothing of it may be touched here, or freed.
        mem::forget(Arc::clone(parents));
        // The child has one thread, so nothing else can have set it.
        let _ = parents.next.set(Arc::new(own));
    }
}

impl Drop for DynamoStore {
    fn drop(&mut self) {
        // Not waited for: the thread that drops the store may hold what the answers need.
        drop(self.generation().close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    use mintkey_store::{Get, Key, KeyAttribute, KeyKind, KeyValue, Operation, Table};

    use super::*;
    use crate::aws::credentials::cache::CredentialsCache;
    use crate::aws::credentials::sources::Sources;

    /// A store without a server, which looks up environment variables like this.
    fn store(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> DynamoStore {
        // Nothing listens on port 1.
        let url = "dynamodb://us-east-1?endpoint=http://127.0.0.1:1&retries=0";
        let mut shared = Shared::new(Config::parse(url).unwrap());
        shared.credentials = CredentialsCache::of(Sources::asking(var));
        DynamoStore(Arc::new(Generation::new(shared)))
    }

    fn submit(store: &DynamoStore) -> Receiver<Result<Reply>> {
        let table = Table {
            name: "rows".into(),
            model: "Row".into(),
            partition: KeyAttribute {
                name: "pk".into(),
                kind: KeyKind::String,
            },
            sort: None,
            ttl: None,
            indexes: Vec::new(),
            unique: Vec::new(),
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
            None
        });
        let first = submit(&store);
        let unknown = ErrorKind::Unavailable(Outcome::Unknown);
        assert_eq!(failed(&first).kind, unknown);
        let second = failed(&submit(&store));
        assert!(second.message.contains("no connection"), "{second}");
        // The request does not count as unanswered for ever: the worker ends before a fork.
        while store.generation().worker().is_some() {
            store.before_fork();
            std::thread::yield_now();
        }
        store.close(&Never);
    }

    #[test]
    fn a_worker_that_panics_answers_all_and_is_started_again() {
        let store = store(|_| None);
        let panicking = Worker::start_with(|mut queue| async move {
            let first = queue.recv().await;
            let second = queue.recv().await;
            drop(queue);
            drop(first);
            drop(second);
            panic!("as a defect would");
        });
        *store.generation().worker() = Some(panicking.unwrap());
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
