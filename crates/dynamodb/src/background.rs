//! The link of submitted requests: one thread, which waits for many answers at once.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mintkey_store::store::Between;
use mintkey_store::{Done, Error, ErrorKind, Interrupt, Outcome, Request, Ticket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::blocking::is_quiet;
use crate::http::{Endpoint, Incoming, Response};
use crate::link::{Fault, Link, Why, closed};
use crate::operations;
use crate::store::Inner;
use crate::tls;

/// Requests under way at once; the others wait, and can still be withdrawn.
const MOST: u32 = 64;
const AT_ONCE: usize = MOST as usize;
/// Names looked up at once, and how long the threads stay that do it.
const LOOKUPS: usize = 2;
const LOOKUPS_REST: Duration = Duration::from_secs(1);

/// How often it is looked whether the thread has ended, when a store is closed.
const CLOSING: Duration = Duration::from_millis(1);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// A submitted request's state, which its ticket and the thread share.
#[derive(Default)]
struct State(AtomicU8);

impl State {
    fn change(&self, to: u8) -> bool {
        self.0
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

struct Job {
    request: Arc<Request>,
    done: Done,
    state: Arc<State>,
}

struct Place(Arc<State>);

impl Ticket for Place {
    fn withdraw(&self) -> bool {
        self.0.change(WITHDRAWN)
    }
}

/// A ticket for what was answered at once.
pub struct Answered;

impl Ticket for Answered {
    fn withdraw(&self) -> bool {
        false
    }
}

/// The thread, while there is one.
pub struct Background {
    jobs: UnboundedSender<Job>,
    thread: JoinHandle<()>,
    pending: Arc<AtomicUsize>,
}

impl Background {
    /// Starts the thread.
    pub fn start(inner: Arc<Inner>) -> io::Result<Self> {
        // The other threads only look names up: the system's way to do that waits.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUPS)
            .thread_keep_alive(LOOKUPS_REST)
            .build()?;
        let (jobs, queue) = unbounded_channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pending);
        let thread = std::thread::Builder::new()
            .name("mintkey-dynamodb".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(inner, queue, counted)))?;
        Ok(Self {
            jobs,
            thread,
            pending,
        })
    }

    /// Takes a request.
    pub fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        let state = Arc::new(State::default());
        self.pending.fetch_add(1, Ordering::AcqRel);
        let job = Job {
            request,
            done,
            state: Arc::clone(&state),
        };
        if let Err(back) = self.jobs.send(job) {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            (back.0.done)(Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                "the store's thread has ended: connect() again",
            )));
        }
        Box::new(Place(state))
    }

    /// Whether nothing is under way, so that nobody calls back either.
    pub fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Whether it is the calling thread.
    pub fn is_this_thread(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }

    /// Lets the thread finish what was submitted, and waits for that unless it is the calling one, or until the
    /// interrupt is raised.
    pub fn finish(self, interrupt: &'static dyn Interrupt) {
        let own = self.is_this_thread();
        drop(self.jobs);
        let mut between = Between::new(interrupt);
        while !own && !self.thread.is_finished() {
            if between.refusal().is_some() {
                return;
            }
            std::thread::park_timeout(CLOSING);
        }
        if !own {
            // A thread that panicked has nothing left to finish.
            let _ = self.thread.join();
        }
    }
}

