//! Reads a store's address.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mintkey_store::size::MAX_ITEM;
use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;

use crate::eviction_warning::Eviction;
use crate::keyspace::layout::Space;

pub mod tls;

use self::tls::Files;

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A day: more is a mistake in the unit.
const LONGEST_TIMEOUT: f64 = 86_400.0;
/// Redis itself ends at 512 MB a value; JSON takes up to six bytes for one.
const LARGEST_ITEM: usize = 64 * 1024 * 1024;

/// What an address says.
#[derive(Clone)]
pub struct Config {
    /// The address without its password, and of the parameters those that say which store it is, for messages.
    pub address: String,
    /// Where the server listens, or where servers of the Cluster do.
    pub places: Vec<Place>,
    /// How to encrypt, if at all.
    pub encryption: Option<Arc<ClientConfig>>,
    /// The user to sign in as; none: the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// How keys are named.
    pub space: Space,
    /// How long a request may take.
    pub timeout: Duration,
    /// The bytes an item may have.
    pub max_item: usize,
    /// What there is to say about servers that drop rows.
    pub eviction: Arc<Eviction>,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// At a host's port.
    Host(String, u16),
    /// At a socket in the file system.
    Socket(PathBuf),
}

impl Config {
    /// Reads an address. Messages never show what may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (location, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if parameters.contains('@') {
            // A password with a '?': what stands around that is a part of it.
            return Err(wrong(
                "has an '@' after a '?': write %3F for a '?' in the user or password, and %40 for an '@' in a parameter",
            ));
        }
        let (login, location) = match location.rsplit_once('@') {
            Some((login, location)) => (Some(login), location),
            None => (None, location),
        };
        let mut config = Self {
            address: format!("{scheme}://{location}"),
            places: Vec::new(),
            encryption: None,
            user: None,
            password: None,
            database: 0,
            space: Space {
                prefix: String::new(),
                in_buckets: scheme.ends_with("-cluster"),
            },
            timeout: DEFAULT_TIMEOUT,
            max_item: MAX_ITEM,
            eviction: Arc::default(),
        };
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let decoded = |text: &str| -> Result<Option<String>> {
                let text = percent_decode_str(text)
                    .decode_utf8()
                    .map_err(|_| wrong("has a user or password that does not decode to UTF-8"))?;
                Ok((!text.is_empty()).then(|| text.into_owned()))
            };
            (config.user, config.password) = (decoded(user)?, decoded(password)?);
            if config.password.is_none() {
                return Err(wrong(
                    "has a user but no password: write redis://user:password@host, or redis://:password@host \
                     for the default user",
                ));
            }
        }
        config.locate(scheme, location)?;
        let encrypted = scheme.starts_with("rediss");
        let mut files = Files::default();
        let mut seen: Vec<&str> = Vec::new();
        for parameter in parameters
            .split('&')
            .filter(|parameter| !parameter.is_empty())
        {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(wrong(format!("gives {name:?} twice: leave one out")));
            }
            seen.push(name);
            let value = decode(value)?;
            match name {
                "ca" if encrypted => files.ca = Some(value),
                "cert" if encrypted => files.certificate = Some(value),
                "key" if encrypted => files.key = Some(value),
                _ => config.set(scheme, name, &value)?,
            }
        }
        if encrypted {
            config.encryption = Some(tls::client(&files)?);
        }
        let database =
            (scheme == "unix" && config.database != 0).then(|| format!("db={}", config.database));
        let prefix =
            (!config.space.prefix.is_empty()).then(|| format!("prefix={}", config.space.prefix));
        let which: Vec<String> = database.into_iter().chain(prefix).collect();
        if !which.is_empty() {
            config.address = format!("{}?{}", config.address, which.join("&"));
        }
        Ok(config)
    }

    /// Takes in where the servers listen.
    fn locate(&mut self, scheme: &str, location: &str) -> Result<()> {
        // What is in the wrong place may be a part of a password, and is not shown.
        let named = |server: &str, example: &str| {
            host(server).map_err(|what| wrong(format!("{what}: write {example}")))
        };
        if location.contains('#') && scheme != "unix" {
            return Err(wrong(
                "has a '#', which means nothing here: leave it and what is behind it out, or name a database as in \
                 redis://localhost:6379/0",
            ));
        }
        let (servers, database) = location.split_once('/').unwrap_or((location, ""));
        match scheme {
            "redis" | "rediss" => {
                self.places
                    .push(named(servers, "redis://localhost:6379/0")?);
                if !database.is_empty() {
                    self.database = database.parse().map_err(|_| {
                        wrong(
                            "names a database that is not a number: write redis://localhost:6379/0",
                        )
                    })?;
                }
            }
            "redis-cluster" | "rediss-cluster" => {
                if !matches!(database, "" | "0") {
                    return Err(wrong(
                        "names a database: a Cluster has database 0 only; use ?prefix= to keep things apart",
                    ));
                }
                for server in servers.split(',') {
                    let place = named(server, "redis-cluster://host:7000,host:7001")?;
                    self.places.push(place);
                }
            }
            "unix" => {
                let path = decode(location)?;
                if !path.starts_with('/') || path.contains('\0') {
                    return Err(wrong("names no socket: write unix:///run/redis/redis.sock"));
                }
                self.places.push(Place::Socket(PathBuf::from(path)));
            }
            _ => {
                return Err(wrong(
                    "has a scheme that Redis does not have: write redis://localhost:6379/0, or \
                     unix:///run/redis/redis.sock",
                ));
            }
        }
        Ok(())
    }

    fn set(&mut self, scheme: &str, name: &str, value: &str) -> Result<()> {
        let address = self.address.clone();
        let wrong = |wanted: &str| {
            Error::configuration(format!(
                "{address}: {name}={value} is not possible: {name} is {wanted}"
            ))
        };
        match name {
            "prefix" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                if value.is_empty() || !value.chars().all(plain) {
                    return Err(wrong(
                        "made of letters, digits, '_', '.' and '-'; a '/' is set behind it",
                    ));
                }
                value.clone_into(&mut self.space.prefix);
            }
            "db" if scheme == "unix" => {
                self.database = value
                    .parse()
                    .map_err(|_| wrong("the number of a database"))?;
            }
            "timeout" => {
                let seconds = value
                    .parse()
                    .ok()
                    .filter(|s| *s > 0.0 && *s <= LONGEST_TIMEOUT);
                self.timeout = Duration::from_secs_f64(
                    seconds.ok_or_else(|| wrong("a number of seconds above 0, up to 86400"))?,
                );
            }
            "max_item" => {
                let bytes = value
                    .parse()
                    .ok()
                    .filter(|b| (MAX_ITEM..=LARGEST_ITEM).contains(b));
                self.max_item = bytes.ok_or_else(|| {
                    wrong(&format!(
                        "a number of bytes from {MAX_ITEM} to {LARGEST_ITEM}"
                    ))
                })?;
            }
            _ => {
                return Err(Error::configuration(format!(
                    "{address} has an unknown parameter {name:?}: there are prefix, timeout and max_item, \
                     db for unix://, and ca, cert and key for rediss:// and rediss-cluster://"
                )));
            }
        }
        Ok(())
    }
}

