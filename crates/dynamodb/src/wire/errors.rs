//! Error responses of the server and failures of the transport, as errors of the contract.

use std::cell::Cell;

use mintkey_runtime::untrusted;
use mintkey_store::{Error, ErrorKind, Item, Key, Outcome, Remedy, Table};

use crate::config::Config;
use crate::transport::error::{Cause, TransportError, is_not_tls};
use crate::transport::http::Response;
use crate::wire::json::StoredItem;
use crate::wire::response::{CancellationReason, Refused};

/// The characters that a message shows of a response that is not DynamoDB's.
const SHOWN: usize = 80;
/// The characters of a secret by which it is recognised.
const SECRET_START: usize = 8;

/// What a request may have done already when one of its calls fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    Nothing,
    /// Earlier calls were carried out, which is known; the failed one was not.
    Earlier,
    /// A write was sent and not answered, so it may have been carried out. No refusal of a later attempt changes that.
    Uncertain,
}

impl Progress {
    /// The outcome of a request that ends with a failure now.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Nothing => Outcome::NotApplied,
            Self::Earlier | Self::Uncertain => Outcome::Unknown,
        }
    }
}

/// Why a call failed.
pub enum Failure {
    /// There was an error response, of DynamoDB or of another server.
    Refused(Box<ErrorResponse>),
    /// Everything else.
    Failed(Error),
}

impl Failure {
    /// Whether others were in the way: a transaction that was writing the item, or changes of other tables.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Refused(refusal) if matches!(refusal.class, ErrorClass::Conflict | ErrorClass::TableLimit))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An error response.
#[derive(Debug)]
pub struct ErrorResponse {
    /// What it means.
    pub class: ErrorClass,
    /// The exception's name; empty if the response is not DynamoDB's.
    pub code: String,
    /// The exception's message, or a description of a response without one.
    pub message: String,
    /// The stored item that did not meet the condition.
    pub item: Option<Item>,
    /// Of a cancelled transaction, one for each item.
    pub reasons: Vec<CancellationReason>,
    /// Whether an attempt of the same write may have been carried out.
    pub uncertain: bool,
}

/// What an error response means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorClass {
    /// The condition of a write was false.
    ConditionFailed,
    /// A transaction was not carried out, because of its items.
    Cancelled,
    /// There is no such table.
    TableMissing,
    /// The table is being created, changed or deleted.
    TableBusy,
    /// Too many tables exist or are being changed: a retry may succeed later.
    TableLimit,
    /// The call is not valid, or asks for what cannot be stored.
    Invalid,
    /// The items of one partition key are too large together.
    CollectionFull,
    /// The credentials lack a permission.
    Denied,
    /// The credentials are not known.
    NotAccepted,
    /// The signature is not accepted, perhaps because of the clock.
    Signature,
    /// The time of the signature is not accepted.
    Skewed,
    /// The credentials have expired.
    Expired,
    /// Too many requests: a retry may succeed later.
    Throttled,
    /// A transaction is writing the item: a retry succeeds soon.
    Conflict,
    /// Another exception of DynamoDB's.
    Other,
    /// The server, or a proxy before it, failed or is overloaded: whether the call was carried out is unknown, and a
    /// retry may succeed.
    Failed,
    /// Not a response of DynamoDB's: whether the call reached it is unknown.
    Foreign,
}

impl ErrorClass {
    /// The meaning of an exception's name in a response with this status. Only a name that DynamoDB uses proves that the
    /// call was not carried out.
    fn of(code: &str, status: u16) -> Self {
        let named = match code {
            "ConditionalCheckFailedException" => Self::ConditionFailed,
            "TransactionCanceledException" => Self::Cancelled,
            "ResourceNotFoundException" => Self::TableMissing,
            "ResourceInUseException" | "TableInUseException" => Self::TableBusy,
            "LimitExceededException" => Self::TableLimit,
            "ValidationException" | "SerializationException" => Self::Invalid,
            "ItemCollectionSizeLimitExceededException" => Self::CollectionFull,
            "AccessDeniedException" | "AccessDenied" => Self::Denied,
            "UnrecognizedClientException"
            | "IncompleteSignatureException"
            | "IncompleteSignature"
            | "InvalidClientTokenId"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "OptInRequired" => Self::NotAccepted,
            "InvalidSignatureException" | "SignatureDoesNotMatch" | "AuthFailure" => {
                Self::Signature
            }
            "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Self::Skewed,
            "ExpiredTokenException" | "ExpiredToken" => Self::Expired,
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException" => Self::Throttled,
            "TransactionConflictException" => Self::Conflict,
            "UnknownOperationException" | "IdempotentParameterMismatchException" => Self::Other,
            _ => Self::Foreign,
        };
        match (named, status) {
            (_, 500..) | (Self::Foreign, 408 | 429) => Self::Failed,
            (_, 400..) => named,
            _ => Self::Foreign,
        }
    }
}