async fn serve(inner: Arc<Inner>, mut queue: UnboundedReceiver<Job>, pending: Arc<AtomicUsize>) {
    let link = Rc::new(Waiting {
        inner,
        pool: RefCell::default(),
    });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(job) = queue.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        if job.state.change(BEGUN) {
            tokio::task::spawn_local(work(job, Rc::clone(&link), place, Arc::clone(&pending)));
        } else {
            pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
    // Whoever closes the store waits until the last one is done.
    drop(places.acquire_many(MOST).await);
}

async fn work(job: Job, link: Rc<Waiting>, place: OwnedSemaphorePermit, pending: Arc<AtomicUsize>) {
    let result = operations::run(&link.inner, &*link, &job.request).await;
    (job.done)(result);
    pending.fetch_sub(1, Ordering::AcqRel);
    drop(place);
}

/// A connection that waits.
struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    incoming: Incoming,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether the server has neither closed nor said anything while nobody asked.
    fn is_quiet(&self) -> bool {
        let socket = match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        // Asked of the system: what the runtime knows is as old as its last look.
        is_quiet(socket)
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(request).await,
            Stream::Tls(stream) => stream.write_all(request).await,
        }
    }

    async fn receive(&mut self) -> Result<Response, Why> {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.flush().await.map_err(Why::Broken)?;
        }
        loop {
            let room = self.incoming.room();
            let count = match &mut self.stream {
                Stream::Plain(socket) => socket.read(room).await,
                Stream::Tls(stream) => stream.read(room).await,
            }
            .map_err(Why::Broken)?;
            if count == 0 {
                return self.incoming.end().ok_or_else(closed);
            }
            self.incoming.advance(count);
            if let Some(response) = self.incoming.response().map_err(|_| Why::Garbage)? {
                return Ok(response);
            }
        }
    }
}

/// The link of all submitted requests.
struct Waiting {
    inner: Arc<Inner>,
    pool: RefCell<Vec<Connection>>,
}

impl Waiting {
    fn idle(&self, endpoint: &Endpoint) -> Option<Connection> {
        let mut pool = self.pool.borrow_mut();
        loop {
            let place = pool.iter().rposition(|idle| idle.endpoint == *endpoint)?;
            let connection = pool.swap_remove(place);
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut pool = self.pool.borrow_mut();
        if pool.len() < AT_ONCE {
            pool.push(connection);
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Why> {
        let addresses = lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(Why::Unknown)?;
        let mut failed = Why::Unknown(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(socket) => return self.greet(endpoint, socket).await,
                Err(error) => failed = Why::Unreachable(error),
            }
        }
        Err(failed)
    }

    async fn greet(&self, endpoint: &Endpoint, socket: TcpStream) -> Result<Connection, Why> {
        socket.set_nodelay(true).map_err(Why::Unreachable)?;
        let stream = if endpoint.tls {
            let connector = TlsConnector::from(self.inner.tls.config()?);
            let name = tls::server_name(&endpoint.host)?;
            let stream = connector.connect(name, socket).await.map_err(Why::Broken)?;
            Stream::Tls(Box::new(stream))
        } else {
            Stream::Plain(socket)
        };
        Ok(Connection {
            endpoint: endpoint.clone(),
            stream,
            incoming: Incoming::new(),
        })
    }

    /// A connection from the pool, or a new one in its time.
    async fn connection(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, Why> {
        if let Some(connection) = self.idle(endpoint) {
            return Ok(connection);
        }
        let within = Instant::now() + self.inner.config.connect_timeout;
        match timeout_at(within.min(deadline).into(), self.connect(endpoint)).await {
            Ok(result) => result,
            Err(_) if deadline > within => Err(Why::ConnectTimeout),
            Err(_) => Err(Why::Late),
        }
    }
}

impl Link for Waiting {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        deadline: Instant,
    ) -> Result<Response, Fault> {
        let connected = self.connection(endpoint, deadline).await;
        let mut connection = connected.map_err(Why::unsent)?;
        // Parts of a request are no request: the server can do nothing with them.
        match timeout_at(deadline.into(), connection.send(request)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Why::Broken(error).unsent()),
            Err(_) => return Err(Why::Late.unsent()),
        }
        let received = timeout_at(deadline.into(), connection.receive()).await;
        let response = received
            .unwrap_or(Err(Why::Late))
            .map_err(|why| Fault { sent: true, why })?;
        if response.keep_alive {
            self.keep(connection);
        }
        Ok(response)
    }

    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), Fault> {
        let until = Instant::now() + time;
        sleep_until(until.min(deadline).into()).await;
        if until > deadline {
            return Err(Why::Late.unsent());
        }
        Ok(())
    }
}
