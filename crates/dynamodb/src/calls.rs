//! Sends one call to the service: signed, in its time, again where that is right.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mintkey_store::{Error, ErrorKind, Item, Notes, Outcome, Result};

use crate::credentials::{self, Identity};
use crate::errors;
use crate::http::{self, Response};
use crate::json::Parser;
use crate::link::{Fault, Link};
use crate::retry;
use crate::sign::Signing;
use crate::store::Inner;
use crate::time;

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

/// What was answered.
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
}

/// The service's no.
#[derive(Debug, Default)]
pub struct Refusal {
    /// Its name.
    pub code: String,
    /// Its text.
    pub message: String,
    /// The stored item that a condition met.
    pub item: Option<Item>,
    /// Whether an earlier attempt may have been carried out.
    pub doubtful: bool,
}

/// Why there is no answer.
pub enum Failure {
    /// The service refused.
    Refused(Box<Refusal>),
    /// Everything else, worded.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One request to the store: its calls share a deadline.
pub struct Session<'a, L> {
    pub inner: &'a Inner,
    pub link: &'a L,
    pub notes: &'a Notes,
    pub deadline: Instant,
}

impl<'a, L: Link> Session<'a, L> {
    /// A session that begins now.
    pub fn new(inner: &'a Inner, link: &'a L, notes: &'a Notes) -> Self {
        Self {
            inner,
            link,
            notes,
            deadline: Instant::now() + inner.config.timeout,
        }
    }

    /// A session of the same request that begins now.
    pub fn anew(&self) -> Self {
        Self::new(self.inner, self.link, self.notes)
    }

    /// Sends a call until it is answered, refused, or must not be sent again.
    pub async fn call(
        &self,
        operation: &str,
        body: &str,
        repeat: Repeat,
    ) -> std::result::Result<Answer, Failure> {
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
        let mut doubtful = false;
        let mut corrected = false;
        let mut retries = 0;
        loop {
            let identity = credentials::identity(self).await?;
            let now = time::now() + self.inner.skew.load(Ordering::Relaxed);
            let request = self.request(&identity, operation, body, now)?;
            let endpoint = &self.inner.credentials.place(&self.inner.config)?.endpoint;
            let result = self.link.exchange(endpoint, &request, self.deadline).await;
            let fault = match result {
                Ok(response) if response.status == 200 => {
                    self.inner.bucket.refill(retries > 0);
                    let answer = Answer {
                        body: response.body,
                    };
                    if metered {
                        answer.note_capacity(self.notes);
                    }
                    return Ok(answer);
                }
                Ok(response) => {
                    let mut refusal = refusal(&response);
                    let kind = errors::classify(&refusal, response.status);
                    if !corrected
                        && match kind {
                            errors::Class::Expired => {
                                self.inner.credentials.forget(&identity);
                                true
                            }
                            errors::Class::Signature => self.correct_clock(&response, now),
                            _ => false,
                        }
                    {
                        corrected = true;
                        continue;
                    }
                    doubtful |= kind == errors::Class::Broken;
                    refusal.doubtful = doubtful;
                    match kind {
                        errors::Class::Throttled => self.notes.throttle(),
                        errors::Class::Broken if repeat != Repeat::Never => {}
                        _ => return Err(Failure::Refused(Box::new(refusal))),
                    }
                    Err(refusal)
                }
                Err(fault) => {
                    doubtful |= fault.sent;
                    if fault.why.is_final() || (fault.sent && repeat == Repeat::Never) {
                        return Err(self.fault(&fault, repeat, doubtful));
                    }
                    Ok(fault)
                }
            };
            if retries >= self.inner.config.retries || !self.inner.bucket.pay() {
                return Err(match fault {
                    Ok(fault) => self.fault(&fault, repeat, doubtful),
                    Err(refusal) => Failure::Refused(Box::new(refusal)),
                });
            }
            let pause = self.link.pause(retry::pause(retries), self.deadline).await;
            if let Err(stop) = pause {
                return Err(match fault {
                    // The reason that it had to wait says more than that the time is over.
                    Err(refusal) if matches!(stop.why, crate::link::Why::Late) => {
                        Failure::Refused(Box::new(refusal))
                    }
                    _ => self.fault(&stop, repeat, doubtful),
                });
            }
            retries += 1;
        }
    }

    fn fault(&self, fault: &Fault, repeat: Repeat, doubtful: bool) -> Failure {
        let outcome = if repeat != Repeat::Read && doubtful {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        Failure::Failed(errors::fault(self.inner, fault, outcome))
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

/// Reads a refusal; what is none has no name.
fn refusal(response: &Response) -> Refusal {
    let mut refusal = Refusal::default();
    let Ok(text) = std::str::from_utf8(&response.body) else {
        return refusal;
    };
    let read = Parser::new(text).object(|parser, name| {
        match &*name {
            "__type" => {
                let name = parser.string()?;
                let own = name.rsplit('#').next().unwrap_or(&name);
                own.clone_into(&mut refusal.code);
            }
            "message" | "Message" => refusal.message = parser.string()?.into_owned(),
            "Item" => refusal.item = Some(parser.item()?),
            _ => parser.skip()?,
        }
        Some(())
    });
    if read.is_none() {
        refusal.code.clear();
    }
    refusal
}

/// Whether an operation can tell the capacity units that it takes.
fn tells_capacity(operation: &str) -> bool {
    operation.ends_with("Item") || matches!(operation, "Query" | "Scan")
}

impl Answer {
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
        let _ = std::str::from_utf8(&self.body).ok().and_then(|text| {
            Parser::new(text).object(|parser, name| match &*name {
                "ConsumedCapacity" if parser.is_list() => parser.list(one),
                "ConsumedCapacity" => one(parser),
                _ => parser.skip(),
            })
        });
    }

    /// Reads the body; `read` is told every entry.
    pub fn read(
        &self,
        inner: &Inner,
        repeat: Repeat,
        read: impl for<'p> FnMut(&mut Parser<'p>, std::borrow::Cow<'p, str>) -> Option<()>,
    ) -> Result<()> {
        let text = std::str::from_utf8(&self.body).ok();
        text.and_then(|text| Parser::new(text).object(read))
            .ok_or_else(|| {
                let outcome = if repeat == Repeat::Read {
                    Outcome::NotApplied
                } else {
                    Outcome::Unknown
                };
                Error::new(
                    ErrorKind::Unavailable(outcome),
                    format!(
                        "{}: the answer is none of DynamoDB's: does something else stand between, or listen at this \
                         endpoint?",
                        inner.config.address
                    ),
                )
            })
    }
}
