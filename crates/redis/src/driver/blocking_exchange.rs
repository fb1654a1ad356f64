//! Drives an exchange on the calling thread, over connections that no other request uses.

use std::sync::Arc;
use std::time::Instant;

use mintkey_runtime::{Deadline, Stop};

use crate::driver::exchange::{Exchange, Outgoing, Step};
use crate::driver::multiplexed::{
    CallId, MultiplexedConnection, block, note_broken, note_retry, report_lost, tick_at,
};
use crate::driver::shared::Shared;
use crate::protocol::channel::Replies;
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::TransportError;
use crate::transport::node::Node;
use crate::transport::slot_refresh::SlotRefresh;
use crate::transport::topology::Routes as _;

/// The connections that one request uses.
pub type RequestConnections = Vec<MultiplexedConnection>;

/// Keeps connections for the next request. In a forked child they are the parent's. If replies may belong to other calls, they
/// are closed.
pub fn release(
    shared: &Shared,
    connections: RequestConnections,
    deadline: &Deadline,
    in_sync: bool,
) {
    if in_sync && !shared.is_closed() && !deadline.has_forked() {
        for (node, connection) in connections
            .into_iter()
            .filter_map(MultiplexedConnection::into_idle)
        {
            shared.context.topology.keep(&node, connection);
        }
    }
}

/// Sends calls, and waits for the reply to each. Returns the replies, and how often each call was sent again.
pub fn exchange(
    shared: &Shared,
    calls: Vec<Call>,
    connections: &mut RequestConnections,
    deadline: &mut Deadline,
) -> (Replies, Vec<u32>) {
    let mut driver = Driver {
        shared,
        connections,
        deadline,
        exchange: Exchange::new(calls),
        slot_refresh: None,
        retry_at: None,
    };
    driver.run();
    let retries = driver.exchange.retries();
    let replies = driver.exchange.into_replies();
    // The replies that are still missing belong to no later call.
    connections.retain(|connection| connection.pending.is_empty());
    (replies, retries)
}

struct Driver<'a> {
    shared: &'a Shared,
    connections: &'a mut RequestConnections,
    deadline: &'a mut Deadline,
    exchange: Exchange<Arc<Node>>,
    /// The request for the slots of the Cluster that is in flight.
    slot_refresh: Option<SlotRefresh>,
    /// When calls are sent again.
    retry_at: Option<Instant>,
}

