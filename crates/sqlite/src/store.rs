//! The store: ways in, connections, closing and forking.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mintkey_store::store::Between;
use mintkey_store::{
    Capabilities, Done, Error, ErrorKind, Interrupt, Notice, Operation, Outcome, Reply, Request,
    Result, Store, Table, Ticket,
};

use crate::catalog::{self, Layouts};
use crate::config::Config;
use crate::layout::Layout;
use crate::reading::rows;
use crate::storage::connection::{self, Attempt, Connection, Fault, Opened};
use crate::storage::file_guard::{self, FileGuard, FileId};
use crate::storage::fork_registry;
use crate::storage::notices;
use crate::threads::deadline::{Watch, pause};
use crate::threads::fork_gate::{self, locked};
use crate::workers::{self, Readers};
use crate::writing::queue::{GROUP, Queue};

/// How often a closing store looks whether its threads have ended.
const CLOSING: Duration = Duration::from_millis(1);
/// Reading connections kept open.
const IDLE: usize = 8;
/// How often a read starts anew when the tables change under it.
const ATTEMPTS: usize = 5;

/// What came of a read.
enum Seen {
    Reply(Reply),
    /// The table has to be made first, or extended.
    Missing,
    /// The files of this entry are not where they were.
    Lost(FileId),
}

/// What the store's threads share.
pub struct Shared {
    pub config: Config,
    pub layouts: Layouts,
    pub queue: Mutex<Queue>,
    pub readers: Mutex<Readers>,
    pool: Mutex<Pool>,
    /// The number of the files that the latest connection has open.
    files: AtomicU64,
}

/// The connections that read.
#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    /// The reads that run, each with a connection or about to open one.
    running: usize,
    /// The store is closed: no connection is kept.
    closed: bool,
}

/// A read that runs, and its connection.
struct Reading<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
}

impl<'a> Reading<'a> {
    /// Refuses a thread's read after the store was closed. What was submitted before is finished.
    fn begin(shared: &'a Shared) -> Result<Self> {
        let mut pool = locked(&shared.pool);
        if pool.closed && !workers::is_worker() {
            return Err(Error::closed(&shared.config.address));
        }
        pool.running += 1;
        let connection = pool.idle.pop();
        Ok(Self { shared, connection })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut pool = locked(&self.shared.pool);
        // Zero already in a child that was forked during this read.
        pool.running = pool.running.saturating_sub(1);
        // After a panic nobody knows what state it is in.
        let kept = !pool.closed && !thread::panicking() && pool.idle.len() < IDLE;
        let (kept, closing): (Option<_>, Option<_>) = match connection {
            Some(open) if kept && self.shared.is_current(&open) => (Some(open), None),
            other => (None, other),
        };
        pool.idle.extend(kept);
        drop(pool);
        drop(closing);
    }
}

/// A store in a file or in memory.
pub struct SqliteStore(Arc<Shared>);

impl SqliteStore {
    /// The store that the configuration describes.
    pub fn new(config: Config) -> Self {
        let shared = Arc::new(Shared {
            config,
            layouts: Layouts::default(),
            queue: Mutex::default(),
            readers: Mutex::default(),
            pool: Mutex::default(),
            files: AtomicU64::new(FileId::MEMORY.0),
        });
        fork_registry::register(&shared);
        Self(shared)
    }

    #[cfg(test)]
    pub fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Whether there is no file.
    pub const fn in_memory(&self) -> bool {
        self.config.path.is_none()
    }

    /// Whether a request belongs to the one connection that writes. In memory there is no other.
    pub const fn writes(&self, request: &Request) -> bool {
        self.in_memory() || request.operation.is_write()
    }

