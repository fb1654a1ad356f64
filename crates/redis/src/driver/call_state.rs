//! How far a call has come, and what is known of its outcome.

use std::sync::Arc;

use mintkey_store::{Error, Outcome};

use crate::protocol::channel::Answered;
use crate::protocol::resp::{Call, Value};
use crate::transport::topology::{Node, Verdict};

/// How often what may be repeated is sent to a server that stands alone, over a new connection each time.
pub const TRIES: usize = 3;
/// How often calls may be sent on to other servers without a respite.
pub const DETOURS: usize = 5;

/// How far a call has come.
#[derive(Default)]
pub struct Leg {
    /// The answer.
    pub value: Option<Value>,
    /// What a server said that could not do it at the moment.
    pub refusal: Option<Value>,
    /// Whether the script is sent itself.
    pub whole: bool,
    /// The server that is asked this once, because the bucket is on its way there.
    pub asking: Option<Arc<Node>>,
    /// Whether a server may carry it out, and no reply has come.
    pub sent: bool,
    /// Whether it was sent before over a connection that broke, and may have been carried out then. No reply to
    /// another attempt says anything of that one.
    pub doubt: bool,
}

impl Leg {
    /// The connection that it was sent over is gone; `reached` says whether its bytes may have got to the server.
    pub fn lose(&mut self, reached: bool) {
        self.doubt |= self.sent && reached;
        (self.sent, self.asking) = (false, None);
    }

    /// The final reply.
    pub fn answered(self) -> Option<Answered> {
        let sent_before = self.doubt;
        self.value.map(|value| Answered { value, sent_before })
    }

    /// Whether its server does not know whose the bucket is.
    pub fn is_down(&self) -> bool {
        matches!(&self.refusal, Some(Value::Error(text)) if text.starts_with("CLUSTERDOWN"))
    }

    /// Takes in what is to be done about an answer; true if it is to be done at once.
    pub fn take_in(&mut self, verdict: Verdict) -> bool {
        (self.sent, self.asking) = (false, None);
        match verdict {
            Verdict::Final(value) => self.value = Some(value),
            Verdict::Whole(asking) => (self.whole, self.asking) = (true, asking),
            Verdict::Ask(node) => self.asking = Some(node),
            Verdict::Moved => {}
            Verdict::Later(value) => {
                self.refusal = Some(value);
                return false;
            }
        }
        true
    }
}

/// Takes what servers said that could not do it for the answer, when there is no more time; false if one
/// said nothing.
pub fn refused(legs: &mut [Leg]) -> bool {
    for leg in &mut *legs {
        if leg.value.is_none() {
            leg.value = leg.refusal.take();
        }
    }
    legs.iter().all(|leg| leg.value.is_some())
}

/// What is known of calls together, if some get no reply: one may have been carried out.
pub fn outcome(calls: &[Call], legs: &[Leg]) -> Outcome {
    let mut legs = calls.iter().zip(legs);
    if legs.any(|(call, leg)| call.writes && (leg.sent || leg.doubt || leg.value.is_some())) {
        Outcome::Unknown
    } else {
        Outcome::NotApplied
    }
}

/// The error of calls that could not be sent, or not again.
pub fn unsent(error: Error, outcome: Outcome) -> Error {
    match outcome {
        Outcome::NotApplied => error,
        Outcome::Unknown => error.in_doubt(),
    }
}
