//! Sends one call to the service: signed, in its time, again where that is right.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mintkey_store::{Error, Notes, Result};

use crate::aws::credentials::{self, Identity};
use crate::aws::retry;
use crate::aws::signing::Signing;
use crate::aws::time;
use crate::config::Config;
use crate::store::Inner;
use crate::transport::http::{self, Response};
use crate::transport::{Fault, Link, Why};
use crate::wire::errors::{self, Class, Failure, Progress, Refusal};
use crate::wire::json::Parser;

const API: &str = "DynamoDB_20120810.";
/// Clocks further apart than this make signatures invalid.
const SKEW: i64 = 4 * 60;

/// What may be done when nobody knows whether a call was carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// It changes nothing: again.
    Read,
    /// Twice is as good as once: again.
    Write,
    /// Not again.
    Never,
}

/// The entries that answers of success have. An answer that has others, and a head that anybody may send, is another
/// service's.
const ENTRIES: [&str; 15] = [
    "Attributes",
    "ConsumedCapacity",
    "Count",
    "Item",
    "ItemCollectionMetrics",
    "Items",
    "LastEvaluatedKey",
    "Responses",
    "ScannedCount",
    "Table",
    "TableDescription",
    "TimeToLiveDescription",
    "TimeToLiveSpecification",
    "UnprocessedItems",
    "UnprocessedKeys",
];

/// An answer of success.
pub struct Answer<'a> {
    config: &'a Config,
    progress: &'a Cell<Progress>,
    identity: Arc<Identity>,
    response: Response,
    repeat: Repeat,
}

/// One request to the store: its calls share a deadline, and what is known of their effect.
pub struct Session<'a, L> {
    pub inner: &'a Inner,
    pub link: &'a L,
    pub notes: &'a Notes,
    pub deadline: Cell<Instant>,
    /// What the request has done so far.
    pub progress: Cell<Progress>,
}

impl<'a, L: Link> Session<'a, L> {
    /// A session that begins now.
    pub fn new(inner: &'a Inner, link: &'a L, notes: &'a Notes) -> Self {
        Self {
            inner,
            link,
            notes,
            deadline: Cell::new(Instant::now() + inner.config.timeout),
            progress: Cell::new(Progress::Nothing),
        }
    }

    /// A session for a part of the same request that begins now.
    pub fn anew(&self) -> Self {
        let session = Self::new(self.inner, self.link, self.notes);
        session.progress.set(self.progress.get());
        session
    }

    /// Gives the next call the whole time again.
    pub fn restart(&self) {
        self.deadline
            .set(Instant::now() + self.inner.config.timeout);
    }

