//! Sends calls to their servers and waits for the replies, on the calling thread.

use std::sync::Arc;

use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::driver::call_state::{DETOURS, Leg, TRIES, outcome, refused, unsent};
use crate::driver::shared::Shared;
use crate::protocol::channel::Answer;
use crate::protocol::replies::is_busy;
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::{Cause, Connection};
use crate::transport::deadline::{RESPITE, Stop, Watch, pause};
use crate::transport::topology::Node;

/// The connections that one request uses.
pub type Held = Vec<(Arc<Node>, Connection)>;

/// Sends calls and waits for their answers.
pub fn exchange(shared: &Shared, calls: &[Call], held: &mut Held, watch: &mut Watch) -> Answer {
    Exchange::new(shared, calls, held, watch).run()
}

/// Sends calls for the first time, and waits for nothing; gives what waits for their answers.
pub fn dispatch(
    shared: &Shared,
    calls: &[Call],
    held: &mut Held,
    watch: &mut Watch,
) -> Result<Dispatched> {
    let mut exchange = Exchange::new(shared, calls, held, watch);
    exchange.look()?;
    let groups = exchange.send_all()?;
    Ok(Dispatched {
        groups,
        progress: exchange.progress,
    })
}

/// Waits for the answers to calls that were sent.
pub fn collect(
    shared: &Shared,
    calls: &[Call],
    sent: Dispatched,
    held: &mut Held,
    watch: &mut Watch,
) -> Answer {
    let mut exchange = Exchange::new(shared, calls, held, watch);
    exchange.progress = sent.progress;
    exchange.run_from(Some(sent.groups))
}

/// Keeps connections for the next call.
pub fn keep(shared: &Shared, held: Held) {
    if !shared.is_closed() {
        for (node, connection) in held {
            shared.nodes.keep(&node, connection);
        }
    }
}

/// The calls that go to one server together.
struct Group {
    node: Arc<Node>,
    /// Their places.
    calls: Vec<usize>,
    /// The connection that waits for their answers.
    connection: Option<Connection>,
}

/// Calls that were sent, and wait for their answers.
pub struct Dispatched {
    groups: Vec<Group>,
    progress: Progress,
}

/// Calls of an operation on their way to servers and back.
struct Exchange<'a> {
    shared: &'a Shared,
    held: &'a mut Held,
    calls: &'a [Call],
    watch: &'a mut Watch,
    progress: Progress,
}

/// How far calls have come.
#[derive(Default)]
struct Progress {
    legs: Vec<Leg>,
    /// What was known of the Cluster's routes when they were sent.
    version: u64,
    /// How a connection failed in this round, and whose it was.
    failure: Option<(Cause, Arc<Node>)>,
    /// What is told if a server of the Cluster stays away: the Cluster may know another.
    trouble: Option<Error>,
    /// Whether the next round comes after a respite.
    waits: bool,
}

impl<'a> Exchange<'a> {
    fn new(
        shared: &'a Shared,
        calls: &'a [Call],
        held: &'a mut Held,
        watch: &'a mut Watch,
    ) -> Self {
        Self {
            shared,
            held,
            calls,
            watch,
            progress: Progress {
                legs: calls.iter().map(|_| Leg::default()).collect(),
                ..Progress::default()
            },
        }
    }

    /// Sends the calls until all are answered, or until it cannot be known whether they were carried out.
    fn run(mut self) -> Answer {
        self.look()?;
        self.run_from(None)
    }

    /// Looks whether to begin at all: answers that come soon would never let it be looked at.
    fn look(&mut self) -> Result<()> {
        self.watch
            .look()
            .map_err(|stop| stop.error(Outcome::NotApplied))
    }

    /// As `run`; those of the first round may have been sent before.
    fn run_from(mut self, mut sent: Option<Vec<Group>>) -> Answer {
        let nodes = &self.shared.nodes;
        let (mut round, mut tries) = (0, 0);
        loop {
            let groups = match sent.take() {
                Some(groups) => groups,
                None => self.send_all()?,
            };
            if groups.is_empty() && !self.progress.waits {
                let legs = self.progress.legs.into_iter();
                return Ok(legs.filter_map(Leg::answered).collect());
            }
            for group in groups {
                self.receive(group);
            }
            if let Some((cause, node)) = self.progress.failure.take() {
                tries += 1;
                let error = self.failed(cause, &node, tries)?;
                self.progress.waits |= nodes.are_cluster() && tries > 1;
                self.progress.trouble = Some(error);
            }
            round += 1;
            if self.progress.waits || round > DETOURS {
                self.wait()?;
            }
        }
    }

    /// Sends the calls that have no answer yet, and does not wait for any.
    fn send_all(&mut self) -> Result<Vec<Group>> {
        let nodes = &self.shared.nodes;
        nodes
            .prepare(&self.shared.engine.config, self.watch, true)
            .map_err(|error| self.unsent(error))?;
        self.progress.version = nodes.version();
        (self.progress.trouble, self.progress.waits) = (None, false);
        let mut groups = self.groups();
        for group in &mut groups {
            self.send(group)?;
        }
        Ok(groups)
    }

