//! What replies mean: their shapes, and the errors of servers.

use std::fmt;

use mintkey_store::{Error, ErrorKind, Outcome, Result, Table};

use crate::protocol::resp::Value;

/// Names and values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Refuses what the server refused.
pub fn accepted(value: Value, table: &Table) -> Result<Value> {
    match value {
        Value::Error(text) => Err(refusal(&text).of(table)),
        other => Ok(other),
    }
}

/// A reply of another shape than the command gives.
pub fn unexpected(table: &Table) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::Unknown),
        "the server answers as no Redis does: is something else listening there?",
    )
    .of(table)
}

/// The names and values of a reply with all fields.
pub fn pairs(value: Value) -> Option<Pairs> {
    let Value::Array(members) = value else {
        return None;
    };
    let mut pairs = Vec::with_capacity(members.len() / 2);
    let mut members = members.into_iter();
    while let (Some(name), Some(value)) = (members.next(), members.next()) {
        let (Value::Bulk(name), Value::Bulk(value)) = (name, value) else {
            return None;
        };
        pairs.push((name, value));
    }
    Some(pairs)
}

/// The byte strings of a reply.
pub fn bulks(value: Value, table: &Table) -> Result<Vec<Vec<u8>>> {
    let Value::Array(members) = accepted(value, table)? else {
        return Err(unexpected(table));
    };
    members
        .into_iter()
        .map(|member| match member {
            Value::Bulk(bytes) => Ok(bytes),
            _ => Err(unexpected(table)),
        })
        .collect()
}

/// The error that a server's refusal means.
pub fn refusal(text: &str) -> Error {
    let not_done =
        |message: String| Error::new(ErrorKind::Unavailable(Outcome::NotApplied), message);
    // Inside a script old servers put their own words before the code.
    let says = |code: &str| {
        let within = [format!(" {code} "), format!(" -{code} ")];
        text.starts_with(code) || within.iter().any(|code| text.contains(code))
    };
    if says("WRONGTYPE") {
        Error::configuration(
            "Redis holds a value of another type under a name that mintkey uses: something else writes to \
             this database; choose a ?prefix= or another database",
        )
    } else if says("OOM") {
        not_done("Redis has reached its maxmemory and takes no more: nothing was written; delete something, or raise maxmemory".to_owned())
    } else if says("READONLY") {
        not_done("this Redis is a replica and takes no writes: nothing was written; connect to its primary".to_owned())
    } else if says("MISCONF") {
        not_done("Redis cannot save to its disk and takes no writes: nothing was written; look into its log".to_owned())
    } else if says("NOREPLICAS") {
        not_done("Redis has too few replicas (min-replicas-to-write) and takes no writes: nothing was written".to_owned())
    } else if says("NOAUTH") || says("WRONGPASS") || text.contains("AUTH") {
        Error::configuration(
            "Redis asks for another user or password: write redis://user:password@host, or redis://:password@host for the default user",
        )
    } else if text.contains("DB index is out of range") {
        Error::configuration(
            "this Redis has no database of that number: name a lower one, as in redis://localhost:6379/0, or raise \
             `databases` in its configuration",
        )
    } else if says("NOPERM") {
        Error::configuration(format!(
            "this Redis user may not do that: {text}. The guide to Redis lists the commands that a user needs"
        ))
    } else if is_passing(text) {
        not_done(format!(
            "Redis cannot answer at the moment ({text}): nothing was written"
        ))
    } else if says("MOVED") || says("ASK") {
        Error::configuration(
            "this is a server of a Redis Cluster: write redis-cluster://host:6379 instead of redis://host:6379",
        )
    } else if text.contains("max number of clients") {
        not_done(
            "Redis has as many clients as it takes (maxclients): nothing was written".to_owned(),
        )
    } else {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!("Redis refused: {text}"),
        )
    }
}

/// Whether a refusal passes by itself, and nothing was carried out.
pub fn is_passing(text: &str) -> bool {
    [
        "LOADING ",
        "BUSY ",
        "MASTERDOWN ",
        "CLUSTERDOWN ",
        "TRYAGAIN ",
    ]
    .iter()
    .any(|code| text.starts_with(code))
}

/// A refusal while signing in, or of what has to be known first: nothing was asked of the server yet.
pub fn refused(address: &str, text: &str) -> Error {
    let mut error = refusal(text);
    if let ErrorKind::Unavailable(_) = error.kind {
        error.kind = ErrorKind::Unavailable(Outcome::NotApplied);
    }
    error.message = format!("{address}: {}", error.message);
    if is_passing(text) {
        return error.caused_by(Busy(text.to_owned()));
    }
    error
}

/// What a server replied that cannot answer at the moment.
#[derive(Debug)]
struct Busy(String);

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Busy {}

/// Whether a connection came to nothing only because its server cannot answer at the moment.
pub fn is_busy(error: &Error) -> bool {
    error
        .source
        .as_ref()
        .is_some_and(|source| source.is::<Busy>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers say of a script that may not write: 6.2 wraps the reason up, later ones do not.
    #[test]
    fn a_refused_write_is_known_not_to_have_happened() {
        for text in [
            "ERR Error running script (call to f_acb2): @user_script:2: @user_script: 2: -OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: acb2, on @user_script:2.",
            "ERR Error running script (call to f_0a9f): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica.",
        ] {
            let error = refusal(text);
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{text}"
            );
            assert!(error.message.contains("nothing was written"), "{text}");
        }
        let other = refusal("ERR Error running script (call to f_acb2): a BOOM in READONLYNESS");
        assert_eq!(other.kind, ErrorKind::Unavailable(Outcome::Unknown));
    }
}
