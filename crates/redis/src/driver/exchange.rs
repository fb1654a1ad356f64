//! The exchange of calls for replies: where calls are sent, which are sent again, and what is known of their outcomes.
//!
//! It is a state machine without sockets, locks or clock. A driver does what [`Exchange::next`] returns, and reports what
//! happened. Each call has its own outcome: it is uncertain once its first byte may have left and its connection broke, and
//! only a final reply ends that.

use std::collections::VecDeque;
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::protocol::channel::{FinalReply, Replies};
use crate::protocol::replies::{RETRY_DELAY, is_busy};
use crate::protocol::resp::{Call, Value};
use crate::transport::topology::{ReplyAction, Routes};

/// The attempts to send a repeatable call to a single server, each over a new connection.
const MAX_TRIES: usize = 3;
/// The redirects of a call that are followed without a delay.
const MAX_REDIRECTS: usize = 5;

/// What the driver must do next.
#[derive(Debug, PartialEq)]
pub enum Step<N> {
    /// Send calls to a server, then report `wrote`, `unreachable` or `broken`, and each `reply`.
    Send(N, Vec<Outgoing>),
    /// Request the slots, then report `slots_refreshed`.
    RefreshSlots,
    /// Report `tick` after this time.
    Wait(Duration),
}

/// A call to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outgoing {
    pub index: usize,
    /// Whether to send ASKING before it. The server replies to that too.
    pub asking: bool,
    /// Whether to send the source of its script.
    pub send_source: bool,
}

/// Where a call is.
enum Stage<N> {
    /// It must be sent.
    Ready,
    /// It was handed to the driver for this server.
    Sent {
        node: N,
        asking: bool,
        /// Whether its first byte may have left.
        reached: bool,
    },
    /// It is sent again after the delay.
    Paused,
    /// It has ended.
    Done(Result<FinalReply>),
}

/// A call, and what is known of it.
struct CallState<N> {
    call: Call,
    stage: Stage<N>,
    /// Whether an earlier attempt may have reached the server, which gave no reply.
    uncertain: bool,
    /// The connections that broke while it was sent.
    tries: usize,
    send_source: bool,
    /// The server to send it to once, after ASKING.
    asking: Option<N>,
    /// The redirects that it followed.
    redirects: usize,
    /// How often it was sent. Sending it again with the source of its script does not count.
    sends: u32,
    /// The last reply of a server that could not carry it out at the moment.
    busy_reply: Option<Value>,
    /// The error to report if it cannot be sent in time.
    last_error: Option<Error>,
}

impl<N> CallState<N> {
    /// What is known if it ends without a reply.
    fn outcome(&self) -> Outcome {
        let reached = matches!(self.stage, Stage::Sent { reached: true, .. });
        if self.call.writes && (self.uncertain || reached) {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        }
    }

    fn finish(&mut self, value: Value) {
        let sent_before = self.uncertain;
        self.stage = Stage::Done(Ok(FinalReply { value, sent_before }));
    }

    fn fail(&mut self, error: Error) {
        self.stage = Stage::Done(Err(match self.outcome() {
            Outcome::NotApplied => error,
            Outcome::Unknown => error.uncertain(),
        }));
    }

    const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }
}

/// One exchange.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says what one event must do next"
)]
pub struct Exchange<N> {
    states: Vec<CallState<N>>,
    /// The calls that have not ended.
    missing: usize,
    /// What the driver must do before new steps are looked for.
    steps: VecDeque<Step<N>>,
    /// The version of the routes when calls were last sent.
    routes_version: u64,
    /// Whether the driver was asked to report `tick`.
    is_waiting: bool,
    /// Whether the driver requests the slots; calls are sent afterwards.
    is_refreshing_slots: bool,
    /// Whether the slots must be requested because calls failed with the known ones.
    must_refresh_slots: bool,
    /// Whether the known routes are used although the slots should be requested: that has failed.
    keeps_routes: bool,
}

impl<N: Clone + PartialEq> Exchange<N> {
    /// The exchange of these calls. Nothing is sent yet.
    pub fn new(calls: Vec<Call>) -> Self {
        // One wait for all calls of an exchange.
        let delay = calls.iter().map(|call| call.delay).max();
        let delay = delay.filter(|delay| !delay.is_zero());
        let state = |call: Call| CallState {
            stage: if call.delay.is_zero() {
                Stage::Ready
            } else {
                Stage::Paused
            },
            call,
            uncertain: false,
            tries: 0,
            send_source: false,
            asking: None,
            redirects: 0,
            sends: 0,
            busy_reply: None,
            last_error: None,
        };
        let states: Vec<CallState<N>> = calls.into_iter().map(state).collect();
        Self {
            missing: states.len(),
            states,
            steps: delay.map(Step::Wait).into_iter().collect(),
            routes_version: 0,
            is_waiting: delay.is_some(),
            is_refreshing_slots: false,
            must_refresh_slots: false,
            keeps_routes: false,
        }
    }