    /// The calls without an answer, by server.
    fn groups(&mut self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, leg) in self.progress.legs.iter().enumerate() {
            if leg.value.is_some() {
                continue;
            }
            let nodes = &self.shared.nodes;
            let node = leg.asking.clone();
            let Some(node) = node.or_else(|| nodes.of(self.calls[place].bucket)) else {
                self.progress.trouble = Some(nodes.nobody());
                self.progress.waits = true;
                continue;
            };
            match groups
                .iter_mut()
                .find(|group| Arc::ptr_eq(&group.node, &node))
            {
                Some(group) => group.calls.push(place),
                None => groups.push(Group {
                    node,
                    calls: vec![place],
                    connection: None,
                }),
            }
        }
        groups
    }

    /// Sends a group's calls, and does not wait for the answers.
    fn send(&mut self, group: &mut Group) -> Result<()> {
        if self.progress.failure.is_some() {
            return Ok(());
        }
        let own = self
            .held
            .iter()
            .position(|(node, _)| Arc::ptr_eq(node, &group.node));
        let config = &self.shared.engine.config;
        let connection = match own {
            Some(place) => Ok(self.held.swap_remove(place).1),
            None => group.node.connect(config, self.watch, true),
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                let passes = matches!(error.kind, ErrorKind::Unavailable(_));
                let error = self.unsent(error);
                if passes && self.shared.nodes.are_cluster() {
                    self.progress.trouble = Some(error);
                    self.progress.waits = true;
                    return Ok(());
                }
                return Err(error);
            }
        };
        let out = connection.fresh_out();
        for place in &group.calls {
            let leg = &self.progress.legs[*place];
            if leg.asking.is_some() {
                Call::new("ASKING").write(false, out);
            }
            self.calls[*place].write(leg.whole, out);
        }
        let sent = connection.send(self.watch);
        for place in &group.calls {
            self.progress.legs[*place].sent = true;
        }
        match sent {
            Ok(()) => group.connection = Some(connection),
            Err(failure) => {
                self.lose(group, failure.sent);
                self.progress.failure = Some((failure.cause, Arc::clone(&group.node)));
            }
        }
        Ok(())
    }

    /// The connection of a group is gone.
    fn lose(&mut self, group: &Group, reached: bool) {
        for place in &group.calls {
            self.progress.legs[*place].lose(reached);
        }
    }

    fn unsent(&self, error: Error) -> Error {
        unsent(error, outcome(self.calls, &self.progress.legs))
    }

    /// Takes in the answers to a group's calls. A connection whose answers nobody waits for is dropped.
    fn receive(&mut self, mut group: Group) {
        let Some(mut connection) = group.connection.take() else {
            return;
        };
        if matches!(&self.progress.failure, Some((Cause::Stopped(_), _))) {
            return;
        }
        let legs = &self.progress.legs;
        let asking = group
            .calls
            .iter()
            .filter(|place| legs[**place].asking.is_some());
        let many = group.calls.len() + asking.count();
        let values = match connection.receive(many, self.watch) {
            Ok(values) => values,
            Err(failure) => {
                self.lose(&group, failure.sent);
                self.progress.failure = Some((failure.cause, group.node));
                return;
            }
        };
        let mut values = values.into_iter();
        for place in group.calls {
            let leg = &mut self.progress.legs[place];
            let asking = leg.asking.is_some().then(|| Arc::clone(&group.node));
            if asking.is_some() {
                values.next();
            }
            let value = values.next().unwrap_or(Value::Nil);
            let nodes = &self.shared.nodes;
            let verdict = nodes.judge(&self.calls[place], value, &group.node, asking);
            self.progress.waits |= !leg.take_in(verdict);
        }
        self.held.push((group.node, connection));
    }

    /// What is told of a connection that failed if the calls are sent again in vain; an error if they
    /// must not be.
    fn failed(&self, cause: Cause, node: &Node, tries: usize) -> Result<Error> {
        if matches!(cause, Cause::Stopped(Stop::Late(_))) {
            self.shared.nodes.doubt(node);
        }
        let mut calls = self.calls.iter().zip(&self.progress.legs);
        let doubtful =
            calls.any(|(call, leg)| leg.doubt && leg.value.is_none() && !call.repeatable);
        let again = matches!(cause, Cause::Broken(_))
            && !doubtful
            && (self.shared.nodes.are_cluster() || tries < TRIES);
        let error = cause.error(&node.address, outcome(self.calls, &self.progress.legs));
        if again { Ok(error) } else { Err(error) }
    }

    /// Waits a little, and asks the Cluster anew where its slots are.
    fn wait(&mut self) -> Result<()> {
        if let Err(stop) = self.watch.look() {
            if !matches!(stop, Stop::Late(_)) {
                return Err(stop.error(outcome(self.calls, &self.progress.legs)));
            }
            if let Some(error) = self.progress.trouble.take() {
                return Err(self.unsent(error));
            }
            return if refused(&mut self.progress.legs) {
                Ok(())
            } else {
                Err(stop.error(outcome(self.calls, &self.progress.legs)))
            };
        }
        pause(RESPITE);
        let nodes = &self.shared.nodes;
        let down = self.progress.legs.iter().any(Leg::is_down);
        if nodes.are_cluster() && (self.progress.trouble.is_some() || down) {
            let config = &self.shared.engine.config;
            match nodes.learn(config, self.progress.version, self.watch) {
                Err(error) if !is_busy(&error) => return Err(self.unsent(error)),
                _ => {}
            }
        }
        Ok(())
    }
}
