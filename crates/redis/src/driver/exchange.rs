//! Sends calls to their servers and waits for the replies, on the calling thread.

use std::sync::Arc;

use mintkey_runtime::{Deadline, Stop, pause};
use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::driver::call_state::{
    CallState, MAX_REDIRECTS, MAX_TRIES, outcome, unsent, use_busy_replies,
};
use crate::driver::shared::Shared;
use crate::protocol::channel::Replies;
use crate::protocol::replies::{RETRY_DELAY, is_busy, is_out_of_step};
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::{Connection, TransportError};
use crate::transport::node::Node;

/// The connections that one request uses.
pub type HeldConnections = Vec<(Arc<Node>, Connection)>;

/// Sends calls and waits for the replies.
pub fn exchange(
    shared: &Shared,
    calls: &[Call],
    held: &mut HeldConnections,
    deadline: &mut Deadline,
) -> Replies {
    Exchange::new(shared, calls, held, deadline).run()
}

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

/// The calls for one server.
struct NodeCalls {
    node: Arc<Node>,
    /// Their indexes.
    calls: Vec<usize>,
    /// The connection that they were sent over.
    connection: Option<Connection>,
}

/// One exchange of calls for replies.
struct Exchange<'a> {
    shared: &'a Shared,
    held: &'a mut HeldConnections,
    calls: &'a [Call],
    deadline: &'a mut Deadline,
    progress: Progress,
}

/// The state of an exchange.
#[derive(Default)]
struct Progress {
    states: Vec<CallState>,
    /// The version of the routes when the calls were sent.
    routes_version: u64,
    /// The failure of a connection in this round, and its server.
    failure: Option<(TransportError, Arc<Node>)>,
    /// The error to report if no server of the Cluster can be reached in time.
    last_error: Option<Error>,
    /// Whether to wait before the next round.
    must_wait: bool,
}

impl<'a> Exchange<'a> {
    fn new(
        shared: &'a Shared,
        calls: &'a [Call],
        held: &'a mut HeldConnections,
        deadline: &'a mut Deadline,
    ) -> Self {
        Self {
            shared,
            held,
            calls,
            deadline,
            progress: Progress {
                states: calls.iter().map(|_| CallState::default()).collect(),
                ..Progress::default()
            },
        }
    }

    /// Sends the calls until each has a final reply, or until one has an unknown outcome and may not be sent again.
    fn run(mut self) -> Replies {
        // If all replies come soon, nothing else checks the deadline.
        self.deadline
            .check()
            .map_err(|stop| self.stopped(stop, Outcome::NotApplied))?;
        let topology = &self.shared.topology;
        let (mut round, mut tries) = (0, 0);
        loop {
            let groups = self.send_all()?;
            if groups.is_empty() && !self.progress.must_wait {
                let states = self.progress.states.into_iter();
                return Ok(states.filter_map(CallState::into_final_reply).collect());
            }
            for group in groups {
                self.receive(group);
            }
            if let Some((cause, node)) = self.progress.failure.take() {
                tries += 1;
                let error = self.failed(cause, &node, tries)?;
                self.progress.must_wait |= topology.is_cluster() && tries > 1;
                self.progress.last_error = Some(error);
            }
            round += 1;
            if self.progress.must_wait || round > MAX_REDIRECTS {
                self.wait()?;
            }
        }
    }

    fn stopped(&self, stop: Stop, outcome: Outcome) -> Error {
        let address = &self.shared.context.config.address;
        stop.error(address, "waiting for a reply", outcome)
    }

    /// Sends the calls that have no final reply, without waiting for replies.
    fn send_all(&mut self) -> Result<Vec<NodeCalls>> {
        let topology = &self.shared.topology;
        topology
            .ensure_slots(&self.shared.context.config, self.deadline)
            .map_err(|error| self.unsent(error))?;
        self.progress.routes_version = topology.version();
        (self.progress.last_error, self.progress.must_wait) = (None, false);
        let mut groups = self.groups();
        for group in &mut groups {
            self.send(group)?;
        }
        Ok(groups)
    }

    /// The calls without a final reply, by server.
    fn groups(&mut self) -> Vec<NodeCalls> {
        let mut groups: Vec<NodeCalls> = Vec::new();
        for (index, state) in self.progress.states.iter().enumerate() {
            if state.value.is_some() {
                continue;
            }
            let topology = &self.shared.topology;
            let node = state.asking.clone();
            let Some(node) = node.or_else(|| topology.node_of(self.calls[index].slot_group)) else {
                self.progress.last_error = Some(topology.no_server_error());
                self.progress.must_wait = true;
                continue;
            };
            match groups
                .iter_mut()
                .find(|group| Arc::ptr_eq(&group.node, &node))
            {
                Some(group) => group.calls.push(index),
                None => groups.push(NodeCalls {
                    node,
                    calls: vec![index],
                    connection: None,
                }),
            }
        }
        groups
    }

