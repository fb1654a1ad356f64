//! Drives an exchange on the calling thread.

use std::collections::VecDeque;
use std::sync::Arc;

use mintkey_runtime::{Deadline, Stop, pause};
use mintkey_store::Error;

use crate::driver::exchange::{Exchange, Outgoing, Step};
use crate::driver::shared::Shared;
use crate::protocol::channel::Replies;
use crate::protocol::replies::is_out_of_step;
use crate::protocol::resp::Call;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::node::Node;

/// The connections that one request uses.
pub type HeldConnections = Vec<(Arc<Node>, Connection)>;

/// Keeps connections for the next request. In a forked child they are the parent's. After an error that shows that replies
/// belong to other calls they are closed.
pub fn release(shared: &Shared, held: HeldConnections, deadline: &Deadline, error: Option<&Error>) {
    let in_step = !error.is_some_and(is_out_of_step);
    if in_step && !shared.is_closed() && !deadline.has_forked() {
        for (node, connection) in held {
            shared.topology.keep(&node, connection);
        }
    }
}

/// Sends calls, and waits for the reply to each.
pub fn exchange(
    shared: &Shared,
    calls: Vec<Call>,
    held: &mut HeldConnections,
    deadline: &mut Deadline,
) -> Replies {
    let mut driver = Driver {
        shared,
        held,
        deadline,
        exchange: Exchange::new(calls),
        sent: VecDeque::new(),
    };
    driver.run();
    driver.exchange.into_replies()
}

struct Driver<'a> {
    shared: &'a Shared,
    held: &'a mut HeldConnections,
    deadline: &'a mut Deadline,
    exchange: Exchange<Arc<Node>>,
    /// The calls that were sent, by connection.
    sent: VecDeque<(Arc<Node>, Connection, Vec<Outgoing>)>,
}

impl Driver<'_> {
    fn run(&mut self) {
        let shared = self.shared;
        let (topology, config) = (&shared.topology, &shared.context.config);
        let mut delay = None;
        // If all replies come soon, nothing else checks the deadline.
        let mut checked = self.deadline.check();
        while !self.exchange.is_done() {
            if let Err(stop) = checked {
                let error = |outcome| stop.error(&config.address, "waiting for a reply", outcome);
                self.exchange.stop(error);
                break;
            }
            match self.exchange.next(topology) {
                Some(Step::Send(node, calls)) => self.send(node, calls),
                Some(Step::Learn(version)) => {
                    let result = topology.refresh_slots(config, version, self.deadline);
                    self.exchange.routes_learned(result, topology);
                }
                Some(Step::Wait(time)) => delay = Some(time),
                None => match (self.sent.pop_front(), delay.take()) {
                    (Some((node, connection, calls)), waits) => {
                        delay = waits;
                        self.receive(node, connection, &calls);
                    }
                    (None, Some(time)) => {
                        checked = self.deadline.check();
                        if checked.is_ok() {
                            pause(time);
                            self.exchange.tick();
                        }
                        continue;
                    }
                    (None, None) => {}
                },
            }
            checked = self.deadline.stopped().map_or(Ok(()), Err);
        }
    }

    /// Sends calls to a server, without waiting for replies.
    fn send(&mut self, node: Arc<Node>, calls: Vec<Outgoing>) {
        let config = &self.shared.context.config;
        let mut held = self.held.iter();
        let held = held.position(|(own, _)| Arc::ptr_eq(own, &node));
        let held = held.map(|index| self.held.swap_remove(index).1);
        let usable = held.and_then(|mut own| own.is_usable().then_some(own));
        let opened = match usable {
            Some(connection) => Ok(connection),
            None => node.connect(config, self.deadline),
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                let calls = calls.iter().map(|call| call.index);
                return self
                    .exchange
                    .unreachable(calls, &self.shared.topology, &error);
            }
        };
        let output = connection.clear_output();
        let mut starts = Vec::with_capacity(calls.len());
        for call in &calls {
            starts.push(output.len());
            if call.asking {
                Call::new("ASKING").write(false, output);
            }
            self.exchange
                .call(call.index)
                .write(call.send_source, output);
        }
        let result = connection.send(self.deadline);
        let written = result
            .as_ref()
            .map_or_else(|failure| failure.written, |()| usize::MAX);
        for (call, start) in calls.iter().zip(starts) {
            if start < written {
                self.exchange.wrote(call.index);
            }
        }
        match result {
            Ok(()) => self.sent.push_back((node, connection, calls)),
            Err(failure) => self.lost(&node, &calls, &failure.cause),
        }
    }

    /// Receives the replies of a server. After a failure, a connection with replies that are no longer wanted is dropped.
    fn receive(&mut self, node: Arc<Node>, mut connection: Connection, calls: &[Outgoing]) {
        let asking = calls.iter().filter(|call| call.asking).count();
        match connection.receive(calls.len() + asking, self.deadline) {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for call in calls {
                    let reply = replies.by_ref().nth(usize::from(call.asking));
                    if let Some(reply) = reply {
                        self.exchange
                            .reply(call.index, reply, &self.shared.topology);
                    }
                }
                self.held.push((node, connection));
            }
            Err(cause) => self.lost(&node, calls, &cause),
        }
    }

    /// The connection to a server broke, or was given up.
    fn lost(&mut self, node: &Node, calls: &[Outgoing], cause: &TransportError) {
        if let TransportError::Stopped(stop) = cause {
            if matches!(stop, Stop::Timeout(_)) {
                self.shared.topology.suspect(node);
            }
            // All calls are stopped.
            return;
        }
        let again = matches!(cause, TransportError::Broken(_));
        let calls = calls.iter().map(|call| call.index);
        let error = |outcome| cause.error(&node.address, outcome);
        self.exchange
            .broken(calls, again, &self.shared.topology, error);
    }
}