    pub fn call(&self, index: usize) -> &Call {
        &self.states[index].call
    }

    /// Whether each call has a final reply or an error.
    pub const fn is_done(&self) -> bool {
        self.missing == 0
    }

    /// How often each call was sent again.
    pub fn retries(&self) -> Vec<u32> {
        let states = self.states.iter();
        states.map(|state| state.sends.saturating_sub(1)).collect()
    }

    /// The final reply to each call, or its error.
    pub fn into_replies(self) -> Replies {
        let replies = self.states.into_iter().map(|state| match state.stage {
            Stage::Done(reply) => reply,
            // Not reached: the driver takes the replies when all calls have ended.
            _ => Err(Error::configuration("the exchange has not ended")),
        });
        replies.collect()
    }

    /// What the driver must do next; `None`: wait for events.
    pub fn next(&mut self, routes: &impl Routes<N>) -> Option<Step<N>> {
        if self.steps.is_empty() && !self.is_refreshing_slots {
            self.route(routes);
        }
        self.steps.pop_front()
    }

    /// Looks for the servers of the calls that must be sent.
    fn route(&mut self, routes: &impl Routes<N>) {
        if !self.states.iter().any(CallState::is_ready) {
            return;
        }
        // Another request may have brought newer routes.
        self.must_refresh_slots &= routes.is_cluster() && self.routes_version == routes.version();
        if self.must_refresh_slots || routes.needs_slots() && !self.keeps_routes {
            self.is_refreshing_slots = true;
            return self.steps.push_back(Step::RefreshSlots);
        }
        self.keeps_routes = false;
        self.routes_version = routes.version();
        let mut groups: Vec<(N, Vec<Outgoing>)> = Vec::new();
        for index in 0..self.states.len() {
            let state = &mut self.states[index];
            if !state.is_ready() {
                continue;
            }
            let asking = state.asking.take();
            let node = asking.clone();
            let Some(node) = node.or_else(|| routes.node_of(state.call.slot_group)) else {
                state.last_error = Some(routes.no_server_error());
                self.pause(index, true);
                continue;
            };
            state.sends += 1;
            let outgoing = Outgoing {
                index,
                asking: asking.is_some(),
                send_source: state.send_source,
            };
            state.stage = Stage::Sent {
                node: node.clone(),
                asking: asking.is_some(),
                reached: false,
            };
            match groups.iter_mut().find(|(own, _)| *own == node) {
                Some((_, calls)) => calls.push(outgoing),
                None => groups.push((node, vec![outgoing])),
            }
        }
        let groups = groups.into_iter();
        self.steps
            .extend(groups.map(|(node, calls)| Step::Send(node, calls)));
    }

