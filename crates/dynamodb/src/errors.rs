//! What the service and the network say, in the words of the contract.

use mintkey_store::{Error, ErrorKind, Key, Outcome, Table};

use crate::calls::{Failure, Refusal};
use crate::link::{Fault, Why};
use crate::store::Inner;

/// The kinds of refusal that matter before anybody knows what was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Not carried out, and welcome later.
    Throttled,
    /// The server failed: whether it was carried out, nobody knows.
    Broken,
    /// The credentials have expired.
    Expired,
    /// The signature is not accepted, perhaps because of the clock.
    Signature,
    /// Everything else.
    Final,
}

/// The kind of a refusal.
pub fn classify(refusal: &Refusal, status: u16) -> Class {
    match refusal.code.as_str() {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException" => Class::Throttled,
        "ExpiredTokenException" | "ExpiredToken" => Class::Expired,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "RequestInTheFuture"
        | "AuthFailure" => Class::Signature,
        _ if status == 429 => Class::Throttled,
        _ if status >= 500 => Class::Broken,
        _ => Class::Final,
    }
}

/// The error for a missing answer.
pub fn fault(inner: &Inner, fault: &Fault, outcome: Outcome) -> Error {
    let config = &inner.config;
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
            unavailable("the answer is no HTTP; does something else listen there?".to_owned())
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
    pub inner: &'a Inner,
    pub table: &'a Table,
    pub key: Option<&'a Key>,
    /// Whether it was a write.
    pub writes: bool,
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
        let address = &self.inner.config.address;
        let Refusal { code, message, .. } = refusal;
        let outcome = if self.writes && refusal.doubtful {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        let unavailable = |text: &str| {
            Error::new(
                ErrorKind::Unavailable(outcome),
                format!("{address}: {text}: {}", outcome.words()),
            )
        };
        match code.as_str() {
            _ if outcome == Outcome::Unknown => unavailable(&format!(
                "the connection broke or the server failed, and then it answered {code} ({message})"
            )),
            "ResourceNotFoundException" => self.missing(),
            "ResourceInUseException" | "LimitExceededException" | "TableInUseException" => {
                unavailable(&format!(
                    "the table is being changed ({message}); try again later"
                ))
            }
            "ValidationException" => self.invalid(message),
            "ItemCollectionSizeLimitExceededException" => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: the items of one partition key may have 10 GB together where the table has local indexes \
                     ({message}): spread them over more partition keys",
                    self.table.model
                ),
            ),
            "AccessDeniedException" | "AccessDenied" => Error::configuration(format!(
                "{address}: these credentials may not do that ({message}): allow it in their IAM policy"
            )),
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignatureException"
            | "IncompleteSignature"
            | "InvalidClientTokenId"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "AuthFailure"
            | "OptInRequired" => Error::configuration(format!(
                "{address}: the credentials are not accepted ({code}): look at the access key, its secret and the \
                 region"
            )),
            "ExpiredTokenException"
            | "ExpiredToken"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "RequestInTheFuture" => Error::configuration(format!(
                "{address}: the credentials have expired, or the clock of this machine is wrong ({code}): renew \
                 them, for example with aws sso login"
            )),
            "" => unavailable(
                "the answer is none of DynamoDB's; does something else stand between, or listen at this endpoint?",
            ),
            _ if matches!(crate::errors::classify(refusal, 0), Class::Throttled) => Error::new(
                ErrorKind::Throttled,
                format!(
                    "{address}: DynamoDB asks for fewer requests to table {:?} ({code}): nothing was done; slow down \
                     (rate_limit=), or raise the table's capacity",
                    self.table.name
                ),
            ),
            _ => unavailable(&format!("the server answered {code} ({message})")),
        }
    }

    /// The table is not there.
    pub fn missing(&self) -> Error {
        let Table { name, model, .. } = self.table;
        let shown = format!("{}{name}", self.inner.config.prefix);
        Error::new(
            ErrorKind::TableMissing,
            format!(
                "there is no table {shown:?} in {}: call {model}.create_table() once",
                self.inner.config.address
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