impl ErrorResponse {
    /// Parses an error response. `secrets` are not shown, even if the response repeats them.
    pub fn parse(response: &Response, secrets: &[&str]) -> Self {
        let mut refusal = Self {
            class: ErrorClass::Foreign,
            code: String::new(),
            message: String::new(),
            item: None,
            reasons: Vec::new(),
            uncertain: false,
        };
        if let Ok(Refused {
            exception: Some(exception),
            message,
            other_message,
            item,
            reasons,
        }) = serde_json::from_slice(&response.body)
        {
            let name = exception.rsplit('#').next().unwrap_or(&exception);
            name.clone_into(&mut refusal.code);
            refusal.message = message.or(other_message).unwrap_or_default();
            refusal.item = item.map(|StoredItem(item)| item);
            refusal.reasons = reasons.unwrap_or_default();
        }
        refusal.class = ErrorClass::of(&refusal.code, response.status);
        if refusal.code.is_empty() {
            refusal.message = describe(response, secrets);
        }
        refusal
    }

    /// The error response in a message.
    fn description(&self) -> String {
        if self.code.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.code, self.message)
        }
    }
}

/// Status and start of the body of a response that is not DynamoDB's.
fn describe(response: &Response, secrets: &[&str]) -> String {
    let status = response.status;
    let body = String::from_utf8_lossy(&response.body);
    let words: Vec<&str> = body.split_whitespace().take(SHOWN).collect();
    let words = words.join(" ");
    let start: String = words.chars().take(SHOWN).collect();
    if repeats(&start, secrets) {
        return format!("status {status}, a body that repeats the credentials");
    }
    match start.as_str() {
        "" => format!("status {status}, no body"),
        start if start.len() < words.len() => format!("status {status}, body {start:?}…"),
        start => format!("status {status}, body {start:?}"),
    }
}

/// Whether a text contains a signature or the start of a secret: a server may send back what it received.
fn repeats(text: &str, secrets: &[&str]) -> bool {
    let start = |secret: &str| secret.get(..SECRET_START).unwrap_or(secret).to_owned();
    text.contains("AWS4-HMAC-SHA256")
        || secrets
            .iter()
            .any(|secret| !secret.is_empty() && text.contains(&start(secret)))
}

/// Whether a successful response can be DynamoDB's: its headers say so, or do not say otherwise.
pub fn may_be_dynamodb(response: &Response) -> bool {
    let kind = response.content_type.as_deref();
    has_dynamodb_headers(response) || kind.is_none_or(|kind| kind.starts_with("application/json"))
}

/// Whether a response has headers of DynamoDB or a compatible server. AWS and DynamoDB Local send a request id;
/// `ScyllaDB` Alternator sends the content type, unless it is configured not to.
pub fn has_dynamodb_headers(response: &Response) -> bool {
    let kind = response.content_type.as_deref();
    response.is_aws || kind.is_some_and(|kind| kind.starts_with("application/x-amz-json"))
}

fn foreign(config: &Config, description: &str, outcome: Outcome) -> Error {
    Error::new(
        ErrorKind::Unavailable(outcome),
        format!(
            "{}: the response is not DynamoDB's ({description})",
            config.address
        ),
    )
    .advice("check ?endpoint=, and proxies or gateways before it")
}

/// The error for a successful response that cannot be parsed.
pub fn unreadable(
    config: &Config,
    response: &Response,
    secrets: &[&str],
    outcome: Outcome,
) -> Error {
    foreign(config, &describe(response, secrets), outcome)
}

/// The error for a write of which an attempt may have been carried out, when something fails before the retry is sent.
pub fn before_retry(config: &Config, error: Error) -> Error {
    let unknown = Outcome::Unknown;
    match error.kind {
        ErrorKind::Unavailable(Outcome::Unknown)
        | ErrorKind::Timeout(Outcome::Unknown)
        | ErrorKind::Interrupted(_) => error,
        _ => Error::new(
            ErrorKind::Unavailable(unknown),
            format!(
                "{}: an attempt had no response, and there was no retry ({})",
                config.address, error.message
            ),
        )
        .caused_by(error),
    }
}

