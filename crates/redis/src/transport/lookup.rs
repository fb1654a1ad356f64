//! Looking up host names on threads of their own: the system's lookup blocks, and cannot be interrupted.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

/// The lookups that run at once.
const MAX_LOOKUPS: usize = 2;

/// The threads that look up host names.
#[derive(Default)]
pub struct Lookups(Arc<AtomicUsize>);

/// A lookup that runs.
pub struct Lookup {
    addresses: Receiver<io::Result<Vec<SocketAddr>>>,
    /// Readable when the thread has ended.
    ended: UnixStream,
}

/// A running thread. Dropping it makes room for another one.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lookups {
    /// Starts a lookup; `None` if too many run.
    pub fn start(&self, host: &str, port: u16) -> io::Result<Option<Lookup>> {
        if self.0.fetch_add(1, Ordering::SeqCst) >= MAX_LOOKUPS {
            self.0.fetch_sub(1, Ordering::SeqCst);
            return Ok(None);
        }
        let running = Running(Arc::clone(&self.0));
        let (ended, thread_end) = UnixStream::pair()?;
        let (sender, addresses) = channel();
        let host = (host.to_owned(), port);
        let thread = thread::Builder::new().name("mintkey-redis-lookup".to_owned());
        thread.spawn(move || {
            let (_running, _thread_end) = (running, thread_end);
            // Nobody receives it if the request has timed out.
            let _ = sender.send(host.to_socket_addrs().map(Iterator::collect));
        })?;
        Ok(Some(Lookup { addresses, ended }))
    }
}

impl Lookup {
    /// The addresses, if the lookup has ended.
    pub fn addresses(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        match self.addresses.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(io::Error::other("the thread that looked it up ended")))
            }
        }
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}
