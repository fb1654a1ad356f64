//! The replies that have arrived for an event loop, and how a store's thread wakes the loop.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use mintkey_store::Reply;
use parking_lot::Mutex;
use pyo3::prelude::*;

pub type Outcome = Result<Reply, mintkey_store::Error>;

/// The replies that have arrived, and the way to wake the loop.
pub struct Inbox {
    arrived: Mutex<Vec<(u64, Outcome)>>,
    pub wakeup: Wakeup,
}

pub enum Wakeup {
    /// The loop watches the read end; on Linux both ends are one eventfd.
    Descriptor { read: Arc<File>, write: Arc<File> },
    /// The loop is called from the store's thread.
    Call(Py<PyAny>),
}

impl Inbox {
    pub fn new(wakeup: Wakeup) -> Self {
        Self {
            arrived: Mutex::default(),
            wakeup,
        }
    }

    /// Adds a reply. The first one wakes the loop.
    pub fn put(&self, number: u64, outcome: Outcome) {
        let first = {
            let mut arrived = self.arrived.lock();
            arrived.push((number, outcome));
            arrived.len() == 1
        };
        if first {
            self.wake();
        }
    }

    /// Makes the loop call the function that delivers the replies.
    pub fn wake(&self) {
        match &self.wakeup {
            // A failed write means a full pipe: the loop has been woken already.
            Wakeup::Descriptor { write, .. } => drop((&**write).write(&1_u64.to_ne_bytes())),
            Wakeup::Call(call) => Python::attach(|py| {
                // In a closed loop no task waits.
                drop(call.call0(py));
            }),
        }
    }

    /// Takes all replies.
    pub fn take(&self) -> Vec<(u64, Outcome)> {
        if let Wakeup::Descriptor { read, .. } = &self.wakeup {
            let mut buffer = [0; 64];
            drop((&**read).read(&mut buffer));
        }
        std::mem::take(&mut *self.arrived.lock())
    }
}

/// The read end and the write end of a wake-up, which are one descriptor on Linux. Neither ever blocks.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "libc's interface")]
pub fn descriptors() -> PyResult<(Arc<File>, Arc<File>)> {
    // SAFETY: eventfd takes no pointers; the descriptor that it returns is new and has no other owner.
    let descriptor = unsafe {
        let raw = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if raw < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        OwnedFd::from_raw_fd(raw)
    };
    let both = Arc::new(File::from(descriptor));
    Ok((both.clone(), both))
}

/// The read end and the write end of a wake-up. Neither ever blocks.
#[cfg(not(target_os = "linux"))]
pub fn descriptors() -> PyResult<(Arc<File>, Arc<File>)> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    Ok((
        Arc::new(File::from(OwnedFd::from(read))),
        Arc::new(File::from(OwnedFd::from(write))),
    ))
}