    /// Refuses in a child that inherited half a statement.
    pub fn check_whole(&self) -> Result<()> {
        if fork_gate::is_torn() {
            return Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!(
                    "{}: this process was forked in the middle of a statement, and cannot use the store: do not \
                     fork in signal handlers, or start processes by spawning",
                    self.config.address
                ),
            ));
        }
        Ok(())
    }

    /// Carries a request out on this thread.
    pub fn carry_out(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        if self.writes(request) {
            return self.write(request, interrupt);
        }
        let mut watch = Watch::new(Some(interrupt), Some(self.config.timeout));
        for _ in 0..ATTEMPTS {
            match self.read(request, &mut watch)? {
                Seen::Reply(reply) => return Ok(reply),
                Seen::Lost(id) => {
                    self.renew(id)?;
                    continue;
                }
                Seen::Missing => {}
            }
            // The table is missing, or lacks what the class has.
            let operation = Operation::CreateTable(Arc::clone(request.operation.table()));
            self.write(&Request::new(request.now, operation), interrupt)?;
        }
        Err(Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: the tables or files change faster than they can be read: try again",
                self.config.address
            ),
        ))
    }

    /// Carries requests out one after the other, but writes that come together in one transaction.
    fn carry_out_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let writes = |request: &Arc<Request>| request.operation.is_write();
        let together = requests
            .chunk_by(|one, next| writes(one) && writes(next))
            .flat_map(|together| together.chunks(GROUP));
        let mut between = Between::new(interrupt);
        let mut answers = Vec::with_capacity(requests.len());
        for group in together {
            if let Some(refusal) = between.refusal() {
                answers.extend(refusal.of_all(group.len()));
                continue;
            }
            let carried = match group {
                [alone] => vec![self.carry_out(alone, interrupt)],
                several => self.write_all(several, interrupt),
            };
            for result in carried {
                between.note(&result);
                answers.push(result);
            }
        }
        answers
    }

    /// Reads on a connection of its own.
    fn read(&self, request: &Request, watch: &mut Watch) -> Result<Seen> {
        loop {
            let _pass = fork_gate::enter();
            match self.read_inside(request, watch) {
                // It waited for a lock, and its connection is closed: nothing keeps a fork waiting.
                Err(error) if fork_gate::is_wanted() && watch.look().is_none() => drop(error),
                seen => return seen,
            }
        }
    }

    fn read_inside(&self, request: &Request, watch: &mut Watch) -> Result<Seen> {
        self.check_whole()?;
        let mut reading = Reading::begin(self)?;
        let connection = match reading.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(&self.config, watch)? {
                Opened::Ready(connection) => {
                    self.adopt(&connection);
                    let version =
                        connection::patiently(&self.config, watch, || connection.schema_version())?;
                    // What is remembered may be older than anything this connection will ever prepare.
                    self.layouts.reach(version);
                    connection
                }
                Opened::Lost(id) => return Ok(Seen::Lost(id)),
            },
        };
        connection.post.set(Some(watch.clone()));
        let result = self.attempts(&connection, request, watch);
        connection.post.set(None);
        // A failure may come from there too; then it is worth a look at once.
        let in_place = match &result {
            Ok(_) => connection.seems_in_place(),
            Err(_) => connection.is_in_place(),
        };
        let result = match &connection.files {
            Some(files) if !in_place && !files.is_mixed_up() => {
                return Ok(Seen::Lost(files.id()));
            }
            Some(_) if !in_place => Err(self.mixed_up(Outcome::NotApplied)),
            _ => result,
        };
        reading.connection = Some(connection);
        result
    }

    fn attempts(
        &self,
        connection: &Connection,
        request: &Request,
        watch: &mut Watch,
    ) -> Result<Seen> {
        let mut stale = 0;
        loop {
            match self.attempt(connection, request) {
                Ok(reply) => return Ok(reply),
                Err(Fault::Refused(error)) => return Err(error),
                Err(Fault::Stale) if stale < ATTEMPTS => {}
                Err(Fault::Sqlite(error))
                    if stale < ATTEMPTS && connection::is_unknown_name(&error) => {}
                Err(Fault::Stale) => return Ok(Seen::Missing),
                Err(Fault::Sqlite(error)) if connection::is_busy(&error) => {
                    // Rare for readers: somebody recovers or closes the log.
                    if let Some(stop) = watch.look() {
                        return Err(stop.error(
                            "waiting to read",
                            self.config.timeout,
                            Outcome::NotApplied,
                        ));
                    }
                    pause(CLOSING);
                    continue;
                }
                Err(Fault::Sqlite(error)) => {
                    return Err(self.explain(connection, error, Outcome::NotApplied));
                }
            }
            stale += 1;
            self.layouts.forget();
        }
    }

    fn attempt(&self, connection: &Connection, request: &Request) -> Attempt<Seen> {
        #[cfg(test)]
        crate::writing::queue::tests::panic_if_wanted(request);
        let now = request.now;
        let table = request.operation.table();
        if let Operation::TableExists(table) = &request.operation {
            return Ok(Seen::Reply(Reply::Exists(catalog::exists(
                connection, table,
            )?)));
        }
        let Some(layout) = self.layout(connection, table)? else {
            return Ok(Seen::Missing);
        };
        match &request.operation {
            Operation::Get(get) => rows::get(connection, &layout, get, now),
            Operation::Query(query) => rows::query(connection, &layout, query, now),
            Operation::Scan(scan) => rows::scan(connection, &layout, scan, now),
            Operation::BatchGet(batch) => rows::batch(connection, &layout, batch, now),
            _ => Ok(Reply::Done),
        }
        .map(Seen::Reply)
    }

    fn layout(&self, connection: &Connection, table: &Arc<Table>) -> Attempt<Option<Arc<Layout>>> {
        if let Some(layout) = self.layouts.find(table, None) {
            return Ok(Some(layout));
        }
        let version = connection.schema_version()?;
        let layout = catalog::look(connection, table)?;
        if let Some(layout) = &layout {
            self.layouts.remember(version, table, layout);
        }
        Ok(layout)
    }

    /// Makes way for connections to the files that are there now. To be called without a pass.
    pub fn renew(&self, lost: FileId) -> Result<()> {
        let pass = fork_gate::enter();
        let mixed_up = file_guard::is_mixed_up(lost);
        drop(pass);
        if mixed_up {
            return Err(self.mixed_up(Outcome::NotApplied));
        }
        if fork_registry::abandon(lost) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: another program removed the database's files, and they cannot be opened anew while a \
                 statement runs: try again",
                self.config.address
            ),
        ))
    }

    pub fn mixed_up(&self, outcome: Outcome) -> Error {
        Error::new(
            ErrorKind::Unavailable(outcome),
            format!(
                "{}: another file has taken the database's name while the store had it open, and the log of the \
                 old one lies beside it: remove the files that end in -wal and -shm if the new one shall count, or \
                 put the old one back",
                self.config.address
            ),
        )
    }

    /// Takes the files of a new connection for the store's: a link may lead elsewhere by now. Connections to others are
    /// closed, so that no request finds what an earlier one could not see any more.
    pub fn adopt(&self, connection: &Connection) {
        let FileId(number) = connection.file_id();
        if self.files.swap(number, Ordering::SeqCst) != number {
            drop(self.take_unused(|unused| !self.is_current(unused)));
            self.layouts.forget();
        }
    }

    /// Whether a connection is worth keeping: it has the store's files open, and has not found them lost. While another
    /// database lies next to their log, it keeps everybody from opening that one.
    pub fn is_current(&self, connection: &Connection) -> bool {
        let is_lost = |files: &FileGuard| files.is_lost() && !files.is_mixed_up();
        connection.file_id() == FileId(self.files.load(Ordering::SeqCst))
            && !connection.files.as_ref().is_some_and(is_lost)
    }

    /// Takes out connections that nobody uses.
    fn take_unused(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let mut pool = locked(&self.pool);
        let mut taken: Vec<_> = pool
            .idle
            .extract_if(.., |connection| wanted(connection))
            .collect();
        drop(pool);
        let writer = locked(&self.queue)
            .writer
            .take_if(|connection| wanted(connection));
        taken.extend(writer);
        taken
    }

    /// Closes all connections to these lost files. To be called while nobody uses one.
    pub fn abandon(&self, lost: FileId) {
        drop(self.take_unused(|connection| connection.file_id() == lost));
        self.layouts.forget();
    }

    /// Starts anew in a child, where only the forking thread is left.
    pub fn start_anew(&self) {
        if fork_gate::is_torn() {
            // Closing what another thread was using would take its locks from the parent.
            mem::forget(mem::take(&mut locked(&self.pool).idle));
            mem::forget(locked(&self.queue).writer.take());
        }
        locked(&self.pool).running = 0;
        locked(&self.queue).forget_others();
        locked(&self.readers).forget_others();
    }

    /// Closes all connections that nobody uses.
    pub fn let_go(&self) {
        drop(self.take_unused(|_| true));
    }

    /// Whether all is done that was asked before the store was closed.
    fn is_over(&self) -> bool {
        let _pass = fork_gate::enter();
        locked(&self.queue).is_over()
            && locked(&self.readers).is_over()
            && locked(&self.pool).running == 0
    }

    /// Lets the threads end when their work is done, and closes the connections that nobody uses. Those in use are closed
    /// by who uses them.
    fn shut(&self) {
        let _pass = fork_gate::enter();
        locked(&self.readers).close();
        let mut pool = locked(&self.pool);
        pool.closed = true;
        let idle = mem::take(&mut pool.idle);
        drop(pool);
        let writer = locked(&self.queue).close();
        drop((idle, writer));
    }
}

impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "sqlite",
            address: self.0.config.address.clone(),
            creates_tables: true,
            consistent_indexes: true,
            ordered_scans: true,
        }
    }

    fn notice(&self) -> Option<Notice> {
        notices::take()
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        self.0.check_whole()?;
        self.0.carry_out(request, interrupt)
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        match self.0.check_whole() {
            Ok(()) => self.0.carry_out_all(requests, interrupt),
            Err(error) => error.of_all(requests.len()),
        }
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        workers::submit(&self.0, request, done)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        self.0.shut();
        // A thread of the store cannot wait for its own end, nor one inside a statement for that.
        if workers::is_worker() || fork_gate::is_inside() {
            return;
        }
        let mut between = Between::new(interrupt);
        while !self.0.is_over() {
            if between.refusal().is_some() {
                return;
            }
            pause(CLOSING);
        }
    }

    fn before_fork(&self) {
        fork_registry::before();
    }

    fn in_parent(&self) {
        fork_registry::in_parent();
    }

    fn in_child(&self) {
        fork_registry::in_child();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _pass = fork_gate::enter();
        self.let_go();
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.0.shut();
    }
}
