//! Sends calls to the server: signed, within the deadline, and again where a retry is safe.

use std::borrow::Cow;
use std::cell::Cell;
use std::result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use mintkey_runtime::Stop;
use mintkey_store::{Error, Key, Outcome, RequestMetrics, Result, Table};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::aws::credentials::cache::Lookup;
use crate::aws::retry;
use crate::aws::signing::{Identity, Unsigned};
use crate::shared::Shared;
use crate::transport::Transport;
use crate::transport::error::{Cause, TransportError};
use crate::transport::http::{Request, Response};
use crate::wire::errors::{self, ErrorClass, ErrorContext, ErrorResponse, Failure, Progress};
use crate::wire::response::Metered;

/// The prefix of an operation in the header `x-amz-target`.
const API: &str = "DynamoDB_20120810.";
/// Signatures are not valid if the clocks differ by more, in seconds.
const MAX_CLOCK_SKEW: i64 = 4 * 60;

/// The conflicts with transactions after which the delay does not grow any more.
const MAX_DELAY_CONFLICTS: u32 = 5;

/// The entries of successful responses. A response with another entry, and without headers of DynamoDB, is not its.
const ENTRIES: [&str; 17] = [
    "Attributes",
    "ConsumedCapacity",
    "Count",
    "Item",
    "ItemCollectionMetrics",
    "Items",
    "LastEvaluatedKey",
    "LastEvaluatedTableName",
    "Responses",
    "ScannedCount",
    "Table",
    "TableDescription",
    "TableNames",
    "TimeToLiveDescription",
    "TimeToLiveSpecification",
    "UnprocessedItems",
    "UnprocessedKeys",
];

/// What a call does, which decides whether it is sent again when it may have been carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It changes nothing: it is sent again.
    None,
    /// Twice has the same effect as once: it is sent again.
    Idempotent,
    /// Twice may have another effect: it is not sent again.
    Once,
}

/// The attempts to send a call.
#[derive(Default)]
struct Attempts {
    /// Whether the cause of an error response was removed. That is tried once.
    is_corrected: bool,
    /// The retries that tokens were taken for.
    retries: u32,
    /// The attempts that other writers were in the way of.
    conflicts: u32,
}

/// What follows after an attempt that did not succeed.
enum NextStep {
    Fail(Failure),
    /// The call is sent again at once.
    RetryNow,
    /// The call may be sent again after a delay. If it is not, this is its failure.
    RetryLater(Failure),
}

impl From<Error> for NextStep {
    fn from(error: Error) -> Self {
        Self::Fail(error.into())
    }
}

/// A successful response.
pub struct Output<'a, T> {
    client: &'a Client<'a, T>,
    identity: Arc<Identity>,
    response: Response,
    effect: Effect,
}

/// Sends the calls of one request of the contract.
pub struct Client<'a, T> {
    pub shared: &'a Shared,
    pub transport: &'a T,
    pub metrics: &'a RequestMetrics,
    /// When the next call must have ended.
    pub deadline: Cell<Instant>,
    /// What the request has done so far.
    pub progress: Cell<Progress>,
}

impl<'a, T: Transport> Client<'a, T> {
    /// A client for a request that begins now.
    pub fn new(shared: &'a Shared, transport: &'a T, metrics: &'a RequestMetrics) -> Self {
        Self {
            shared,
            transport,
            metrics,
            deadline: Cell::new(Instant::now() + shared.config.timeout),
            progress: Cell::new(Progress::Nothing),
        }
    }

    /// A client for a part of the same request that begins now.
    pub fn part(&self) -> Self {
        let part = Self::new(self.shared, self.transport, self.metrics);
        part.progress.set(self.progress.get());
        part
    }

    /// Gives the next calls the full timeout, after progress of a long request.
    pub fn restart_deadline(&self) {
        self.deadline
            .set(Instant::now() + self.shared.config.timeout);
    }

