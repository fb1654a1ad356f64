//! The store: ways in, what its threads share, closing and forking.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mintkey_store::store::Never;
use mintkey_store::{
    Capabilities, Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, Store,
    Submission, Ticket,
};

use crate::aws::credentials::Keeper;
use crate::aws::retry::Bucket;
use crate::config::Config;
use crate::operations::write;
use crate::transport::blocking::{self, Blocking, Connection};
use crate::transport::join_all::join_all;
use crate::transport::tls::Tls;
use crate::worker::Background;

/// What one process has of a store.
///
/// A child of a fork gets a new one and never touches its parent's, whose locks may be held by
/// threads that the child does not have. So a fork has to wait for nobody.
pub struct Inner {
    pub config: Config,
    pub credentials: Keeper,
    pub tls: Tls,
    pub bucket: Bucket,
    /// How far the server's clock is ahead of this machine's, in seconds.
    pub skew: AtomicI64,
    /// The idle connections of blocking calls.
    pub pool: Mutex<Vec<Connection>>,
    background: Mutex<Option<Background>>,
    closed: AtomicBool,
    /// The child's, after a fork.
    next: OnceLock<Arc<Inner>>,
}

/// A store in `DynamoDB`.
pub struct DynamoStore(Arc<Inner>);

/// A lock whose holder can have left nothing half done.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Nothing is open yet.
    pub fn new(config: Config) -> Self {
        Self {
            credentials: Keeper::default(),
            tls: Tls::default(),
            bucket: Bucket::default(),
            skew: AtomicI64::new(0),
            pool: Mutex::default(),
            background: Mutex::default(),
            closed: AtomicBool::new(false),
            next: OnceLock::new(),
            config,
        }
    }

    /// Whether it is this process's.
    pub fn is_current(&self) -> bool {
        self.next.get().is_none()
    }

    /// Whether the store was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed(&self.config.address));
        }
        Ok(())
    }

    fn submit(self: &Arc<Self>, request: &Arc<Request>, done: Done) -> Box<dyn Ticket> {
        let submission = Submission::new(done);
        let ticket = submission.ticket();
        if let Err((submission, error)) = self.hand_over(request, submission) {
            submission.answer(Err(error)).deliver();
        }
        ticket
    }

    /// Gives a request to the thread, which is started where there is none, or where it has ended by a panic.
    fn hand_over(
        self: &Arc<Self>,
        request: &Arc<Request>,
        submission: Submission,
    ) -> std::result::Result<(), (Submission, Error)> {
        let mut background = locked(&self.background);
        if let Err(closed) = self.check_open() {
            return Err((submission, closed));
        }
        let submission = match &*background {
            None => submission,
            Some(running) => match running.submit(Arc::clone(request), submission) {
                Ok(()) => return Ok(()),
                Err(back) => back,
            },
        };
        let started = match Background::start(Arc::clone(self)) {
            Ok(started) => background.insert(started),
            Err(error) => return Err((submission, self.no_thread(error))),
        };
        // A thread that ends at once has panicked; dropping the submission says so.
        drop(started.submit(Arc::clone(request), submission));
        Ok(())
    }

    fn no_thread(&self, error: std::io::Error) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: the thread for awaited requests cannot be started ({error}): {}; allow more threads (ulimit -u, \
                 or the pids limit of the container)",
                self.config.address,
                Outcome::NotApplied.words()
            ),
        )
        .caused_by(error)
    }

    /// Ends the thread if it has nothing to do.
    fn rest(&self) {
        let mut background = locked(&self.background);
        if background.as_ref().is_some_and(Background::is_idle)
            && let Some(idle) = background.take()
        {
            idle.finish(&Never);
        }
    }

    /// Lets nothing more begin, and gives back the thread that finishes what has.
    fn shut(&self) -> Option<Background> {
        self.closed.store(true, Ordering::SeqCst);
        locked(&self.pool).clear();
        locked(&self.background).take()
    }
}

impl DynamoStore {
    /// The store that the configuration describes.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Inner::new(config)))
    }

    /// What this process has of it.
    fn inner(&self) -> &Arc<Inner> {
        let mut inner = &self.0;
        while let Some(next) = inner.next.get() {
            inner = next;
        }
        inner
    }
}

impl Store for DynamoStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "dynamodb",
            address: self.0.config.address.clone(),
            creates_tables: false,
            consistent_indexes: false,
            ordered_scans: false,
        }
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let inner = self.inner();
        inner.check_open()?;
        let link = Blocking::new(inner, interrupt);
        blocking::run(&link, write::run(inner, &link, request))
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let inner = self.inner();
        let link = Blocking::new(inner, interrupt);
        let calls = requests
            .iter()
            .map(|request| write::run(inner, &link, request));
        let carried = match inner.check_open() {
            Ok(()) => blocking::run(&link, async { Ok(join_all(&link, calls).await) }),
            Err(closed) => Err(closed),
        };
        carried.unwrap_or_else(|error| error.of_all(requests.len()))
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.inner().submit(&request, done)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        if let Some(background) = self.inner().shut() {
            background.finish(interrupt);
        }
    }

    fn before_fork(&self) {
        self.inner().rest();
        // The parent connects again; a child that held the sockets open would keep the server waiting.
        locked(&self.inner().pool).clear();
    }

    fn in_parent(&self) {}

    fn in_child(&self) {
        let old = self.inner();
        let fresh = Inner::new(old.config.clone());
        fresh.closed.store(old.is_closed(), Ordering::SeqCst);
        // What other threads of the parent were using is theirs: nothing of it may be touched, not even
        // to free it.
        mem::forget(Arc::clone(old));
        // Nobody else is in this process yet who could have set it.
        let _ = old.next.set(Arc::new(fresh));
    }
}

impl Drop for DynamoStore {
    fn drop(&mut self) {
        // Not waited for: whoever drops the last handle may hold what the thread's answers need.
        drop(self.inner().shut());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    use mintkey_store::{Get, Key, KeyAttribute, KeyKind, KeyValue, Operation, Table};

    use super::*;
    use crate::aws::credentials::Sources;

    /// A store whose server is not there, and whose environment is asked like this.
    fn store(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> DynamoStore {
        // A port that nothing can listen on.
        let url = "dynamodb://us-east-1?endpoint=http://127.0.0.1:1&retries=0";
        let mut inner = Inner::new(Config::parse(url).unwrap());
        inner.credentials = Keeper::of(Sources::asking(var));
        DynamoStore(Arc::new(inner))
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
    fn a_request_that_panics_is_answered_and_stops_no_other() {
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
        // Nothing counts as unanswered for ever, which would keep the thread from ending before a fork.
        while locked(&store.inner().background).is_some() {
            store.before_fork();
            std::thread::yield_now();
        }
        store.close(&Never);
    }

    #[test]
    fn a_thread_that_panics_answers_all_and_is_started_anew() {
        let store = store(|_| None);
        let panicking = Background::start_with(|mut queue| async move {
            let first = queue.recv().await;
            let second = queue.recv().await;
            drop(queue);
            drop(first);
            drop(second);
            panic!("as a defect would");
        });
        *locked(&store.inner().background) = Some(panicking.unwrap());
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
