//! The link of submitted requests: one thread, which waits for many answers at once.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mintkey_store::store::Between;
use mintkey_store::{Interrupt, Request, Submission};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::operations::write;
use crate::store::Inner;
use crate::transport::blocking::is_quiet;
use crate::transport::http::{Endpoint, Incoming, Response};
use crate::transport::tls;
use crate::transport::{Fault, Link, Why, closed};

/// Requests under way at once; the others wait, and can still be withdrawn.
const MOST: u32 = 64;
const AT_ONCE: usize = MOST as usize;
/// Host names that are looked up at once.
const LOOKUPS: usize = 2;

/// How often it is looked whether the thread has ended, when a store is closed.
const CLOSING: Duration = Duration::from_millis(1);

/// A submitted request on its way to the thread. Whatever becomes of the thread, dropping it answers the caller.
pub struct Job {
    request: Arc<Request>,
    submission: Submission,
    /// Counts it as unanswered. Declared last, so that it is dropped after the answer.
    _unanswered: Unanswered,
}

/// One of the requests that are not answered yet.
struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    fn one_of(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(all))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The thread, while there is one.
pub struct Background {
    jobs: UnboundedSender<Job>,
    thread: JoinHandle<()>,
    unanswered: Arc<AtomicUsize>,
}

impl Background {
    /// Starts the thread.
    pub fn start(inner: Arc<Inner>) -> io::Result<Self> {
        Self::start_with(|queue| serve(inner, queue))
    }

    /// Starts a thread that does this with what is submitted to it.
    pub fn start_with<F: Future<Output = ()>>(
        serve: impl FnOnce(UnboundedReceiver<Job>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (jobs, queue) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("mintkey-dynamodb".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(queue)))?;
        Ok(Self {
            jobs,
            thread,
            unanswered: Arc::default(),
        })
    }

    /// Takes a request; gives it back if the thread has ended, which it does only by a panic.
    pub fn submit(&self, request: Arc<Request>, submission: Submission) -> Result<(), Submission> {
        let job = Job {
            request,
            submission,
            _unanswered: Unanswered::one_of(&self.unanswered),
        };
        self.jobs.send(job).map_err(|back| back.0.submission)
    }

    /// Whether nothing is under way, so that nobody calls back either.
    pub fn is_idle(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
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

async fn serve(inner: Arc<Inner>, mut queue: UnboundedReceiver<Job>) {
    let link = Rc::new(Waiting {
        inner,
        pool: RefCell::default(),
        lookups: Arc::new(Semaphore::new(LOOKUPS)),
    });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(job) = queue.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        if job.submission.begin() {
            tokio::task::spawn_local(work(job, Rc::clone(&link), place));
        }
    }
    // Whoever closes the store waits until the last one is done.
    drop(places.acquire_many(MOST).await);
}

/// Carries one request out. A panic ends this task alone: what it drops answers the caller and makes room for the next.
async fn work(job: Job, link: Rc<Waiting>, _place: OwnedSemaphorePermit) {
    let result = write::run(&link.inner, &*link, &job.request).await;
    job.submission.answer(result).deliver();
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
    /// Held by the threads that look up host names.
    lookups: Arc<Semaphore>,
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
        let addresses = self.look_up(endpoint).await?;
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

    /// The addresses of a host. The system's way to look a name up blocks, so a thread does it: one of our own, because
    /// the runtime's panics where the system refuses it a thread.
    async fn look_up(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Why> {
        if let Ok(address) = endpoint.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, endpoint.port)]);
        }
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let host = (endpoint.host.clone(), endpoint.port);
        let (sender, addresses) = oneshot::channel();
        thread::Builder::new()
            .name("mintkey-dynamodb-lookup".to_owned())
            .spawn(move || {
                // Nobody listens any more when the time for connecting is over.
                let _ = sender.send(host.to_socket_addrs().map(Iterator::collect));
                drop(permit);
            })
            .map_err(Why::NoThread)?;
        let lost = |_| Err(io::Error::other("the thread that looked it up ended"));
        addresses.await.unwrap_or_else(lost).map_err(Why::Unknown)
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