impl Driver<'_> {
    fn run(&mut self) {
        while !self.exchange.is_done() {
            // A signal handler runs in here, and may fork.
            if let Err(stop) = self.deadline.check() {
                return self.stop(stop);
            }
            self.take_steps();
            let has_failed = self.connect() | self.write();
            if !has_failed && !self.exchange.is_done() {
                self.wait();
            }
            self.read();
        }
    }

    /// Does what the exchange needs next, until it waits for events.
    fn take_steps(&mut self) {
        let topology = &self.shared.context.topology;
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.exchange.tick();
        }
        if let Some(slot_refresh) = &mut self.slot_refresh
            && let Some(result) = slot_refresh.advance(topology, &self.shared.context.config, None)
        {
            self.slot_refresh = None;
            self.exchange.slots_refreshed(result, topology);
        }
        while let Some(step) = self.exchange.next(topology) {
            match step {
                Step::Send(node, calls) => self.send(&node, &calls),
                Step::RefreshSlots => self.slot_refresh = Some(SlotRefresh::new(topology)),
                Step::Wait(time) => {
                    note_retry(&self.shared.context.config, &self.exchange, time);
                    self.retry_at = tick_at(time, self.deadline.end());
                }
            }
        }
    }

    /// Puts calls into the output of the connection to their server.
    fn send(&mut self, node: &Arc<Node>, calls: &[Outgoing]) {
        let mut connections = self.connections.iter_mut();
        let usable = connections.position(|own| Arc::ptr_eq(&own.node, node) && own.is_usable());
        let index = usable.unwrap_or_else(|| {
            self.connections.push(match node.take_idle() {
                Some(connection) => MultiplexedConnection::over(node, connection),
                None => MultiplexedConnection::new(node),
            });
            self.connections.len() - 1
        });
        let connection = &mut self.connections[index];
        for call in calls {
            let id = CallId {
                request: 1,
                round: 0,
                index: call.index,
            };
            connection.push_outgoing(id, call, self.exchange.call(call.index));
        }
    }

    /// Goes on with the connections that are not open. Returns whether one has failed.
    fn connect(&mut self) -> bool {
        let (config, topology) = (&self.shared.context.config, &self.shared.context.topology);
        let mut index = 0;
        let before = self.connections.len();
        while index < self.connections.len() {
            match self.connections[index].connect(config, None) {
                Ok(()) => index += 1,
                Err(error) => {
                    let connection = self.connections.swap_remove(index);
                    let calls = connection.pending.iter();
                    let calls = calls.filter_map(|call| call.id.own_index());
                    self.exchange.unreachable(calls, topology, &error);
                }
            }
        }
        self.connections.len() < before
    }

    /// Writes as far as possible. Returns whether a connection has failed.
    fn write(&mut self) -> bool {
        let mut index = 0;
        let before = self.connections.len();
        while index < self.connections.len() {
            match self.connections[index].write() {
                Ok(()) => index += 1,
                Err(error) => self.close(index, &TransportError::Broken(error)),
            }
        }
        self.connections.len() < before
    }

    /// Reads the replies that have come.
    fn read(&mut self) {
        let mut index = 0;
        while index < self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.pending.is_empty() {
                index += 1;
                continue;
            }
            match connection.read() {
                Ok(Some((call, value))) => self.receive(call.id, value),
                Ok(None) => index += 1,
                Err(cause) => self.close(index, &cause),
            }
        }
    }

    fn receive(&mut self, call: CallId, value: Value) {
        if let Some(index) = call.own_index() {
            self.exchange
                .reply(index, value, &self.shared.context.topology);
        }
    }

    /// Closes a connection. Its calls are sent again if they may be.
    fn close(&mut self, index: usize, cause: &TransportError) {
        let connection = self.connections.swap_remove(index);
        note_broken(&self.shared.context.config, &connection, cause);
        let first = connection.pending.front();
        let first = first.and_then(|call| call.id.own_index());
        let calls = connection.pending.iter().filter_map(|call| {
            let reached = connection.may_have_received(call);
            Some((call.id.own_index()?, reached))
        });
        let calls: Vec<(usize, bool)> = calls.collect();
        let (exchange, topology) = (&mut self.exchange, &self.shared.context.topology);
        report_lost(exchange, &calls, first, cause, &connection, topology);
    }

    /// Waits until a server sends something, or until the next check of the deadline.
    fn wait(&mut self) {
        let mut connections = self.connections.iter();
        if connections.any(MultiplexedConnection::has_more) || self.spin() {
            return;
        }
        let check = Instant::now() + self.deadline.wait();
        let ends = self.retry_at.into_iter().chain([check]);
        let is_cluster = self.shared.context.topology.is_cluster();
        let slot_refresh = self.slot_refresh.as_ref();
        block(self.connections, slot_refresh, None, ends, is_cluster);
    }

    /// Spins briefly if one server must reply. Returns whether it has.
    fn spin(&mut self) -> bool {
        let is_waiting = |connection: &MultiplexedConnection| !connection.pending.is_empty();
        let mut connections = self.connections.iter();
        let Some(index) = connections.position(is_waiting) else {
            return false;
        };
        if connections.any(is_waiting) || self.slot_refresh.is_some() {
            return false;
        }
        match self.connections[index].spin() {
            Some(Ok((call, value))) => self.receive(call.id, value),
            Some(Err(cause)) => self.close(index, &cause),
            None => return false,
        }
        true
    }

    /// Ends all calls. What has come until now counts: but in a forked child it is the parent's.
    fn stop(&mut self, stop: Stop) {
        let topology = &self.shared.context.topology;
        let address = &self.shared.context.config.address;
        if !matches!(stop, Stop::Forked) {
            self.read();
        }
        for connection in self.connections.iter() {
            let unopened = connection.stopped(stop);
            for call in &connection.pending {
                let Some(index) = call.id.own_index() else {
                    continue;
                };
                if let Some(error) = &unopened {
                    self.exchange.unreachable([index], topology, error);
                } else if connection.may_have_received(call) {
                    self.exchange.wrote(index);
                }
            }
            if unopened.is_none()
                && !connection.pending.is_empty()
                && matches!(stop, Stop::Timeout(_))
            {
                topology.suspect(&connection.node);
            }
        }
        if let Some(slot_refresh) = &self.slot_refresh {
            self.exchange
                .slots_refreshed(Err(slot_refresh.stopped(stop, address)), topology);
        }
        let error = |outcome| stop.error(address, "waiting for a reply", outcome);
        self.exchange.stop(error);
    }
}