/// The error for a failure of the transport.
pub fn transport_error(config: &Config, error: &TransportError, outcome: Outcome) -> Error {
    let address = &config.address;
    let unavailable = |text: String| {
        Error::new(
            ErrorKind::Unavailable(outcome),
            format!("{address}: {text}"),
        )
    };
    match &error.cause {
        Cause::UnknownHost(error) => unavailable(format!("the host name has no address ({error})"))
            .advice("check the region or ?endpoint="),
        Cause::NoThread(error) => unavailable(format!(
            "no thread can be started to look up the host name ({error})"
        ))
        .advice(
            "allow more threads (ulimit -u, or the pids limit of the container), or give ?endpoint= an IP address",
        ),
        Cause::Unreachable(error) => {
            unavailable(format!("no connection ({error})")).advice("is the server running?")
        }
        Cause::Broken(error) => {
            let broken = unavailable(format!("the connection broke ({error})"));
            if is_not_tls(error) {
                broken.advice(
                    "if this server does not encrypt, write http instead of https in ?endpoint=",
                )
            } else {
                broken
            }
        }
        Cause::NotHttp => unavailable("the response is not HTTP".to_owned())
            .advice("does another service listen there?"),
        Cause::Damaged => unavailable("the response is damaged: its checksum is wrong".to_owned())
            .advice("check proxies and gateways before the server"),
        Cause::Untrusted(reason) => {
            let error = untrusted(address, reason);
            match outcome {
                Outcome::NotApplied => error,
                // An earlier attempt was sent.
                Outcome::Unknown => error.uncertain(),
            }
        }
        Cause::ConnectTimeout => Error::new(
            ErrorKind::Timeout(outcome),
            format!(
                "{address}: no connection within {} s",
                config.connect_timeout.as_secs_f64()
            ),
        )
        .advice("is the server running? ?connect_timeout= raises the limit"),
        Cause::Stopped(stop) if error.sent => stop.error(address, "waiting for a response", outcome),
        Cause::Stopped(stop) => stop.error(address, "sending a request", outcome),
    }
}

/// The error for a failure of a call that concerns no table.
pub fn without_table(config: &Config, failure: Failure) -> Error {
    let refusal = match failure {
        Failure::Refused(refusal) => refusal,
        Failure::Failed(error) => return error,
    };
    let address = &config.address;
    let outcome = Outcome::NotApplied;
    general(config, &refusal, outcome).unwrap_or_else(|| match refusal.class {
        ErrorClass::Throttled => Error::new(
            ErrorKind::Throttled,
            format!(
                "{address}: DynamoDB asks for fewer requests ({})",
                refusal.code
            ),
        )
        .advice("try again later"),
        _ => Error::new(
            ErrorKind::Unavailable(outcome),
            format!(
                "{address}: the server refused the call ({})",
                refusal.description()
            ),
        ),
    })
}

/// The error for an error response that concerns the server or the credentials, and no table.
fn general(config: &Config, refusal: &ErrorResponse, outcome: Outcome) -> Option<Error> {
    let address = &config.address;
    let ErrorResponse { code, message, .. } = refusal;
    let description = refusal.description();
    let unavailable = |text: &str| {
        Error::new(
            ErrorKind::Unavailable(outcome),
            format!("{address}: {text} ({description})"),
        )
    };
    Some(match refusal.class {
        ErrorClass::Foreign => foreign(config, &description, outcome),
        ErrorClass::Failed => unavailable("the server failed"),
        _ if refusal.uncertain => {
            unavailable("an attempt had no response, and the retry was refused")
        }
        ErrorClass::Denied => Error::configuration(format!(
            "{address}: these credentials may not do that ({message}): allow it in their IAM policy"
        )),
        ErrorClass::NotAccepted | ErrorClass::Signature => Error::configuration(format!(
            "{address}: the credentials are not accepted ({code}): check the access key, its secret and the region"
        )),
        ErrorClass::Expired | ErrorClass::Skewed => Error::configuration(format!(
            "{address}: the credentials have expired, or the clock of this machine is wrong ({code}): renew \
             them, for example with aws sso login"
        )),
        _ => return None,
    })
}

/// What errors of a request are about.
#[derive(Clone, Copy)]
pub struct ErrorContext<'a> {
    pub config: &'a Config,
    pub table: &'a Table,
    pub key: Option<&'a Key>,
    /// What the request has done so far.
    pub progress: &'a Cell<Progress>,
}