    /// Sends the calls for one server, without waiting for replies.
    fn send(&mut self, group: &mut NodeCalls) -> Result<()> {
        if self.progress.failure.is_some() {
            return Ok(());
        }
        let held = self
            .held
            .iter()
            .position(|(node, _)| Arc::ptr_eq(node, &group.node));
        let config = &self.shared.context.config;
        let held = held.map(|index| self.held.swap_remove(index).1);
        let usable = held.and_then(|mut own| own.is_usable().then_some(own));
        let connection = match usable {
            Some(connection) => Ok(connection),
            None => group.node.connect(config, self.deadline, true),
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                let is_unavailable = matches!(error.kind, ErrorKind::Unavailable(_));
                let error = self.unsent(error);
                if is_unavailable
                    && self.shared.topology.is_cluster()
                    && !self.deadline.has_forked()
                {
                    self.progress.last_error = Some(error);
                    self.progress.must_wait = true;
                    return Ok(());
                }
                return Err(error);
            }
        };
        let output = connection.clear_output();
        for index in &group.calls {
            let state = &self.progress.states[*index];
            if state.asking.is_some() {
                Call::new("ASKING").write(false, output);
            }
            self.calls[*index].write(state.send_source, output);
        }
        let sent = connection.send(self.deadline);
        for index in &group.calls {
            self.progress.states[*index].sent = true;
        }
        match sent {
            Ok(()) => group.connection = Some(connection),
            Err(failure) => {
                self.connection_lost(group, failure.sent);
                self.progress.failure = Some((failure.cause, Arc::clone(&group.node)));
            }
        }
        Ok(())
    }

    /// The connection to one server broke.
    fn connection_lost(&mut self, group: &NodeCalls, reached: bool) {
        for index in &group.calls {
            self.progress.states[*index].connection_lost(reached);
        }
    }

    fn unsent(&self, error: Error) -> Error {
        unsent(error, outcome(self.calls, &self.progress.states))
    }

    /// Receives the replies of one server. A connection with replies that are no longer wanted is dropped.
    fn receive(&mut self, mut group: NodeCalls) {
        let Some(mut connection) = group.connection.take() else {
            return;
        };
        if matches!(
            &self.progress.failure,
            Some((TransportError::Stopped(_), _))
        ) {
            return;
        }
        let states = &self.progress.states;
        let asking = group
            .calls
            .iter()
            .filter(|index| states[**index].asking.is_some());
        let count = group.calls.len() + asking.count();
        let values = match connection.receive(count, self.deadline) {
            Ok(values) => values,
            Err(failure) => {
                self.connection_lost(&group, failure.sent);
                self.progress.failure = Some((failure.cause, group.node));
                return;
            }
        };
        let mut values = values.into_iter();
        for index in group.calls {
            let state = &mut self.progress.states[index];
            let asking = state.asking.is_some().then(|| Arc::clone(&group.node));
            if asking.is_some() {
                values.next();
            }
            let value = values.next().unwrap_or(Value::Nil);
            let topology = &self.shared.topology;
            let action = topology.classify_reply(&self.calls[index], value, &group.node, asking);
            self.progress.must_wait |= !state.apply(action);
        }
        self.held.push((group.node, connection));
    }

    /// Handles a failed connection. Returns the error to report if sending the calls again fails too. Fails if they may not
    /// be sent again.
    fn failed(&self, cause: TransportError, node: &Node, tries: usize) -> Result<Error> {
        if matches!(cause, TransportError::Stopped(Stop::Timeout(_))) {
            self.shared.topology.suspect(node);
        }
        let mut calls = self.calls.iter().zip(&self.progress.states);
        let uncertain =
            calls.any(|(call, state)| state.uncertain && state.value.is_none() && !call.repeatable);
        let send_again = matches!(cause, TransportError::Broken(_))
            && !uncertain
            && (self.shared.topology.is_cluster() || tries < MAX_TRIES);
        let error = cause.error(&node.address, outcome(self.calls, &self.progress.states));
        if send_again { Ok(error) } else { Err(error) }
    }

    /// Waits before the next round, and refreshes the slots of a Cluster if needed.
    fn wait(&mut self) -> Result<()> {
        if let Err(stop) = self.deadline.check() {
            let stopped = self.stopped(stop, outcome(self.calls, &self.progress.states));
            if !matches!(stop, Stop::Timeout(_)) {
                return Err(stopped);
            }
            if let Some(error) = self.progress.last_error.take() {
                return Err(self.unsent(error));
            }
            return if use_busy_replies(&mut self.progress.states) {
                Ok(())
            } else {
                Err(stopped)
            };
        }
        pause(RETRY_DELAY);
        let topology = &self.shared.topology;
        let is_down = self.progress.states.iter().any(CallState::is_cluster_down);
        if topology.is_cluster() && (self.progress.last_error.is_some() || is_down) {
            let config = &self.shared.context.config;
            match topology.refresh_slots(config, self.progress.routes_version, self.deadline) {
                Err(error) if !is_busy(&error) => return Err(self.unsent(error)),
                _ => {}
            }
        }
        Ok(())
    }
}
