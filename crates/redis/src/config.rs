//! Reads the URL of a store.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mintkey_runtime::{Address, Host, Notices, Parameters, Tls};
use mintkey_store::size::MAX_ITEM;
use mintkey_store::{Error, Result};

use crate::eviction_warning::EvictionWarning;
use crate::keyspace::layout::Keyspace;

const SCHEMES: [&str; 5] = ["redis", "rediss", "redis-cluster", "rediss-cluster", "unix"];
const SERVER: &str = "redis://localhost:6379/0";
const CLUSTER: &str = "redis-cluster://host:7000,host:7001";
const SOCKET: &str = "unix:///run/redis/redis.sock";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A value in Redis has at most 512 MB, and JSON takes up to six bytes for one.
const LARGEST_MAX_ITEM: usize = 64 * 1024 * 1024;

/// The largest size of a reply by default: a script may return 128 rows.
const MAX_REPLY: usize = 512 * 1024 * 1024;
/// The bytes of a reply for each byte of an item: JSON takes up to six, and each field has a length and a line end.
const REPLY_PER_ITEM: usize = 8;
/// A reply may have 1,025 members of an index, of which each contains up to four key values.
const LEAST_MAX_REPLY: usize = 16 * 1024 * 1024;

/// The configuration in a URL.
#[derive(Clone)]
pub struct Config {
    /// The address without user and password, and the parameters that identify the store, for messages.
    pub address: String,
    /// The server, or servers of the Cluster.
    pub endpoints: Vec<Endpoint>,
    /// How connections are encrypted; none: they are not.
    pub tls: Option<Arc<Tls>>,
    /// The user; none: the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// The names of keys.
    pub keyspace: Keyspace,
    /// The time limit of a request.
    pub timeout: Duration,
    /// The largest size of an item, in bytes.
    pub max_item: usize,
    /// The largest size of a reply, in bytes.
    pub max_reply: usize,
    /// The warning about servers that evict rows.
    pub eviction: Arc<EvictionWarning>,
    /// The reports for the log of the program.
    pub notices: Arc<Notices>,
}

/// The endpoint of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// A host and port.
    Host(String, u16),
    /// A Unix domain socket.
    Socket(PathBuf),
}

impl From<&Host> for Endpoint {
    fn from(host: &Host) -> Self {
        Self::Host(host.name.clone(), host.port.unwrap_or(DEFAULT_PORT))
    }
}

impl Config {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self> {
        let example = match url.split_once("://") {
            Some(("unix", _)) => SOCKET,
            Some(("redis-cluster" | "rediss-cluster", _)) => CLUSTER,
            _ => SERVER,
        };
        let (address, mut parameters) = Address::parse(url, &SCHEMES, example)?;
        if address.user.is_some() && address.password.is_none() {
            return Err(wrong(
                "has a user but no password: write user:password@ before the host, or :password@ for the \
                 default user",
            ));
        }
        let endpoints = endpoints(&address)?;
        let prefix = prefix(&mut parameters)?.unwrap_or_default();
        let timeout = parameters.take_seconds("timeout")?;
        let max_item = parameters.take_number("max_item", MAX_ITEM..=LARGEST_MAX_ITEM)?;
        let least = LEAST_MAX_REPLY.max(REPLY_PER_ITEM * max_item.unwrap_or(MAX_ITEM));
        let max_reply = parameters.take_number("max_reply", least..=isize::MAX.unsigned_abs())?;
        let database = database(&address, &mut parameters)?;
        let tls = tls(&address, &mut parameters)?;
        parameters.end()?;
        let db = (address.scheme == "unix" && database != 0).then(|| ("db", database.to_string()));
        let which = (!prefix.is_empty()).then(|| ("prefix", prefix.clone()));
        Ok(Self {
            address: address.with_parameters(db.into_iter().chain(which)),
            endpoints,
            tls,
            user: address.user,
            password: address.password,
            database,
            keyspace: Keyspace {
                prefix,
                clustered: address.scheme.ends_with("-cluster"),
            },
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            max_item: max_item.unwrap_or(MAX_ITEM),
            max_reply: max_reply.unwrap_or(MAX_REPLY.max(least)),
            eviction: Arc::default(),
            notices: Arc::default(),
        })
    }
}

