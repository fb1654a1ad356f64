//! The state of a call that is sent to servers, and what is known of its outcome.

use std::sync::Arc;

use mintkey_store::{Error, Outcome};

use crate::protocol::channel::FinalReply;
use crate::protocol::resp::{Call, Value};
use crate::transport::node::Node;
use crate::transport::topology::ReplyAction;

/// The attempts to send repeatable calls to a single server, each over a new connection.
pub const MAX_TRIES: usize = 3;
/// The redirects that are followed without a delay.
pub const MAX_REDIRECTS: usize = 5;

/// The state of a call.
#[derive(Default)]
pub struct CallState {
    /// The final reply.
    pub value: Option<Value>,
    /// The last reply of a server that could not carry it out at the moment.
    pub busy_reply: Option<Value>,
    /// Whether to send the source of the script.
    pub send_source: bool,
    /// The server to send it to once, after ASKING, because the slot group is migrating there.
    pub asking: Option<Arc<Node>>,
    /// Whether it was sent, and no reply has come.
    pub sent: bool,
    /// Whether it was sent before over a connection that broke. It may have been carried out then. The reply to another
    /// attempt says nothing about that one.
    pub uncertain: bool,
}

impl CallState {
    /// The connection that it was sent over broke. `reached` says whether the server may have received it.
    pub fn connection_lost(&mut self, reached: bool) {
        self.uncertain |= self.sent && reached;
        (self.sent, self.asking) = (false, None);
    }

    /// The final reply.
    pub fn into_final_reply(self) -> Option<FinalReply> {
        let sent_before = self.uncertain;
        self.value.map(|value| FinalReply { value, sent_before })
    }

    /// Whether the server does not know which server has the slot group.
    pub fn is_cluster_down(&self) -> bool {
        matches!(&self.busy_reply, Some(Value::Error(text)) if text.starts_with("CLUSTERDOWN"))
    }

    /// Applies the action for a reply. Returns whether to go on at once, without a delay.
    pub fn apply(&mut self, action: ReplyAction) -> bool {
        (self.sent, self.asking) = (false, None);
        match action {
            ReplyAction::Final(value) => self.value = Some(value),
            ReplyAction::SendSource(asking) => (self.send_source, self.asking) = (true, asking),
            ReplyAction::Ask(node) => self.asking = Some(node),
            ReplyAction::Moved => {}
            ReplyAction::RetryLater(value) => {
                self.busy_reply = Some(value);
                return false;
            }
        }
        true
    }
}

/// When there is no more time, uses the last TRYAGAIN, CLUSTERDOWN or like reply as the final one. Returns whether each
/// call has a reply then.
pub fn use_busy_replies(states: &mut [CallState]) -> bool {
    for state in &mut *states {
        if state.value.is_none() {
            state.value = state.busy_reply.take();
        }
    }
    states.iter().all(|state| state.value.is_some())
}

/// The outcome of calls if some get no reply: unknown if one may have been carried out.
pub fn outcome(calls: &[Call], states: &[CallState]) -> Outcome {
    let mut states = calls.iter().zip(states);
    if states.any(|(call, state)| {
        call.writes && (state.sent || state.uncertain || state.value.is_some())
    }) {
        Outcome::Unknown
    } else {
        Outcome::NotApplied
    }
}

/// The error of calls that could not be sent, or not sent again.
pub fn unsent(error: Error, outcome: Outcome) -> Error {
    match outcome {
        Outcome::NotApplied => error,
        Outcome::Unknown => error.uncertain(),
    }
}
