//! What the service and the network say, in the words of the contract.

use std::cell::Cell;

use mintkey_store::{Error, ErrorKind, Item, Key, Outcome, Table};

use crate::aws::credentials::Identity;
use crate::config::Config;
use crate::transport::http::Response;
use crate::transport::{Fault, Why};
use crate::wire::json::Parser;

/// The characters of a foreign answer that a message shows.
const SHOWN: usize = 80;

/// What a request may have done already when one of its calls fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nothing.
    Nothing,
    /// Earlier calls were carried out, which is known; the failed one was not.
    Earlier,
    /// A write was sent and not answered, so it may have been carried out. No refusal of a later attempt changes that.
    Unsure,
}

impl Progress {
    /// The outcome of a request that ends with a failure now.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Nothing => Outcome::NotApplied,
            Self::Earlier | Self::Unsure => Outcome::Unknown,
        }
    }
}

/// Why a call was not done.
pub enum Failure {
    /// The server refused it, or something that is not the server answered.
    Refused(Box<Refusal>),
    /// Everything else, worded.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An answer other than success.
#[derive(Debug)]
pub struct Refusal {
    /// What it means.
    pub class: Class,
    /// The exception's name; empty if the answer is not DynamoDB's.
    pub code: String,
    /// The exception's message, or what was answered instead of one.
    pub message: String,
    /// The stored item that a condition met.
    pub item: Option<Item>,
    /// Whether an attempt of the same write may have been carried out.
    pub doubtful: bool,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The condition of a write was false.
    ConditionFailed,
    /// There is no such table.
    TableMissing,
    /// The table is being created, changed or deleted.
    TableBusy,
    /// Too many tables are, or are being changed.
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
    /// Too many requests: another attempt may succeed later.
    Throttled,
    /// Another refusal of DynamoDB's.
    Other,
    /// The server, or something before it, failed or is overloaded: whether the call was carried out is unknown, and
    /// another attempt may succeed.
    Failed,
    /// Not an answer of DynamoDB's: whether the call reached it is unknown.
    Foreign,
}

impl Class {
    /// The meaning of an exception's name in an answer with this status. Only a name that DynamoDB uses says that the
    /// call was not carried out.
    fn of(code: &str, status: u16) -> Self {
        let named = match code {
            "ConditionalCheckFailedException" => Self::ConditionFailed,
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
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException" => Self::Throttled,
            "UnknownOperationException" => Self::Other,
            _ => Self::Foreign,
        };
        match (named, status) {
            (Self::Throttled, 400..) => named,
            (_, 500..) | (Self::Foreign, 408 | 429) => Self::Failed,
            (_, 400..) => named,
            _ => Self::Foreign,
        }
    }
}

impl Refusal {
    /// Reads an answer other than success.
    pub fn read(response: &Response, identity: &Identity) -> Self {
        let mut refusal = Self {
            class: Class::Foreign,
            code: String::new(),
            message: String::new(),
            item: None,
            doubtful: false,
        };
        let text = std::str::from_utf8(&response.body).unwrap_or_default();
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
        refusal.class = Class::of(&refusal.code, response.status);
        if refusal.code.is_empty() {
            refusal.message = shown(response, identity);
        }
        refusal
    }

    /// What was answered, for messages.
    fn said(&self) -> String {
        if self.code.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.code, self.message)
        }
    }
}

/// Status and start of an answer that is not DynamoDB's.
fn shown(response: &Response, identity: &Identity) -> String {
    let status = response.status;
    let body = String::from_utf8_lossy(&response.body);
    let words: Vec<&str> = body.split_whitespace().take(SHOWN).collect();
    let words = words.join(" ");
    let start: String = words.chars().take(SHOWN).collect();
    if identity.is_part_of(&start) {
        return format!("status {status}, a body that repeats the credentials");
    }
    match start.as_str() {
        "" => format!("status {status}, no body"),
        start if start.len() < words.len() => format!("status {status}, body {start:?}…"),
        start => format!("status {status}, body {start:?}"),
    }
}

/// Whether an answer of success can be DynamoDB's: the head says so, or says nothing else.
pub fn is_own(response: &Response) -> bool {
    is_marked(response)
        || (response.content_type.as_deref())
            .is_none_or(|kind| kind.starts_with("application/json"))
}