/// The endpoints of the servers.
fn endpoints(address: &Address) -> Result<Vec<Endpoint>> {
    match (address.scheme, address.hosts.as_slice()) {
        ("unix", []) if address.path.starts_with('/') => {
            Ok(vec![Endpoint::Socket(PathBuf::from(&address.path))])
        }
        ("unix", _) => Err(wrong(format!("names no socket: write {SOCKET}"))),
        ("redis-cluster" | "rediss-cluster", []) => {
            Err(wrong(format!("names no host: write {CLUSTER}")))
        }
        (_, []) => Err(wrong(format!("names no host: write {SERVER}"))),
        ("redis" | "rediss", [_, _, ..]) => Err(wrong(format!(
            "names more than one host: write {SERVER}, or for a Cluster {CLUSTER}"
        ))),
        (_, hosts) => Ok(hosts.iter().map(Endpoint::from).collect()),
    }
}

/// The number of the database: the path, or for a socket the parameter `db`.
fn database(address: &Address, parameters: &mut Parameters) -> Result<u32> {
    const NUMBER: &str = "the number of a database";
    if address.scheme == "unix" {
        let number = parameters.take_as("db", NUMBER, |value| value.parse().ok())?;
        return Ok(number.unwrap_or(0));
    }
    if let Some(value) = parameters.take("db") {
        let wanted = format!("the database in the path, as in {SERVER}");
        return Err(parameters.invalid("db", &value, wanted));
    }
    if address.path.contains('#') {
        return Err(wrong(format!(
            "has a '#' in its path, where it has no meaning: name a database as in {SERVER}"
        )));
    }
    let database = address.path.strip_prefix('/').unwrap_or("");
    match (address.scheme, database) {
        (_, "" | "0") => Ok(0),
        ("redis" | "rediss", database) => database.parse().map_err(|_| {
            wrong(format!(
                "names a database that is not a number: write {SERVER}"
            ))
        }),
        _ => Err(wrong(
            "names a database, and a Cluster has database 0 only: use ?prefix= to keep stores apart",
        )),
    }
}

fn prefix(parameters: &mut Parameters) -> Result<Option<String>> {
    let wanted = "letters, digits, '_', '.' and '-'; a '/' is added after them";
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    parameters.take_as("prefix", wanted, |value| {
        (!value.is_empty() && value.chars().all(allowed)).then(|| value.to_owned())
    })
}

/// How connections are encrypted, if the scheme says so.
fn tls(address: &Address, parameters: &mut Parameters) -> Result<Option<Arc<Tls>>> {
    if address.scheme.starts_with("rediss") {
        return Ok(Some(Arc::new(Tls::take(parameters, None)?)));
    }
    for name in ["ca", "cert", "key"] {
        if parameters.take(name).is_some() {
            return Err(Error::configuration(format!(
                "{address}: {name}= is for encrypted connections: write rediss:// or rediss-cluster://"
            )));
        }
    }
    Ok(None)
}

