//! The reactor of blocking calls: it works on the calling thread, and checks the interrupt every 100 ms.
//!
//! Concurrent exchanges share the thread, which waits for all their sockets at once. There is no runtime of tokio: a child
//! of a fork would share its set of sockets, and signal handlers that use the store would need a second one.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_runtime::{Deadline, Generation, Stop};
use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::timeout;

use crate::transport::error::Cause;
use crate::transport::handlers;
use crate::transport::nonblocking::Nonblocking;
use crate::transport::reactor::{Reactor, Readiness};

/// The reactor of one blocking call.
pub struct Blocking {
    /// The time limit of the call, for messages.
    timeout: Duration,
    /// Ends all exchanges of the call at an interrupt, and in the child of a fork. Each has its own time limit.
    interrupt: Cell<Deadline>,
    /// What the exchanges wait for.
    awaited: RefCell<Vec<Awaited>>,
}

struct Awaited {
    /// `None`: for time only.
    socket: Option<(Arc<TcpStream>, PollFlags)>,
    until: Instant,
}

impl Blocking {
    /// The reactor of a call that begins now.
    pub fn new(timeout: Duration, interrupt: &'static dyn Interrupt) -> Self {
        Self {
            timeout,
            interrupt: Cell::new(Deadline::unlimited(interrupt)),
            awaited: RefCell::default(),
        }
    }

    /// Runs a future that waits for nothing but this reactor.
    pub fn run<R>(&self, future: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
            let awaited = mem::take(&mut *self.awaited.borrow_mut());
            if awaited.is_empty() {
                return Err(Error::new(
                    ErrorKind::Unavailable(Outcome::Unknown),
                    "a blocking request waited for another thread: this is a bug in mintkey: report it",
                ));
            }
            self.wait_for_any(&awaited);
        }
    }

    /// Checks the interrupt, and whether this is the process that started the call.
    fn check_interrupt(&self) -> Result<(), Stop> {
        let mut interrupt = self.interrupt.get();
        let checked = interrupt.check();
        self.interrupt.set(interrupt);
        checked
    }

    /// Waits until one of the sockets is ready, an instant has come, or it is time to check the interrupt.
    fn wait_for_any(&self, awaited: &[Awaited]) {
        let now = Instant::now();
        let lefts = awaited
            .iter()
            .map(|one| one.until.saturating_duration_since(now));
        let time = lefts.fold(self.interrupt.get().wait(), Duration::min);
        let sockets = awaited.iter().filter_map(|one| one.socket.as_ref());
        let mut polled: Vec<_> = sockets
            .map(|(socket, flags)| PollFd::new(socket, *flags))
            .collect();
        // Whatever it returns, each exchange looks at its own socket, and checks.
        let _ = poll(&mut polled, Some(&timespec(time)));
    }

    /// Lets concurrent exchanges continue until the thread has waited. In the child of a fork, which a signal handler may
    /// have made meanwhile, the sockets are the parent's.
    async fn wait(&self, awaited: Awaited) -> Result<(), Cause> {
        let mut awaited = Some(awaited);
        poll_fn(|_| match awaited.take() {
            Some(awaited) => {
                self.awaited.borrow_mut().push(awaited);
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
        if self.interrupt.get().has_forked() {
            return Err(Stop::Forked.into());
        }
        Ok(())
    }
}

impl Reactor for Blocking {
    type Tcp = Arc<TcpStream>;
    type ForServices = Nonblocking;

    fn watch(&self, socket: TcpStream) -> io::Result<Arc<TcpStream>> {
        Ok(Arc::new(socket))
    }

    async fn ready(
        &self,
        socket: &Arc<TcpStream>,
        readiness: Readiness,
        until: Instant,
    ) -> Result<(), Cause> {
        self.check(until)?;
        let flags = match readiness {
            Readiness::Read => PollFlags::IN,
            Readiness::Write => PollFlags::OUT,
        };
        let socket = Some((Arc::clone(socket), flags));
        self.wait(Awaited { socket, until }).await
    }

    async fn sleep(&self, until: Instant) -> Result<(), Cause> {
        while Instant::now() < until {
            let socket = None;
            self.wait(Awaited { socket, until }).await?;
            self.check_interrupt()?;
        }
        Ok(())
    }

    fn check(&self, until: Instant) -> Result<(), Cause> {
        self.check_interrupt()?;
        if Instant::now() >= until {
            return Err(Stop::Timeout(self.timeout).into());
        }
        Ok(())
    }

    /// On the calling thread: a blocking call starts no thread.
    async fn look_up(&self, host: &str, port: u16, _: Instant) -> Result<Vec<SocketAddr>, Cause> {
        let found = (host, port).to_socket_addrs();
        found.map(Iterator::collect).map_err(Cause::UnknownHost)
    }

    async fn in_runtime<F: Future>(&self, work: F, until: Instant) -> Result<F::Output, Cause> {
        let generation = Generation::current();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Cause::Broken)?;
        let mut work = Box::pin(work);
        loop {
            // Asked outside of the runtime: a signal handler may use the store, and so begin another one.
            if let Err(cause) = handlers::ask(|| self.check(until)) {
                if !generation.is_current() {
                    // In the child they share sockets, and the set of these, with the parent.
                    mem::forget((work, runtime));
                }
                return Err(cause);
            }
            let left = until.saturating_duration_since(Instant::now());
            let slice = left.min(self.interrupt.get().wait());
            let turned = runtime.block_on(async { timeout(slice, &mut work).await });
            if let Ok(result) = turned {
                return Ok(result);
            }
        }
    }

    fn for_services(&self) -> Nonblocking {
        Nonblocking::of_calling_thread(self.timeout)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
