//! What replies mean: their shapes, and the errors of servers.

use std::fmt;
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Reply, Result, Table};

use crate::protocol::resp::Value;
use crate::protocol::unique_scripts::{failed_command, may_follow_write};

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
    .caused_by(Cause::OutOfSync)
}

/// The error for data of a table that mintkey does not write.
pub fn damaged(table: &Table, what: &str, problem: &str) -> Error {
    Error::configuration(format!(
        "{what} of table {:?} {problem}: another program wrote to it, or it is damaged",
        table.name
    ))
    .of(table)
}

/// The cause of an error that decides what follows.
#[derive(Debug)]
pub enum Cause {
    /// The reply may belong to another call. Further replies on the connection may too.
    OutOfSync,
    /// The server cannot answer at the moment, as this reply says.
    Busy(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfSync => "the reply does not belong to the call",
            Self::Busy(reply) => reply,
        })
    }
}

impl std::error::Error for Cause {}

fn cause(error: &Error) -> Option<&Cause> {
    error.source.as_ref()?.downcast_ref()
}

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
    matches!(cause(error), Some(Cause::OutOfSync))
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

/// Whether a reply says that the server has not carried out the call.
pub fn is_refusal(value: &Value) -> bool {
    let Value::Error(text) = value else {
        return false;
    };
    server_error(text).kind != ErrorKind::Unavailable(Outcome::Unknown)
}

/// Whether a replica has refused to write.
pub fn is_from_replica(value: &Value) -> bool {
    matches!(value, Value::Error(text) if has_code(text, "READONLY"))
}

/// Whether an error reply has this code. For an error in a script, old servers put other words before the code.
fn has_code(text: &str, code: &str) -> bool {
    let within = [format!(" {code} "), format!(" -{code} ")];
    text.starts_with(code) || within.iter().any(|code| text.contains(code))
}

/// The error that an error reply means.
pub fn server_error(text: &str) -> Error {
    if is_denied(text) {
        return denied(text);
    }
    let not_applied =
        |message: &str| Error::new(ErrorKind::Unavailable(Outcome::NotApplied), message);
    let has_code = |code: &str| has_code(text, code);
    if has_code("WRONGTYPE") {
        Error::configuration(
            "Redis holds a value of another type at a key that mintkey uses: another program writes to this database. \
             Choose a ?prefix=, or another database",
        )
    } else if has_code("OOM") {
        not_applied("Redis has reached its maxmemory").advice("delete data, or raise maxmemory")
    } else if has_code("READONLY") {
        not_applied("this Redis is a replica, which refuses writes")
            .advice("connect to its primary")
    } else if has_code("MISCONF") {
        not_applied("Redis cannot save to disk, and refuses writes")
            .advice("see the log of the server")
    } else if has_code("NOREPLICAS") {
        not_applied("Redis has fewer replicas than min-replicas-to-write, and refuses writes")
            .advice("start its replicas, or lower min-replicas-to-write")
    } else if text.contains("without any password configured") {
        Error::configuration(
            "the URL has a password, but this Redis has none for the default user: write the URL without it, name the \
             user, user:password@ before the host, or set `requirepass` in the server's configuration",
        )
    } else if has_code("NOAUTH") || has_code("WRONGPASS") || text.contains("AUTH") {
        Error::configuration(
            "Redis refuses this user or password: put user:password@ before the host, or :password@ for the default user",
        )
    } else if text.contains("DB index is out of range") {
        Error::configuration(
            "this Redis has no database of that number: use a lower one, as in redis://localhost:6379/0, or raise \
             `databases` in its configuration",
        )
    } else if has_code("DENIED") {
        Error::configuration(
            "this Redis is in protected mode, and accepts only connections from its own machine: set a password \
             (`requirepass`) in its configuration, or `protected-mode no`",
        )
    } else if is_transient(text) {
        not_applied(&format!("Redis cannot answer at the moment ({text})"))
            .advice("try again later, or raise ?timeout= to wait longer")
    } else if has_code("MOVED") || has_code("ASK") {
        Error::configuration(
            "this server belongs to a Redis Cluster: write redis-cluster://host:6379 instead of redis://host:6379",
        )
    } else if text.contains("cluster support disabled") {
        Error::configuration(
            "this server belongs to no Redis Cluster: write redis://host:6379 instead of redis-cluster://host:6379",
        )
    } else if text.contains("max number of clients") {
        not_applied("Redis has reached its maxclients")
            .advice("close connections, or raise maxclients")
    } else {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!("Redis returned an error: {text}"),
        )
    }
}

/// Whether an error reply says that the server does not carry out this command: it has no such command, or the user may not
/// call it. In scripts, servers before 7.2 use words of their own.
pub fn is_denied(text: &str) -> bool {
    text.contains("NOPERM ")
        || text.contains("The user executing the script can't")
        || has_no_command(text)
}

