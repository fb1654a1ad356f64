//! The store: ways in, what its threads share, closing and forking.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mintkey_store::store::Never;
use mintkey_store::{
    Capabilities, Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, Store, Ticket,
};

use crate::background::{Answered, Background};
use crate::blocking::{self, Blocking, Connection};
use crate::config::Config;
use crate::credentials::Keeper;
use crate::operations;
use crate::retry::Bucket;
use crate::tls::Tls;
use crate::together::together;

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

    fn submit(self: &Arc<Self>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        let mut background = locked(&self.background);
        let refused = match (self.check_open(), &mut *background) {
            (Err(error), _) => error,
            (Ok(()), Some(running)) => return running.submit(request, done),
            (Ok(()), none) => match Background::start(Arc::clone(self)) {
                Ok(started) => return none.insert(started).submit(request, done),
                Err(error) => Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    format!("{}: no thread can be started", self.config.address),
                )
                .caused_by(error),
            },
        };
        drop(background);
        done(Err(refused));
        Box::new(Answered)
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
        blocking::run(&link, operations::run(inner, &link, request))
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
            .map(|request| operations::run(inner, &link, request));
        let carried = match inner.check_open() {
            Ok(()) => blocking::run(&link, async { Ok(together(&link, calls).await) }),
            Err(closed) => Err(closed),
        };
        carried.unwrap_or_else(|error| error.of_all(requests.len()))
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.inner().submit(request, done)
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