fn wrong(what: impl Display) -> Error {
    Error::configuration(format!("the store's URL {what}"))
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_parsed() {
        let config =
            Config::parse("redis://me:s%40crt@db.example:7000/3?prefix=shop&timeout=0.5").unwrap();
        assert_eq!(
            config.endpoints,
            [Endpoint::Host("db.example".to_owned(), 7000)]
        );
        assert_eq!(config.user.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("s@crt"));
        assert_eq!(
            (config.database, config.keyspace.prefix.as_str()),
            (3, "shop")
        );
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.address, "redis://db.example:7000/3?prefix=shop");
        let config = Config::parse("redis://[::1]").unwrap();
        assert_eq!(config.endpoints, [Endpoint::Host("::1".to_owned(), 6379)]);
        let config = Config::parse("unix:///run/r%20s.sock?db=2").unwrap();
        assert_eq!(config.endpoints, [Endpoint::Socket("/run/r s.sock".into())]);
        assert_eq!(config.database, 2);
        assert_eq!(config.address, "unix:///run/r%20s.sock?db=2");
    }

    #[test]
    fn urls_of_a_cluster_are_parsed() {
        let config =
            Config::parse("redis-cluster://:pw@a:7000,b,[::1]:7002/0?prefix=shop").unwrap();
        let wanted = [("a", 7000), ("b", 6379), ("::1", 7002)];
        let wanted = wanted.map(|(host, port)| Endpoint::Host(host.to_owned(), port));
        assert_eq!(config.endpoints, wanted);
        assert!(config.keyspace.clustered && config.tls.is_none());
        assert_eq!(
            config.address,
            "redis-cluster://a:7000,b,[::1]:7002/0?prefix=shop"
        );
        assert_eq!(config.password.as_deref(), Some("pw"));
    }

    #[test]
    fn invalid_urls_are_refused() {
        for url in [
            "redis://",
            "redis://host:0",
            "redis://host:99999",
            "redis://:6379",
            "redis://::1",
            "redis://[::1",
            "redis://[::1]6379",
            "redis://host#part",
            "redis://host/0#part",
            "redis://host:port",
            "redis://host/x",
            "redis://user@host",
            "redis://host?prefix=",
            "redis://host?prefix=a:b",
            "redis://host?timeout=0",
            "redis://host?timeout=1&timeout=2",
            "redis://host?max_item=5",
            "redis://host?max_reply=1000",
            "redis://host?max_reply=20000000&max_item=4000000",
            "redis://host?max_reply=1g",
            "redis://host?db=1",
            "redis://host?sync=full",
            "redis://host?ca=/x",
            "rediss://host?ca=/a@b",
            "redis-cluster://",
            "redis-cluster://a:1,",
            "redis-cluster://a:1,b:x",
            "redis-cluster://a:1/3",
            "redis-cluster://a:1?ca=/x",
            "rediss://host?ca=/nowhere/ca.pem",
            "unix://relative",
            "http://host",
        ] {
            let Err(error) = Config::parse(url) else {
                panic!("{url}");
            };
            assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration, "{url}");
        }
    }

    proptest! {
        /// A password is read whole or refused, and never shown.
        #[test]
        fn a_password_is_never_shown(
            secret in "(64738|HUSH|[a-z]{0,2})[@/#:%?&=,+\\[\\] ]{0,2}HUSH[!-~]{0,6}",
            scheme in "redis|rediss|redis-cluster|rediss-cluster|unix|bad|",
            user in "|me",
            rest in "host|host:64739/3|host:0|host:x|[::1]|/run/x\\.sock|a:1,b:2|host/x|host#x||",
            parameters in "|\\?db=1|\\?prefix=shop|\\?prefix=|\\?x=1|\\?timeout=0|\\?ca=/nowhere|\\?db=2&db=2",
        ) {
            let url = format!("{scheme}://{user}:{secret}@{rest}{parameters}");
            match Config::parse(&url) {
                Ok(config) => {
                    let decoded = percent_decode_str(&secret).decode_utf8().unwrap();
                    prop_assert_eq!(config.password.as_deref(), Some(&*decoded));
                    prop_assert!(!shows(&config.address), "{} of {}", config.address, url);
                }
                Err(error) => {
                    prop_assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration);
                    prop_assert!(!shows(&error.message), "{} of {}", error.message, url);
                }
            }
        }
    }

    fn shows(text: &str) -> bool {
        text.contains("HUSH") || text.contains("64738")
    }
}
