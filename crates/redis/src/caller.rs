//! Blocking calls: an operation driven on the calling thread, over a connection of its own.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mintkey_store::{Interrupt, Outcome, Reply, Request, Result};

use crate::connection::{Cause, Connection};
use crate::engine::perform;
use crate::resp::{Call, Value};
use crate::store::Shared;
use crate::talk::{Answer, Talk};
use crate::translate::is_passing;
use crate::watch::{Watch, pause};

/// Connections kept open while nobody uses them.
const IDLE: usize = 64;
/// How often what may be repeated is sent, over a new connection each time.
pub const TRIES: usize = 3;
/// How long a server that cannot answer at the moment is left alone.
pub const RESPITE: Duration = Duration::from_millis(20);

impl Shared {
    /// Carries a request out on this thread.
    pub fn carry_out(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let mut watch = Watch::new(Some(interrupt), self.engine.config.timeout);
        let talk = Talk::default();
        let mut held = None;
        let mut operation = pin!(perform(&self.engine, &talk, request));
        let mut context = Context::from_waker(Waker::noop());
        let result = loop {
            match operation.as_mut().poll(&mut context) {
                Poll::Ready(result) => break result,
                Poll::Pending => {
                    let (calls, anew) = talk.asked();
                    if anew {
                        watch.start_anew();
                    }
                    talk.answer(self.exchange(&mut held, &calls, &mut watch));
                }
            }
        };
        if let Some(connection) = held {
            self.keep(connection);
        }
        result
    }

    fn keep(&self, connection: Connection) {
        let surplus = self.idle.with(|idle| {
            if idle.len() < IDLE && !self.is_closed() {
                idle.push(connection);
                return None;
            }
            Some(connection)
        });
        drop(surplus);
    }

    fn connection(&self, watch: &mut Watch) -> Result<Connection> {
        loop {
            let idle = self.idle.with(Vec::pop);
            match idle {
                Some(connection) if connection.is_fresh() => return Ok(connection),
                Some(_) => {}
                None => return Connection::open(&self.engine.config, watch),
            }
        }
    }

    /// Sends calls until all are answered, or until it cannot be known whether they were carried out.
    fn exchange(&self, held: &mut Option<Connection>, calls: &[Call], watch: &mut Watch) -> Answer {
        let mut values: Vec<Value> = Vec::new();
        let mut tries = 0;
        while values.len() < calls.len() {
            let mut connection = match held.take() {
                Some(connection) => connection,
                None => self.connection(watch)?,
            };
            match connection.exchange(calls, false, watch) {
                Ok(answers) => {
                    *held = Some(connection);
                    values = answers;
                }
                Err(failure) => {
                    tries += 1;
                    let writes = calls.iter().any(Call::runs_script);
                    let again = !failure.sent || calls.iter().all(|call| call.repeatable);
                    match failure.cause {
                        Cause::Broken(_) if again && tries < TRIES => {}
                        cause => {
                            let outcome = if failure.sent && writes {
                                Outcome::Unknown
                            } else {
                                Outcome::NotApplied
                            };
                            return Err(cause.error(&self.engine.config.address, outcome));
                        }
                    }
                }
            }
        }
        for (place, call) in calls.iter().enumerate() {
            self.settle(held, call, &mut values[place], watch)?;
        }
        Ok(values)
    }

    /// Sends a call again that the server did not carry out, for a reason that passes.
    fn settle(
        &self,
        held: &mut Option<Connection>,
        call: &Call,
        value: &mut Value,
        watch: &mut Watch,
    ) -> Result<()> {
        loop {
            let whole = match &value {
                Value::Error(text) if text.starts_with("NOSCRIPT") => true,
                Value::Error(text) if is_passing(text) => {
                    if watch.look().is_err() {
                        return Ok(());
                    }
                    pause(RESPITE);
                    false
                }
                _ => return Ok(()),
            };
            let mut connection = match held.take() {
                Some(connection) => connection,
                None => self.connection(watch)?,
            };
            match connection.exchange(std::slice::from_ref(call), whole, watch) {
                Ok(mut answers) => {
                    *held = Some(connection);
                    *value = answers.pop().unwrap_or(Value::Nil);
                }
                Err(failure) => {
                    let outcome = if failure.sent && call.runs_script() {
                        Outcome::Unknown
                    } else {
                        Outcome::NotApplied
                    };
                    return Err(failure.cause.error(&self.engine.config.address, outcome));
                }
            }
        }
    }
}