    /// Sends a call until it is answered, refused, or must not be sent again.
    pub async fn call(
        &self,
        operation: &str,
        body: &str,
        repeat: Repeat,
    ) -> std::result::Result<Answer<'_>, Failure> {
        let config = &self.inner.config;
        let metered = self.notes.is_metered() && tells_capacity(operation);
        let asking;
        let body = if metered {
            asking = format!(
                "{},\"ReturnConsumedCapacity\":\"TOTAL\"}}",
                body.strip_suffix('}').unwrap_or(body)
            );
            &asking
        } else {
            body
        };
        let mut corrected = false;
        let mut retries = 0;
        loop {
            let identity = self.identity().await?;
            let now = time::now() + self.inner.skew.load(Ordering::Relaxed);
            let request = self.request(&identity, operation, body, now)?;
            let endpoint = &self.inner.credentials.place(config)?.endpoint;
            let exchanged = self.link.exchange(endpoint, &request, self.deadline.get());
            let failure = match exchanged.await {
                Ok(response) if response.status == 200 && errors::is_own(&response) => {
                    self.inner.bucket.refill(retries > 0);
                    let answer = Answer {
                        config,
                        progress: &self.progress,
                        identity,
                        response,
                        repeat,
                    };
                    if metered {
                        answer.note_capacity(self.notes);
                    }
                    return Ok(answer);
                }
                Ok(response) => {
                    let refusal = Refusal::read(&response, &identity);
                    if !corrected && self.correct(&refusal, &identity, &response, now) {
                        corrected = true;
                        continue;
                    }
                    let (again, failure) = self.refused(refusal, repeat);
                    if !again {
                        return Err(failure);
                    }
                    failure
                }
                Err(fault) => {
                    if fault.sent {
                        self.doubt(repeat);
                    }
                    let again = !fault.why.is_final() && (!fault.sent || repeat != Repeat::Never);
                    let failure = self.fault(&fault);
                    if !again {
                        return Err(failure);
                    }
                    failure
                }
            };
            if retries >= config.retries || !self.inner.bucket.pay() {
                return Err(failure);
            }
            let pause = self.link.pause(retry::pause(retries), self.deadline.get());
            if let Err(stop) = pause.await {
                return Err(match (&failure, &stop.why) {
                    // Why it had to wait says more than that the time is over.
                    (Failure::Refused(_), Why::Late) => failure,
                    _ => self.fault(&stop),
                });
            }
            retries += 1;
        }
    }

    /// The credentials for the next attempt.
    async fn identity(&self) -> Result<Arc<Identity>> {
        let identity = credentials::identity(self).await;
        identity.map_err(|error| match self.progress.get() {
            Progress::Unsure => errors::interrupted_by(&self.inner.config, error),
            Progress::Nothing | Progress::Earlier => error,
        })
    }

    /// Notes that an attempt may have been carried out.
    fn doubt(&self, repeat: Repeat) {
        if repeat != Repeat::Read {
            self.progress.set(Progress::Unsure);
        }
    }

    /// Notes what a refusal says of the request, and whether another attempt may be made.
    fn refused(&self, mut refusal: Refusal, repeat: Repeat) -> (bool, Failure) {
        let again = match refusal.class {
            Class::Throttled => {
                self.notes.throttle();
                true
            }
            Class::Failed => {
                self.doubt(repeat);
                repeat != Repeat::Never
            }
            Class::Foreign => {
                self.doubt(repeat);
                false
            }
            _ => false,
        };
        refusal.doubtful = self.progress.get() == Progress::Unsure;
        (again, Failure::Refused(Box::new(refusal)))
    }

    fn fault(&self, fault: &Fault) -> Failure {
        let outcome = self.progress.get().outcome();
        Failure::Failed(errors::fault(&self.inner.config, fault, outcome))
    }

    /// Mends what a refusal complains about: the credentials, or the clock. True: another attempt may succeed.
    fn correct(
        &self,
        refusal: &Refusal,
        identity: &Arc<Identity>,
        response: &Response,
        signed: i64,
    ) -> bool {
        match refusal.class {
            Class::Expired => {
                self.inner.credentials.forget(identity);
                true
            }
            Class::Signature | Class::Skewed => self.correct_clock(response, signed),
            _ => false,
        }
    }

    fn request(
        &self,
        identity: &Identity,
        operation: &str,
        body: &str,
        now: i64,
    ) -> Result<Vec<u8>> {
        let place = self.inner.credentials.place(&self.inner.config)?;
        let stamp = time::basic(now);
        let mut target = String::with_capacity(40);
        let _ = write!(target, "{API}{operation}");
        let mut authorization = String::with_capacity(256);
        let token = identity.token();
        let headers = [
            ("host", place.authority.as_str()),
            ("x-amz-date", &stamp),
            ("x-amz-security-token", token.unwrap_or("")),
            ("x-amz-target", &target),
        ];
        let without = [headers[0], headers[1], headers[3]];
        let signed = if token.is_some() {
            &headers[..]
        } else {
            &without[..]
        };
        identity.authorize(
            &Signing {
                method: "POST",
                path: "/",
                query: "",
                headers: signed,
                body: body.as_bytes(),
                time: &stamp,
                region: &place.region,
                service: "dynamodb",
            },
            &mut authorization,
        );
        let mut all = Vec::with_capacity(6);
        all.extend_from_slice(signed);
        all.push(("content-type", "application/x-amz-json-1.0"));
        all.push(("authorization", &authorization));
        Ok(http::request("POST", "/", &all, body))
    }

    /// Takes the server's clock, if that may be why it refused. True: try again.
    fn correct_clock(&self, response: &Response, signed: i64) -> bool {
        let Some(theirs) = response.date.as_deref().and_then(time::parse_http) else {
            return false;
        };
        if (theirs - signed).abs() < SKEW {
            return false;
        }
        self.inner
            .skew
            .store(theirs - time::now(), Ordering::Relaxed);
        true
    }
}

/// Whether an operation can tell the capacity units that it takes.
fn tells_capacity(operation: &str) -> bool {
    operation.ends_with("Item") || matches!(operation, "Query" | "Scan")
}

impl Answer<'_> {
    /// Notes the capacity units that the service has counted.
    fn note_capacity(&self, notes: &Notes) {
        let one = |parser: &mut Parser<'_>| {
            parser.object(|parser, name| {
                if name == "CapacityUnits" {
                    notes.consume(parser.units()?);
                    Some(())
                } else {
                    parser.skip()
                }
            })
        };
        // What cannot be read is told by whoever reads the rest of the answer.
        let _ = std::str::from_utf8(&self.response.body)
            .ok()
            .and_then(|text| {
                Parser::new(text).object(|parser, name| match &*name {
                    "ConsumedCapacity" if parser.is_list() => parser.list(one),
                    "ConsumedCapacity" => one(parser),
                    _ => parser.skip(),
                })
            });
    }

    /// Reads the body; `read` is given every entry.
    pub fn read(
        &self,
        mut read: impl for<'p> FnMut(&mut Parser<'p>, Cow<'p, str>) -> Option<()>,
    ) -> Result<()> {
        let marked = errors::is_marked(&self.response);
        let text = std::str::from_utf8(&self.response.body).ok();
        text.and_then(|text| {
            Parser::new(text).object(|parser, name| {
                let known = marked || ENTRIES.contains(&&*name);
                known.then_some(())?;
                read(parser, name)
            })
        })
        .ok_or_else(|| self.unreadable())
    }

    /// The error for an answer that is not one to this call.
    pub fn unreadable(&self) -> Error {
        if self.repeat != Repeat::Read {
            self.progress.set(Progress::Unsure);
        }
        let outcome = self.progress.get().outcome();
        errors::unreadable(self.config, &self.response, &self.identity, outcome)
    }
}