    /// Sends a call again after a delay, if `refresh_slots` is set with new routes.
    fn pause(&mut self, index: usize, refresh_slots: bool) {
        self.states[index].stage = Stage::Paused;
        self.must_refresh_slots |= refresh_slots;
        if !self.is_waiting {
            self.is_waiting = true;
            self.steps.push_back(Step::Wait(RETRY_DELAY));
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.states[index].fail(error);
        self.missing -= 1;
    }

    /// Ends a call. When there is no more time, the last reply of a server that could not carry it out is its final reply,
    /// and the last error says more than that the time is over: unless it is a write that was sent again after it.
    fn give_up(&mut self, index: usize, error: Error) {
        let state = &mut self.states[index];
        let is_sent = matches!(state.stage, Stage::Sent { reached: true, .. });
        if matches!(error.kind, ErrorKind::Timeout(_)) && !(is_sent && state.call.writes) {
            if let Some(error) = state.last_error.take() {
                return self.fail(index, error);
            }
            if let Some(value) = state.busy_reply.take() {
                state.finish(value);
                self.missing -= 1;
                return;
            }
        }
        self.fail(index, error);
    }

    /// The first byte of a call may have left.
    pub fn wrote(&mut self, index: usize) {
        if let Stage::Sent { reached, .. } = &mut self.states[index].stage {
            *reached = true;
        }
    }

    /// The reply to a call came.
    pub fn reply(&mut self, index: usize, value: Value, routes: &impl Routes<N>) {
        let state = &mut self.states[index];
        let Stage::Sent { node, asking, .. } = &state.stage else {
            return;
        };
        let (node, asked) = (node.clone(), asking.then(|| node.clone()));
        state.stage = Stage::Ready;
        state.last_error = None;
        match routes.classify_reply(&state.call, value, &node, asked) {
            ReplyAction::Final(value) => {
                state.finish(value);
                self.missing -= 1;
                return;
            }
            ReplyAction::RetryLater(value) => {
                let is_down =
                    matches!(&value, Value::Error(text) if text.starts_with("CLUSTERDOWN"));
                state.busy_reply = Some(value);
                return self.pause(index, is_down);
            }
            ReplyAction::SendSource(asking) => {
                (state.send_source, state.asking) = (true, asking);
                state.sends = state.sends.saturating_sub(1);
            }
            ReplyAction::Ask(node) => state.asking = Some(node),
            ReplyAction::Moved => {}
        }
        state.redirects += 1;
        if state.redirects > MAX_REDIRECTS {
            self.pause(index, false);
        }
    }

    /// The connection over which these calls were sent broke. With `again` they may be sent again.
    pub fn broken(
        &mut self,
        calls: impl IntoIterator<Item = usize>,
        again: bool,
        routes: &impl Routes<N>,
        error: impl Fn(Outcome) -> Error,
    ) {
        for index in calls {
            let state = &mut self.states[index];
            let Stage::Sent { reached, .. } = state.stage else {
                continue;
            };
            state.uncertain |= reached;
            state.tries += 1;
            let may_repeat = !state.uncertain || state.call.repeatable;
            let error = error(state.outcome());
            if !again || !may_repeat || !routes.is_cluster() && state.tries >= MAX_TRIES {
                self.fail(index, error);
                continue;
            }
            state.last_error = Some(error);
            state.stage = Stage::Ready;
            if routes.is_cluster() && state.tries > 1 {
                self.pause(index, true);
            }
        }
    }

    /// The server of these calls could not be connected to. Nothing was sent.
    pub fn unreachable(
        &mut self,
        calls: impl IntoIterator<Item = usize>,
        routes: &impl Routes<N>,
        error: &Error,
    ) {
        let is_unavailable = matches!(error.kind, ErrorKind::Unavailable(_));
        for index in calls {
            let state = &mut self.states[index];
            if !matches!(state.stage, Stage::Sent { .. }) {
                continue;
            }
            state.stage = Stage::Ready;
            if is_busy(error) || routes.is_cluster() && is_unavailable {
                state.last_error = Some(error.for_another());
                self.pause(index, true);
            } else {
                self.give_up(index, error.for_another());
            }
        }
    }

    /// The slots were requested.
    pub fn slots_refreshed(&mut self, result: Result<()>, routes: &impl Routes<N>) {
        let after_failure = std::mem::take(&mut self.must_refresh_slots);
        self.is_refreshing_slots = false;
        let Err(error) = result else {
            return;
        };
        let is_known = routes.version() > 0;
        let is_unavailable = matches!(error.kind, ErrorKind::Unavailable(_));
        // Another request for the slots waits until calls fail with the known routes.
        self.keeps_routes = is_known && is_unavailable && (is_busy(&error) || !after_failure);
        if self.keeps_routes {
            return;
        }
        for index in 0..self.states.len() {
            if !self.states[index].is_ready() {
                continue;
            }
            if is_busy(&error) {
                self.states[index].last_error = Some(error.for_another());
                self.pause(index, false);
            } else {
                self.give_up(index, error.for_another());
            }
        }
    }

    /// Why calls are sent again after a delay; `None`: because they were to be sent later.
    pub fn retry_reason(&self) -> Option<&str> {
        let is_paused = |state: &&CallState<N>| matches!(state.stage, Stage::Paused);
        let mut paused = self.states.iter().filter(is_paused);
        paused.find_map(|state| match (&state.last_error, &state.busy_reply) {
            (Some(error), _) => Some(error.message.as_str()),
            (None, Some(Value::Error(text))) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The time of `Step::Wait` is over.
    pub fn tick(&mut self) {
        self.is_waiting = false;
        for state in &mut self.states {
            if matches!(state.stage, Stage::Paused) {
                state.stage = Stage::Ready;
            }
        }
    }

    /// Ends all calls. `error` makes the error of a call from its outcome.
    pub fn stop(&mut self, error: impl Fn(Outcome) -> Error) {
        self.steps.clear();
        for index in 0..self.states.len() {
            if !self.states[index].is_done() {
                let error = error(self.states[index].outcome());
                self.give_up(index, error);
            }
        }
    }
}

#[cfg(test)]
mod tests;
