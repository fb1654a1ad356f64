//! The idle connections of a store.

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mintkey_runtime::{is_worker_thread, locked};

use crate::storage::connection::Connection;
use crate::storage::file_guard::{FileGuard, FileId};
use crate::storage::fork_gate;

/// The most idle connections for reads.
const IDLE: usize = 8;

/// The idle connections of a store: several for reads, one for writes. Locked only inside the fork gate.
pub struct Pool {
    idle: Mutex<Idle>,
    /// The id of the files that the latest connection has open.
    files: AtomicU64,
}

#[derive(Default)]
struct Idle {
    readers: Vec<Connection>,
    /// The connection that writes, while no thread writes.
    writer: Option<Connection>,
    /// The reads in progress, each with a connection or about to open one.
    reads: usize,
    /// The store is closed: no connection for reads is kept.
    closed: bool,
}

/// A read in progress, and its connection. Dropping it returns the connection to the pool.
pub struct Read<'a> {
    pool: &'a Pool,
    pub connection: Option<Connection>,
}

impl Pool {
    pub fn new() -> Self {
        Self {
            idle: Mutex::default(),
            files: AtomicU64::new(FileId::MEMORY.0),
        }
    }

    /// Begins a read, with an idle connection if there is one. `None`: the store is closed. Only its own threads still
    /// read then, to complete what was submitted before.
    pub fn begin_read(&self) -> Option<Read<'_>> {
        let mut idle = locked(&self.idle);
        if idle.closed && !is_worker_thread() {
            return None;
        }
        idle.reads += 1;
        let connection = idle.readers.pop();
        Some(Read {
            pool: self,
            connection,
        })
    }

    /// Whether no read is in progress.
    pub fn is_unused(&self) -> bool {
        locked(&self.idle).reads == 0
    }

    pub fn take_writer(&self) -> Option<Connection> {
        locked(&self.idle).writer.take()
    }

    pub fn put_writer(&self, connection: Option<Connection>) {
        locked(&self.idle).writer = connection;
    }

    /// Records the files of a new connection as the store's: a link may lead to other files than before. True: they are
    /// others. Then the idle connections to the former ones are closed, so that no request misses rows that an earlier
    /// request saw.
    pub fn adopt(&self, connection: &Connection) -> bool {
        let FileId(number) = connection.file_id();
        let changed = self.files.swap(number, Ordering::SeqCst) != number;
        if changed {
            drop(self.take_idle(|idle| !self.is_current(idle)));
        }
        changed
    }

    /// Whether to keep a connection: it has the store's files open, and they were not found lost. While another
    /// database lies next to their log, a connection is kept too, since it prevents all from opening that database.
    pub fn is_current(&self, connection: &Connection) -> bool {
        let is_lost = |files: &FileGuard| files.is_lost() && !files.is_replaced();
        connection.file_id() == FileId(self.files.load(Ordering::SeqCst))
            && !connection.files.as_ref().is_some_and(is_lost)
    }

    fn take_idle(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let mut idle = locked(&self.idle);
        let writer = idle.writer.take_if(|connection| wanted(connection));
        let readers = idle.readers.extract_if(.., |connection| wanted(connection));
        readers.chain(writer).collect()
    }

    /// Closes all idle connections.
    pub fn release(&self) {
        drop(self.take_idle(|_| true));
    }

    /// Closes all idle connections to these lost files.
    pub fn abandon(&self, lost: FileId) {
        drop(self.take_idle(|connection| connection.file_id() == lost));
    }

    /// Closes the idle connections for reads, and keeps no other. Those in use are closed after their request.
    pub fn close(&self) {
        let mut idle = locked(&self.idle);
        idle.closed = true;
        let readers = mem::take(&mut idle.readers);
        drop(idle);
        drop(readers);
    }

    /// Resets the pool in the child of a fork, where only the forking thread exists.
    pub fn reset_in_child(&self) {
        let mut idle = locked(&self.idle);
        idle.reads = 0;
        if fork_gate::was_forked_inside() {
            // Closing a connection that another thread was using would release locks of the parent.
            mem::forget(mem::take(&mut idle.readers));
            mem::forget(idle.writer.take());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _pass = fork_gate::enter();
        self.release();
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut idle = locked(&self.pool.idle);
        // It is zero already in a child that was forked during this read.
        idle.reads = idle.reads.saturating_sub(1);
        // After a panic the state of the connection is unknown.
        let kept = !idle.closed && !thread::panicking() && idle.readers.len() < IDLE;
        let (kept, closing): (Option<_>, Option<_>) = match connection {
            Some(open) if kept && self.pool.is_current(&open) => (Some(open), None),
            other => (None, other),
        };
        idle.readers.extend(kept);
        drop(idle);
        drop(closing);
    }
}