/// Whether an error reply says that the server has no such command. `rename-command` removes commands.
fn has_no_command(text: &str) -> bool {
    text.starts_with("ERR unknown command") || text.contains("Unknown Redis command called from")
}

/// The error for a command that the server does not carry out. A script that it ends may have written a part.
fn denied(text: &str) -> Error {
    // The arguments of an unknown command may be values.
    let quoted = text.split(['\'', '`']).nth(1);
    let command = failed_command(text);
    let reason = if has_no_command(text) {
        let command = command.or(quoted).unwrap_or("that a script calls");
        format!("this Redis has no command {command}: `rename-command` may have removed it")
    } else {
        let (reason, _) = text.split_once(" script: ").unwrap_or((text, ""));
        let command = command.map_or_else(String::new, |command| format!(" ({command})"));
        format!("this Redis user lacks a permission: {reason}{command}")
    };
    if may_follow_write(text) {
        return Error::new(ErrorKind::Unavailable(Outcome::Unknown), reason).advice(
            "allow the command, and repeat the write: a part of it may be done. The guide to Redis lists the commands \
             that a user needs",
        );
    }
    Error::configuration(format!(
        "{reason}. The guide to Redis lists the commands that a user needs"
    ))
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
        return error.caused_by(Cause::Busy(text.to_owned()));
    }
    error
}

/// Whether a connection failed only because the server cannot answer at the moment.
pub fn is_busy(error: &Error) -> bool {
    matches!(cause(error), Some(Cause::Busy(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::scripts::REMOVE;

    /// The replies to a script that may not write. Redis 6.2 wraps the error of the command, later versions do not.
    #[test]
    fn a_refused_write_is_reported_as_not_applied() {
        for text in [
            "ERR Error running script (call to f_acb2): @user_script:2: @user_script: 2: -OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: acb2, on @user_script:2.",
            "ERR Error running script (call to f_0a9f): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOREPLICAS Not enough good replicas to write.",
            "CLUSTERDOWN Hash slot not served",
            "ERR max number of clients reached",
        ] {
            let error = server_error(text);
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{text}"
            );
            assert!(error.remedy.is_some(), "{text}");
            assert!(is_refusal(&Value::Error(text.to_owned())), "{text}");
        }
        let unknown = "ERR Error running script (call to f_acb2): a BOOM in READONLYNESS";
        let other = server_error(unknown);
        assert_eq!(other.kind, ErrorKind::Unavailable(Outcome::Unknown));
        assert!(!is_refusal(&Value::Error(unknown.to_owned())));
        assert!(!is_refusal(&Value::Status("OK".to_owned())));
    }

    /// Redis 6.2, 7.0 and 7.2 use different words, and the first two do not name the command that a script calls.
    #[test]
    fn a_command_that_is_not_carried_out_is_named() {
        let digest = REMOVE.digest();
        let source = REMOVE.source().lines().collect::<Vec<_>>();
        let line = |command| source.iter().position(|line| line.contains(command));
        let zrem = 1 + line("'ZREM'").unwrap();
        let del = 1 + line("'DEL'").unwrap();
        for (text, named, may_have_written) in [
            (
                "NOPERM this user has no permissions to run the 'hgetall' command",
                "'hgetall'",
                false,
            ),
            (
                "NOPERM User few has no permissions to run the 'zrem' command script: 12, on @user_script:3.",
                "'zrem' command",
                true,
            ),
            (
                &format!(
                    "ERR The user executing the script can't run this command or subcommand script: {digest}, on @user_script:{zrem}."
                ),
                "subcommand (ZREM)",
                false,
            ),
            (
                &format!(
                    "ERR Error running script (call to f_{digest}): @user_script:{zrem}: @user_script: {zrem}: \
                     The user executing the script can't run this command or subcommand"
                ),
                "subcommand (ZREM)",
                false,
            ),
            (
                &format!(
                    "ERR Unknown Redis command called from script script: {digest}, on @user_script:{zrem}."
                ),
                "no command ZREM: `rename-command`",
                false,
            ),
            (
                &format!(
                    "NOPERM User few has no permissions to run the 'del' command script: {digest}, on @user_script:{del}."
                ),
                "'del' command (DEL)",
                true,
            ),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: 'secret' ",
                "no command EVALSHA: `rename-command`",
                false,
            ),
            (
                "ERR unknown command `EVALSHA`, with args beginning with: `secret`, ",
                "no command EVALSHA: `rename-command`",
                false,
            ),
        ] {
            let error = server_error(text);
            let kind = if may_have_written {
                ErrorKind::Unavailable(Outcome::Unknown)
            } else {
                ErrorKind::Configuration
            };
            assert_eq!(error.kind, kind, "{text}");
            assert!(error.message.contains(named), "{}", error.message);
            let shown = format!("{} {:?}", error.message, error.remedy);
            assert!(shown.contains("The guide to Redis"), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
            let refused = is_refusal(&Value::Error(text.to_owned()));
            assert_eq!(refused, !may_have_written, "{text}");
        }
    }
}
