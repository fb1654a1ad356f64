//! What replies mean: their shapes, and the errors of servers.

use std::fmt;
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Reply, Result, Table};

use crate::protocol::resp::Value;

/// The delay before a call is sent again to a server that could not answer.
pub const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Names and values of fields.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The reply, unless it is an error.
pub fn checked(value: Value, table: &Table) -> Result<Value> {
    match value {
        Value::Error(text) => Err(server_error(&text).of(table)),
        other => Ok(other),
    }
}

/// The error for a reply that has not the shape of the command's replies. If the command writes, the error must be made
/// `uncertain`.
pub fn unexpected_reply(table: &Table) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        "the server sent a reply that Redis does not send: check that a Redis server listens at this address",
    )
    .of(table)
    .caused_by(OutOfSync)
}

/// The cause of an error: the reply may belong to another call. Further replies on the connection may too.
#[derive(Debug)]
pub struct OutOfSync;

impl fmt::Display for OutOfSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply does not belong to the call")
    }
}

impl std::error::Error for OutOfSync {}

/// Whether nothing in the result of a request shows that the replies on a connection may belong to other calls.
pub fn is_in_sync(result: &Result<Reply>) -> bool {
    match result {
        Err(error) => !is_out_of_sync(error),
        Ok(Reply::Written(outcomes)) => {
            let mut errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            !errors.any(is_out_of_sync)
        }
        Ok(_) => true,
    }
}

/// Whether the replies on a connection may belong to other calls, as this error shows.
pub fn is_out_of_sync(error: &Error) -> bool {
    let source = error.source.as_ref();
    source.is_some_and(|source| source.is::<OutOfSync>())
}

/// The names and values in a reply with all fields of a hash.
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

/// The bulk strings of a reply.
pub fn bulks(value: Value, table: &Table) -> Result<Vec<Vec<u8>>> {
    let Value::Array(members) = checked(value, table)? else {
        return Err(unexpected_reply(table));
    };
    members
        .into_iter()
        .map(|member| match member {
            Value::Bulk(bytes) => Ok(bytes),
            _ => Err(unexpected_reply(table)),
        })
        .collect()
}

/// The error that an error reply means.
pub fn server_error(text: &str) -> Error {
    let not_applied =
        |message: String| Error::new(ErrorKind::Unavailable(Outcome::NotApplied), message);
    // For an error in a script, old servers put other words before the code.
    let has_code = |code: &str| {
        let within = [format!(" {code} "), format!(" -{code} ")];
        text.starts_with(code) || within.iter().any(|code| text.contains(code))
    };
    if has_code("WRONGTYPE") {
        Error::configuration(
            "Redis holds a value of another type at a key that mintkey uses: another program writes to this database. \
             Choose a ?prefix=, or another database",
        )
    } else if has_code("OOM") {
        not_applied("Redis has reached its maxmemory".to_owned())
            .advice("delete data, or raise maxmemory")
    } else if has_code("READONLY") {
        not_applied("this Redis is a replica, which refuses writes".to_owned())
            .advice("connect to its primary")
    } else if has_code("MISCONF") {
        not_applied("Redis cannot save to disk, and refuses writes".to_owned())
            .advice("see the log of the server")
    } else if has_code("NOREPLICAS") {
        not_applied(
            "Redis has fewer replicas than min-replicas-to-write, and refuses writes".to_owned(),
        )
    } else if text.contains("without any password configured") {
        Error::configuration(
            "the URL has a password, but this Redis has none for the default user: write the URL without it, name the \
             user as in redis://user:password@host, or set `requirepass` in the server's configuration",
        )
    } else if has_code("NOAUTH") || has_code("WRONGPASS") || text.contains("AUTH") {
        Error::configuration(
            "Redis refuses this user or password: write redis://user:password@host, or redis://:password@host for the default user",
        )
    } else if text.contains("DB index is out of range") {
        Error::configuration(
            "this Redis has no database of that number: use a lower one, as in redis://localhost:6379/0, or raise \
             `databases` in its configuration",
        )
    } else if has_code("NOPERM") {
        Error::configuration(format!(
            "this Redis user lacks a permission: {text}. The guide to Redis lists the commands that a user needs"
        ))
    } else if is_transient(text) {
        not_applied(format!("Redis cannot answer at the moment ({text})"))
    } else if has_code("MOVED") || has_code("ASK") {
        Error::configuration(
            "this server belongs to a Redis Cluster: write redis-cluster://host:6379 instead of redis://host:6379",
        )
    } else if text.contains("max number of clients") {
        not_applied("Redis has reached its maxclients".to_owned())
            .advice("close connections, or raise maxclients")
    } else {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!("Redis returned an error: {text}"),
        )
    }
}

/// Whether an error reply says that the server cannot answer at the moment. Nothing was carried out.
pub fn is_transient(text: &str) -> bool {
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

/// The error for an error reply before the first call of a request: nothing was carried out.
pub fn handshake_error(address: &str, text: &str) -> Error {
    let mut error = server_error(text);
    if let ErrorKind::Unavailable(_) = error.kind {
        error.kind = ErrorKind::Unavailable(Outcome::NotApplied);
    }
    error.message = format!("{address}: {}", error.message);
    if is_transient(text) {
        return error.caused_by(Busy(text.to_owned()));
    }
    error
}

/// The reply of a server that cannot answer at the moment.
#[derive(Debug)]
struct Busy(String);

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Busy {}

/// Whether a connection failed only because the server cannot answer at the moment.
pub fn is_busy(error: &Error) -> bool {
    error
        .source
        .as_ref()
        .is_some_and(|source| source.is::<Busy>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replies to a script that may not write. Redis 6.2 wraps the error of the command, later versions do not.
    #[test]
    fn a_refused_write_is_reported_as_not_applied() {
        for text in [
            "ERR Error running script (call to f_acb2): @user_script:2: @user_script: 2: -OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: acb2, on @user_script:2.",
            "ERR Error running script (call to f_0a9f): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica.",
        ] {
            let error = server_error(text);
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{text}"
            );
        }
        let other =
            server_error("ERR Error running script (call to f_acb2): a BOOM in READONLYNESS");
        assert_eq!(other.kind, ErrorKind::Unavailable(Outcome::Unknown));
    }
}