/// Whether the head of an answer is that of a service of AWS, or of one that speaks its protocol. Of these, AWS and
/// DynamoDB Local send a request id; `ScyllaDB` Alternator sends the content type, or can be told not to.
pub fn is_marked(response: &Response) -> bool {
    let kind = response.content_type.as_deref();
    response.is_aws || kind.is_some_and(|kind| kind.starts_with("application/x-amz-json"))
}

/// The error for an answer that is not DynamoDB's, or cannot be read.
pub fn foreign(config: &Config, said: &str, outcome: Outcome) -> Error {
    Error::new(
        ErrorKind::Unavailable(outcome),
        format!(
            "{}: the answer is not DynamoDB's ({said}): {}; check ?endpoint=, and proxies or gateways on the way",
            config.address,
            outcome.words()
        ),
    )
}

/// The error for an answer of success that cannot be read.
pub fn unreadable(
    config: &Config,
    response: &Response,
    identity: &Identity,
    outcome: Outcome,
) -> Error {
    foreign(config, &shown(response, identity), outcome)
}

/// The error for a write of which an attempt may have been carried out, when something else fails before the next.
pub fn interrupted_by(config: &Config, error: Error) -> Error {
    let unknown = Outcome::Unknown;
    match error.kind {
        ErrorKind::Unavailable(Outcome::Unknown)
        | ErrorKind::Timeout(Outcome::Unknown)
        | ErrorKind::Interrupted(_) => error,
        _ => Error::new(
            ErrorKind::Unavailable(unknown),
            format!(
                "{}: an attempt was not answered, and the next one failed ({}): {}",
                config.address,
                error.message,
                unknown.words()
            ),
        )
        .caused_by(error),
    }
}

/// The error for a missing answer.
pub fn fault(config: &Config, fault: &Fault, outcome: Outcome) -> Error {
    let address = &config.address;
    let fate = outcome.words();
    let unavailable = |text: String| {
        Error::new(
            ErrorKind::Unavailable(outcome),
            format!("{address}: {text}: {fate}"),
        )
    };
    match &fault.why {
        Why::Unknown(error) => unavailable(format!(
            "the host's name has no address ({error}); look at the region or ?endpoint="
        )),
        Why::NoThread(error) => Error::new(
            ErrorKind::Unavailable(outcome),
            format!(
                "{address}: no thread can be started that looks up the host's name ({error}): {fate}; allow more \
                 threads (ulimit -u, or the pids limit of the container), or give ?endpoint= an IP address"
            ),
        ),
        Why::Unreachable(error) => {
            unavailable(format!("no connection ({error}); is the server running?"))
        }
        Why::Broken(error) => unavailable(format!("the connection broke ({error})")),
        Why::Garbage => {
            unavailable("the answer is not HTTP; does another service listen there?".to_owned())
        }
        Why::Untrusted(reason) => unavailable(format!("no secure connection ({reason})")),
        Why::Forked => unavailable(
            "this process was forked while it waited for an answer, which its parent gets"
                .to_owned(),
        ),
        Why::ConnectTimeout => Error::new(
            ErrorKind::Timeout(outcome),
            format!(
                "{address}: no connection within {} s: {fate}; is the server running? (?connect_timeout= is longer)",
                config.connect_timeout.as_secs_f64()
            ),
        ),
        Why::Late => Error::new(
            ErrorKind::Timeout(outcome),
            format!(
                "{address}: no answer within {} s: {fate}; try again, or raise ?timeout=",
                config.timeout.as_secs_f64()
            ),
        ),
        Why::Interrupted => Error::new(
            ErrorKind::Interrupted(outcome),
            format!("{address}: interrupted while waiting for an answer: {fate}"),
        ),
    }
}

/// What a refusal is about.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub config: &'a Config,
    pub table: &'a Table,
    pub key: Option<&'a Key>,
    /// What the request has done so far.
    pub progress: &'a Cell<Progress>,
}

