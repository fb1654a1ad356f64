//! The requests that the tasks of an event loop await.

use std::collections::HashMap;
use std::sync::Arc;

use mintkey_store::{Request, Ticket};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::store::wakeup::{Inbox, Wakeup};

/// The mailbox of one loop, while a request of it is in flight.
pub struct Mailbox {
    pub event_loop: Py<PyAny>,
    pub inbox: Arc<Inbox>,
    /// Closes this mailbox if nothing is in flight; called by the loop.
    pub close: Py<PyAny>,
    /// Whether the loop has been asked to call `close`.
    pub closing: bool,
    /// Passes the collected requests to the store; called by the loop.
    pub post: Py<PyAny>,
    /// The numbers of the collected requests.
    pub outgoing: Vec<u64>,
    pub waiting: HashMap<u64, Awaited>,
}

impl Drop for Mailbox {
    /// Wakes the loop, so that it stops watching the descriptor. Only the loop may do that, and a store can be dropped in
    /// any thread.
    fn drop(&mut self) {
        if matches!(self.inbox.wakeup, Wakeup::Descriptor { .. }) {
            self.inbox.wake();
        }
    }
}

/// A request whose reply is awaited.
pub struct Awaited {
    pub future: Py<PyAny>,
    pub request: Arc<Request>,
    pub stage: Stage,
}

/// How far a request has got.
pub enum Stage {
    /// It has not been passed to the store.
    Collected,
    Sent(Box<dyn Ticket>),
    /// The store has it, and its caller has withdrawn it.
    Withdrawn,
}

/// The mailboxes of one store, by the identity of their loop.
#[derive(Default)]
pub struct Mailboxes {
    pub by_loop: HashMap<usize, Mailbox>,
    pub sent: u64,
}

impl Mailboxes {
    /// Visits the objects that the garbage collector can free only together with the store.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for mailbox in self.by_loop.values() {
            visit.call(&mailbox.event_loop)?;
            for awaited in mailbox.waiting.values() {
                visit.call(&awaited.future)?;
            }
        }
        Ok(())
    }

    /// Forgets everything, in a child: the loops and futures belong to the parent.
    pub fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.by_loop));
    }
}