    /// Checks whether a long evaluation of what the server returned may continue.
    pub fn may_continue(&self) -> Result<()> {
        let checked = self.transport.may_continue(self.deadline.get());
        checked.map_err(|error| self.transport_error(&error))
    }

    /// Waits before something is sent again, until the deadline at most.
    pub async fn pause(&self, delay: Duration) -> result::Result<(), TransportError> {
        self.transport.pause(delay, self.deadline.get()).await
    }

    /// The error of the request for a failure of the transport.
    pub fn transport_error(&self, error: &TransportError) -> Error {
        let outcome = self.progress.get().outcome();
        errors::transport_error(&self.shared.config, error, outcome)
    }

    /// Sends a call that reads, about a table or one of its rows.
    pub async fn read(
        &self,
        table: &Table,
        key: Option<&Key>,
        operation: &str,
        body: &str,
    ) -> Result<Output<'_, T>> {
        let output = self.call(operation, body, Effect::None).await;
        output.map_err(|failure| self.errors(table, key).failed(failure))
    }

    /// Words errors about a table, or about one of its rows.
    pub fn errors<'b>(&'b self, table: &'b Table, key: Option<&'b Key>) -> ErrorContext<'b> {
        ErrorContext {
            config: &self.shared.config,
            table,
            key,
            progress: &self.progress,
        }
    }

    /// Sends a call until it succeeds, fails, or must not be sent again.
    pub async fn call(
        &self,
        operation: &str,
        body: &str,
        effect: Effect,
    ) -> result::Result<Output<'_, T>, Failure> {
        let metered = self.metrics.is_metered() && returns_capacity(operation);
        let body = if metered {
            with_capacity(body).into()
        } else {
            Cow::Borrowed(body)
        };
        let mut attempts = Attempts::default();
        loop {
            let failure = match self.attempt(operation, &body, effect, &mut attempts).await {
                Ok(output) => {
                    self.shared.retry_tokens.refill(attempts.retries > 0);
                    if metered {
                        output.add_capacity(self.metrics);
                    }
                    return Ok(output);
                }
                Err(NextStep::Fail(failure)) => return Err(failure),
                Err(NextStep::RetryNow) => {
                    self.metrics.add_retries(1);
                    continue;
                }
                Err(NextStep::RetryLater(failure)) => failure,
            };
            let Some(delay) = self.retry_delay(&failure, &mut attempts) else {
                return Err(failure);
            };
            if let Err(stop) = self.pause(delay).await {
                return Err(match (&failure, &stop.cause) {
                    // The reason for the retry says more than that the time is over.
                    (Failure::Refused(_), Cause::Stopped(Stop::Timeout(_))) => failure,
                    _ => self.transport_error(&stop).into(),
                });
            }
            self.metrics.add_retries(1);
        }
    }

    /// Sends a call once.
    async fn attempt(
        &self,
        operation: &str,
        body: &str,
        effect: Effect,
        attempts: &mut Attempts,
    ) -> result::Result<Output<'_, T>, NextStep> {
        // In the child of a fork, the locks below may be held by threads that stayed in the parent.
        self.may_continue()?;
        let identity = self.identity().await?;
        let now = now() + self.shared.clock_skew.load(Ordering::Relaxed);
        let request = self.request(&identity, operation, body, now)?;
        let destination = self.shared.credentials.destination(&self.shared.config)?;
        let exchange = self
            .transport
            .exchange(&destination.endpoint, request, self.deadline.get());
        match exchange.await {
            Ok(response) if response.status == 200 && errors::may_be_dynamodb(&response) => {
                Ok(Output {
                    client: self,
                    identity,
                    response,
                    effect,
                })
            }
            Ok(response) => {
                let refusal = ErrorResponse::parse(&response, &identity.secrets());
                if !attempts.is_corrected && self.correct(&refusal, &identity, &response, now) {
                    attempts.is_corrected = true;
                    self.note(&format!("{operation} is sent again: {}", refusal.code));
                    return Err(NextStep::RetryNow);
                }
                let refused = self.refused(refusal, effect);
                if let NextStep::RetryLater(Failure::Refused(refusal)) = &refused {
                    // The message of a response may contain values.
                    let (status, code) = (response.status, &refusal.code);
                    self.note(format!("{operation} failed: status {status} {code}").trim_end());
                }
                Err(refused)
            }
            Err(error) => {
                if error.sent {
                    self.mark_uncertain(effect);
                }
                let failed = self.transport_error(&error);
                self.note(&format!("{operation} failed: {}", failed.message));
                let failure = failed.into();
                if error.cause.is_final() || (error.sent && effect == Effect::Once) {
                    return Err(NextStep::Fail(failure));
                }
                Err(NextStep::RetryLater(failure))
            }
        }
    }

    /// Reports an attempt that did not succeed, for the log of the program.
    pub fn note(&self, what: &str) {
        let config = &self.shared.config;
        let server = match self.shared.credentials.destination(config) {
            Ok(destination) => destination.endpoint.to_string(),
            Err(_) => config.address.clone(),
        };
        config.notices.debug(format!("{server}: {what}"));
    }

    /// The delay before the next attempt; `None` if there must be none.
    fn retry_delay(&self, failure: &Failure, attempts: &mut Attempts) -> Option<Duration> {
        if failure.is_transient() {
            // It ends with the time only: the server is well, and others have made progress.
            attempts.conflicts += 1;
            return Some(retry::delay(attempts.conflicts.min(MAX_DELAY_CONFLICTS)));
        }
        if attempts.retries >= self.shared.config.retries || !self.shared.retry_tokens.take() {
            return None;
        }
        attempts.retries += 1;
        Some(retry::delay(attempts.retries - 1))
    }

    /// The credentials for the next attempt.
    async fn identity(&self) -> Result<Arc<Identity>> {
        let lookup = Lookup {
            config: &self.shared.config,
            transport: self.transport,
            deadline: self.deadline.get(),
            outcome: self.progress.get().outcome(),
        };
        let identity = self.shared.credentials.identity(&lookup).await;
        identity.map_err(|error| match self.progress.get() {
            Progress::Uncertain => errors::before_retry(&self.shared.config, error),
            Progress::Nothing | Progress::Earlier => error,
        })
    }

    /// Records that an attempt may have been carried out.
    fn mark_uncertain(&self, effect: Effect) {
        if effect != Effect::None {
            self.progress.set(Progress::Uncertain);
        }
    }

    /// What follows after an error response.
    fn refused(&self, mut refusal: ErrorResponse, effect: Effect) -> NextStep {
        let retry = match refusal.class {
            ErrorClass::Throttled => {
                self.metrics.throttle();
                true
            }
            ErrorClass::Conflict | ErrorClass::TableLimit => true,
            ErrorClass::Failed => {
                self.mark_uncertain(effect);
                effect != Effect::Once
            }
            ErrorClass::Foreign => {
                self.mark_uncertain(effect);
                false
            }
            _ => false,
        };
        refusal.uncertain = self.progress.get() == Progress::Uncertain;
        let failure = Failure::Refused(Box::new(refusal));
        if retry {
            NextStep::RetryLater(failure)
        } else {
            NextStep::Fail(failure)
        }
    }

    /// Removes the cause of an error response: expired credentials, or a wrong clock. True: a retry may succeed.
    fn correct(
        &self,
        refusal: &ErrorResponse,
        identity: &Arc<Identity>,
        response: &Response,
        signed: i64,
    ) -> bool {
        match refusal.class {
            ErrorClass::Expired => {
                self.shared.credentials.forget(identity);
                true
            }
            ErrorClass::Signature | ErrorClass::Skewed => self.correct_clock(response, signed),
            _ => false,
        }
    }

    /// Takes over the server's clock, if it differs enough from the time of the signature.
    fn correct_clock(&self, response: &Response, signed: i64) -> bool {
        let date = response.date.as_deref();
        let Some(server) = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
        else {
            return false;
        };
        let server = server.secs();
        if (server - signed).abs() < MAX_CLOCK_SKEW {
            return false;
        }
        self.shared
            .clock_skew
            .store(server - now(), Ordering::Relaxed);
        true
    }

    fn request(
        &self,
        identity: &Identity,
        operation: &str,
        body: &str,
        now: i64,
    ) -> Result<Request> {
        let destination = self.shared.credentials.destination(&self.shared.config)?;
        let target = [API, operation].concat();
        let host = destination.authority.as_str();
        let signature = identity.sign(&Unsigned {
            host,
            target: &target,
            body,
            region: &destination.region,
            time: now,
        })?;
        let mut all = Vec::with_capacity(6);
        all.push(("host", host));
        all.push(("x-amz-target", &target));
        all.push(("content-type", "application/x-amz-json-1.0"));
        all.extend(signature.headers());
        Request::new("POST", "/", &all, body).map_err(|invalid| {
            Error::configuration(format!(
                "{}: the request cannot be written as HTTP ({}): check the endpoint and the credentials",
                self.shared.config.address, invalid.0
            ))
        })
    }
}