impl ErrorContext<'_> {
    /// The error for a failure that has no special meaning for the request.
    pub fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => self.refused(&refusal),
            // An error of the credentials concerns no table.
            Failure::Failed(error) if error.kind == ErrorKind::Configuration => error,
            Failure::Failed(error) => self.named(error),
        }
    }

    /// Adds table and key.
    fn named(&self, error: Error) -> Error {
        let error = error.of(self.table);
        match self.key {
            Some(key) => error.at(key),
            None => error,
        }
    }

    /// The error for an error response that has no special meaning for the request.
    pub fn refused(&self, refusal: &ErrorResponse) -> Error {
        self.named(self.explain(refusal))
    }

    fn explain(&self, refusal: &ErrorResponse) -> Error {
        let address = &self.config.address;
        let outcome = self.progress.get().outcome();
        let ErrorResponse { code, message, .. } = refusal;
        let description = refusal.description();
        let unavailable = |text: &str| {
            Error::new(
                ErrorKind::Unavailable(outcome),
                format!("{address}: {text}"),
            )
        };
        if let Some(error) = general(self.config, refusal, outcome) {
            return error;
        }
        match refusal.class {
            ErrorClass::TableMissing => self.table_missing(),
            ErrorClass::TableBusy => {
                unavailable(&format!("the table is being changed ({message})"))
                    .advice("try again later")
            }
            ErrorClass::TableLimit => unavailable(&format!(
                "too many tables exist or are being changed ({message})"
            ))
            .advice("try again later, or raise the limit of the account"),
            ErrorClass::Invalid => self.invalid(message),
            ErrorClass::CollectionFull => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "in a table with local indexes, the items of one partition key may have 10 GB in total ({message}): \
                     spread them over more partition keys"
                ),
            ),
            ErrorClass::Throttled => Error::new(
                ErrorKind::Throttled,
                format!(
                    "{address}: DynamoDB asks for fewer requests to table {:?} ({code})",
                    self.table.name
                ),
            )
            .remedy(Remedy::SlowDown),
            ErrorClass::Conflict => {
                unavailable("other writers keep changing the item").advice("try again")
            }
            _ => unavailable(&format!("the server refused the call ({description})")),
        }
    }

    pub fn table_missing(&self) -> Error {
        let shown = format!("{}{}", self.config.prefix, self.table.name);
        Error::new(
            ErrorKind::TableMissing,
            format!("table {shown:?} does not exist in {}", self.config.address),
        )
        .remedy(Remedy::CreateTable)
    }

    fn invalid(&self, message: &str) -> Error {
        let model = &self.table.model;
        let has = |part: &str| message.contains(part);
        if has("Item size") && has("exceeded") {
            return Error::new(
                ErrorKind::ItemTooLarge,
                "the item would be larger than 409600 bytes, the limit for an item: compress or split its attributes, or \
                 store them elsewhere",
            );
        }
        if has("does not have the specified index") {
            return Error::new(
                ErrorKind::TableMissing,
                format!("table {:?} lacks an index ({message})", self.table.name),
            )
            .remedy(Remedy::CreateTable);
        }
        if has("does not match the schema")
            || has("Missing the key")
            || has("Type mismatch for key")
            || has("number of conditions on the keys")
            || has("required keys was not given")
            || has("missed key schema element")
        {
            return Error::configuration(format!(
                "the key of table {:?} is not the one that {model} declares ({message}): give the model the table's key, \
                 or another table",
                self.table.name
            ));
        }
        if has("Type mismatch for Index Key") || has("type does not match schema type") {
            return Error::configuration(format!(
                "a key of table {:?}, or of one of its indexes, has another type than {model} declares ({message}): give \
                 the attribute the table's type, or the model another table",
                self.table.name
            ));
        }
        if has("document path") {
            return Error::invalid(
                "the path of an update contains a value that is missing, or not a list or map: set the \
                 outer value first",
            );
        }
        if has("38 digits") || has("significant digits") || has("magnitude") {
            return Error::invalid(format!(
                "a sum of an update cannot be stored ({message}): numbers have up to 38 digits and are below \
                 1E+126; set a rounded value"
            ));
        }
        if has("incorrect data type") {
            return Error::invalid(format!(
                "an update of {model} needs a stored value of another type ({message})"
            ));
        }
        Error::invalid(format!(
            "DynamoDB refuses this request of {model}: {message}"
        ))
    }
}
