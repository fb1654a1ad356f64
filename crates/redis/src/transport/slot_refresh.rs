//! Asks servers of a Cluster which server has which slots (`CLUSTER SLOTS`), without blocking, step by step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use std::vec;

use mintkey_runtime::Stop;
use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::config::{Config, Endpoint};
use crate::protocol::replies::{RETRY_DELAY, handshake_error, is_busy};
use crate::protocol::resp::{Call, Value};
use crate::transport::connecting::Connecting;
use crate::transport::connection::{Connection, RoundTrip};
use crate::transport::lookup::Lookups;
use crate::transport::node::{NODE_TIMEOUT, Node};
use crate::transport::stream::Wait;
use crate::transport::topology::{Topology, routes};

/// A request for the slots.
pub struct SlotRefresh {
    /// The servers that were not asked yet.
    candidates: vec::IntoIter<Arc<Node>>,
    attempt: Option<Attempt>,
    /// Why the servers that were asked so far failed.
    last_error: Option<Error>,
}

/// The server that is asked.
struct Attempt {
    node: Arc<Node>,
    /// When another one is asked.
    end: Instant,
    step: Step,
}

enum Step {
    Connect(Connecting),
    Ask(Connection, RoundTrip),
}

impl SlotRefresh {
    /// Nothing is sent yet.
    pub fn new(topology: &Topology) -> Self {
        Self {
            candidates: topology.candidates().into_iter(),
            attempt: None,
            last_error: None,
        }
    }

    /// Goes as far as possible without blocking, and sets the routes. Returns the result when it has ended.
    pub fn advance(
        &mut self,
        topology: &Topology,
        config: &Config,
        lookups: Option<&Lookups>,
    ) -> Option<Result<()>> {
        loop {
            let Some(attempt) = &mut self.attempt else {
                let Some(node) = self.candidates.next() else {
                    let none = || Error::configuration("this Redis address has no server");
                    return Some(Err(self.last_error.take().unwrap_or_else(none)));
                };
                self.attempt = Some(Attempt::new(node));
                continue;
            };
            let result = match attempt.advance(config, lookups) {
                Ok(None) if Instant::now() < attempt.end => return None,
                Ok(None) => Err(attempt.node.no_answer_error()),
                Ok(Some(endpoints)) => Ok(endpoints),
                Err(error) => Err(error),
            };
            attempt
                .node
                .is_unresponsive
                .store(result.is_err(), Ordering::Relaxed);
            self.attempt = None;
            match result {
                Ok(endpoints) => {
                    topology.set_all_routes(&endpoints);
                    return Some(Ok(()));
                }
                Err(error) if !matches!(error.kind, ErrorKind::Unavailable(_)) => {
                    return Some(Err(error));
                }
                Err(error) => {
                    if is_busy(&error) || !self.last_error.as_ref().is_some_and(is_busy) {
                        self.last_error = Some(error);
                    }
                }
            }
        }
    }

    /// What to wait for before the next step.
    pub fn wait(&self) -> Wait<'_> {
        match &self.attempt {
            Some(attempt) => match &attempt.step {
                Step::Connect(connecting) => connecting.wait(),
                Step::Ask(connection, round_trip) => round_trip.wait(connection),
            },
            None => Wait::Time(RETRY_DELAY),
        }
    }

    /// When the time of the server that is asked is over.
    pub fn end(&self) -> Option<Instant> {
        self.attempt.as_ref().map(|attempt| attempt.end)
    }

    /// The error if it is given up now.
    pub fn stopped(&self, stop: Stop, address: &str) -> Error {
        match &self.attempt {
            Some(Attempt {
                step: Step::Connect(connecting),
                ..
            }) => connecting.stopped(stop),
            _ => stop.error(address, "asking for the slots", Outcome::NotApplied),
        }
    }
}

impl Attempt {
    fn new(node: Arc<Node>) -> Self {
        let step = match node.take_idle() {
            Some(connection) => Step::ask(connection),
            None => Step::Connect(Connecting::new(&node)),
        };
        Self {
            node,
            end: Instant::now() + NODE_TIMEOUT,
            step,
        }
    }

    /// The endpoints of the slot groups, when the server has returned them.
    fn advance(
        &mut self,
        config: &Config,
        lookups: Option<&Lookups>,
    ) -> Result<Option<Vec<Option<Endpoint>>>> {
        if let Step::Connect(connecting) = &mut self.step {
            match connecting.advance(config, lookups)? {
                Some(connection) => self.step = Step::ask(connection),
                None => return Ok(None),
            }
        }
        let Step::Ask(connection, round_trip) = &mut self.step else {
            return Ok(None);
        };
        let address = &self.node.address;
        let has_reply = connection
            .advance(round_trip)
            .map_err(|cause| cause.error(address, Outcome::NotApplied))?;
        if !has_reply {
            return Ok(None);
        }
        let again = Step::Connect(Connecting::new(&self.node));
        let Step::Ask(connection, round_trip) = std::mem::replace(&mut self.step, again) else {
            return Ok(None);
        };
        let reply = round_trip.into_replies().pop().unwrap_or(Value::Nil);
        let endpoints = endpoints(&reply, &self.node);
        let in_sync = endpoints.as_ref().map_or_else(is_busy, |_| true);
        if in_sync {
            self.node.keep(connection);
        }
        endpoints.map(Some)
    }
}

impl Step {
    fn ask(mut connection: Connection) -> Self {
        let call = Call::new("CLUSTER").arg("SLOTS");
        let round_trip = RoundTrip::new(&mut connection, &[call]);
        Self::Ask(connection, round_trip)
    }
}

fn endpoints(reply: &Value, node: &Node) -> Result<Vec<Option<Endpoint>>> {
    let address = &node.address;
    if let Value::Error(text) = reply {
        return Err(handshake_error(address, text));
    }
    routes(reply, &node.endpoint).ok_or_else(|| {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!("{address} sent a reply to CLUSTER SLOTS that Redis does not send"),
        )
    })
}