fn wrong(what: impl Display) -> Error {
    Error::configuration(format!("this Redis address {what}"))
}

/// The place that a part of an address names, or what is wrong with it.
fn host(authority: &str) -> std::result::Result<Place, &'static str> {
    const WRONG_PORT: &str = "has a port that is no number from 1 to 65535";
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest
                .split_once(']')
                .ok_or("opens a '[' that it does not close")?;
            match behind.strip_prefix(':') {
                None if !behind.is_empty() => return Err(WRONG_PORT),
                port => (host, port),
            }
        }
        None if authority.matches(':').count() > 1 => {
            return Err(
                "has more than one ':' (an IPv6 address stands in brackets, as in redis://[::1]:6379)",
            );
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("names no host");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(WRONG_PORT)?,
    };
    Ok(Place::Host(host.to_owned(), port))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        Error::configuration("a part of this Redis address does not decode to UTF-8")
    })?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_addresses() {
        let config =
            Config::parse("redis://me:s%40crt@db.example:7000/3?prefix=shop&timeout=0.5").unwrap();
        assert_eq!(config.places, [Place::Host("db.example".to_owned(), 7000)]);
        assert_eq!(config.user.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("s@crt"));
        assert_eq!((config.database, config.space.prefix.as_str()), (3, "shop"));
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.address, "redis://db.example:7000/3?prefix=shop");
        let config = Config::parse("redis://[::1]").unwrap();
        assert_eq!(config.places, [Place::Host("::1".to_owned(), 6379)]);
        let config = Config::parse("unix:///run/r%20s.sock?db=2").unwrap();
        assert_eq!(config.places, [Place::Socket("/run/r s.sock".into())]);
        assert_eq!(config.database, 2);
        assert_eq!(config.address, "unix:///run/r%20s.sock?db=2");
    }

    #[test]
    fn reads_addresses_of_a_cluster() {
        let config =
            Config::parse("redis-cluster://:pw@a:7000,b,[::1]:7002/0?prefix=shop").unwrap();
        let wanted = [("a", 7000), ("b", 6379), ("::1", 7002)];
        let wanted = wanted.map(|(host, port)| Place::Host(host.to_owned(), port));
        assert_eq!(config.places, wanted);
        assert!(config.space.in_buckets && config.encryption.is_none());
        assert_eq!(
            config.address,
            "redis-cluster://a:7000,b,[::1]:7002/0?prefix=shop"
        );
        assert_eq!(config.password.as_deref(), Some("pw"));
    }

    #[test]
    fn refuses_what_is_no_address() {
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
        fn shows_no_password(
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