impl About<'_> {
    /// The error for a missing answer, or for a refusal that means nothing special to the request.
    pub fn worded(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => self.refused(&refusal),
            // An error of the credentials is about no table.
            Failure::Failed(error) if error.kind == ErrorKind::Configuration => error,
            Failure::Failed(error) => self.placed(error),
        }
    }

    /// Says what it is about.
    fn placed(&self, error: Error) -> Error {
        let error = error.of(self.table);
        match self.key {
            Some(key) => error.at(key),
            None => error,
        }
    }

    /// The error for a refusal that means nothing special to the request.
    pub fn refused(&self, refusal: &Refusal) -> Error {
        self.placed(self.explained(refusal))
    }

    fn explained(&self, refusal: &Refusal) -> Error {
        let address = &self.config.address;
        let outcome = self.progress.get().outcome();
        let fate = outcome.words();
        let Refusal { code, message, .. } = refusal;
        let said = refusal.said();
        let unavailable = |text: &str| {
            Error::new(
                ErrorKind::Unavailable(outcome),
                format!("{address}: {text}: {fate}"),
            )
        };
        match refusal.class {
            Class::Foreign => foreign(self.config, &said, outcome),
            Class::Failed => unavailable(&format!("the server failed ({said})")),
            _ if refusal.doubtful => unavailable(&format!(
                "an attempt was not answered, and the next one was refused ({said})"
            )),
            Class::TableMissing => self.missing(),
            Class::TableBusy | Class::TableLimit => unavailable(&format!(
                "the table is being changed ({message}); try again later"
            )),
            Class::Invalid => self.invalid(message),
            Class::CollectionFull => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: the items of one partition key may have 10 GB together where the table has local indexes \
                     ({message}): spread them over more partition keys",
                    self.table.model
                ),
            ),
            Class::Denied => Error::configuration(format!(
                "{address}: these credentials may not do that ({message}): allow it in their IAM policy"
            )),
            Class::NotAccepted | Class::Signature => Error::configuration(format!(
                "{address}: the credentials are not accepted ({code}): check the access key, its secret and the region"
            )),
            Class::Expired | Class::Skewed => Error::configuration(format!(
                "{address}: the credentials have expired, or the clock of this machine is wrong ({code}): renew \
                 them, for example with aws sso login"
            )),
            Class::Throttled => Error::new(
                ErrorKind::Throttled,
                format!(
                    "{address}: DynamoDB asks for fewer requests to table {:?} ({code}): {fate}; slow down \
                     (rate_limit=), or raise the table's capacity",
                    self.table.name
                ),
            ),
            Class::ConditionFailed | Class::Other => {
                unavailable(&format!("the server refused the call ({said})"))
            }
        }
    }

    /// The table is not there.
    pub fn missing(&self) -> Error {
        let Table { name, model, .. } = self.table;
        let shown = format!("{}{name}", self.config.prefix);
        Error::new(
            ErrorKind::TableMissing,
            format!(
                "there is no table {shown:?} in {}: call {model}.create_table() once",
                self.config.address
            ),
        )
    }

    fn invalid(&self, message: &str) -> Error {
        let model = &self.table.model;
        let has = |part: &str| message.contains(part);
        if has("Item size") && has("exceeded") {
            return Error::new(
                ErrorKind::ItemTooLarge,
                "the item would have more than the 409600 bytes an item may have: compress or split its attributes, \
                 or keep them elsewhere",
            );
        }
        if has("does not have the specified index") {
            return Error::new(
                ErrorKind::TableMissing,
                format!(
                    "table {:?} lacks an index of {model} ({message}): call {model}.create_table() to add it",
                    self.table.name
                ),
            );
        }
        if has("does not match the schema")
            || has("Missing the key")
            || has("Type mismatch for key")
            || has("number of conditions on the keys")
            || has("required keys was not given")
            || has("missed key schema element")
        {
            return Error::configuration(format!(
                "the key of table {:?} is not the one that {model} declares ({message}): give the class the table's \
                 keys, or another table",
                self.table.name
            ));
        }
        if has("Type mismatch for Index Key") || has("type does not match schema type") {
            return Error::configuration(format!(
                "a key of table {:?}, or of an index of it, is of another type than {model} declares ({message}): give \
                 the attribute the table's type, or the class another table",
                self.table.name
            ));
        }
        if has("document path") {
            return Error::invalid(format!(
                "a change of {model} leads through a value that is not there or is no list or map: set the outer \
                 value first"
            ));
        }
        if has("38 digits") || has("significant digits") || has("magnitude") {
            return Error::invalid(format!(
                "a sum would be a number that cannot be stored ({message}): up to 38 digits below 1E+126 can; set a \
                 rounded value"
            ));
        }
        if has("incorrect data type") {
            return Error::invalid(format!(
                "a change of {model} needs a value of another type than the stored one ({message})"
            ));
        }
        Error::invalid(format!(
            "DynamoDB refuses this request on {model}: {message}"
        ))
    }
}