/// Seconds since 1970 by the system's clock: signatures need the real time, also where a test has frozen mintkey's clock.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// The body of a call whose response contains the capacity units that it consumes.
fn with_capacity(body: &str) -> String {
    let body = body.strip_suffix('}').unwrap_or(body);
    format!("{body},\"ReturnConsumedCapacity\":\"TOTAL\"}}")
}

/// Whether an operation returns the capacity units that it consumes.
fn returns_capacity(operation: &str) -> bool {
    operation.ends_with("Item")
        || matches!(
            operation,
            "Query" | "Scan" | "TransactGetItems" | "TransactWriteItems"
        )
}

/// Whether all entries of a body are DynamoDB's.
fn has_known_entries(body: &[u8]) -> bool {
    serde_json::from_slice::<Map<String, Value>>(body)
        .is_ok_and(|entries| entries.keys().all(|name| ENTRIES.contains(&name.as_str())))
}

impl<T: Transport> Output<'_, T> {
    /// Adds the capacity units that the server has counted.
    fn add_capacity(&self, metrics: &RequestMetrics) {
        // A body that is not valid is reported where the rest of it is parsed.
        if let Ok(Metered { consumed_capacity }) = serde_json::from_slice(&self.response.body) {
            metrics.consume(consumed_capacity.0);
        }
    }

    /// Parses the body.
    pub fn parse<B: DeserializeOwned>(&self) -> Result<B> {
        let body = &self.response.body;
        // `serde` would take a list for an object too.
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        let is_dynamodb = errors::has_dynamodb_headers(&self.response) || has_known_entries(body);
        let parsed = (is_object && is_dynamodb).then(|| serde_json::from_slice(body).ok());
        parsed.flatten().ok_or_else(|| self.unreadable())
    }

    /// The error for a response that cannot be the one to the call.
    pub fn unreadable(&self) -> Error {
        let outcome = self.out_of_sync();
        let secrets = self.identity.secrets();
        let config = &self.client.shared.config;
        errors::unreadable(config, &self.response, &secrets, outcome)
    }

    /// The error for a response with a row that was not requested.
    pub fn other_row(&self, table: &Table) -> Error {
        match self.out_of_sync() {
            Outcome::NotApplied => Error::other_row(table),
            Outcome::Unknown => Error::other_row(table).uncertain(),
        }
    }

    /// The response belongs to another call: further responses of the same connection may, too. Returns the outcome of the
    /// request.
    fn out_of_sync(&self) -> Outcome {
        self.client.transport.close_idle();
        self.client.mark_uncertain(self.effect);
        self.client.progress.get().outcome()
    }
}
