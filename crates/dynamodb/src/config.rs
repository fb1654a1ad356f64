//! The address of a store: region, endpoint and parameters.

use std::fmt;
use std::time::Duration;

use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;

const SCHEME: &str = "dynamodb://";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A day: a longer timeout is a mistake in the unit.
const LONGEST_TIMEOUT: f64 = 86_400.0;
const DEFAULT_RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 100;
const PARAMETERS: &str =
    "endpoint, profile, table_prefix, timeout, connect_timeout, retries and capacity";

/// The parsed address of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The address for messages: with the parameters that tell stores apart, without all others.
    pub address: String,
    /// The region; `None`: from the environment or the profile.
    pub region: Option<String>,
    /// The server; `None`: from the environment, or AWS's server in the region.
    pub endpoint: Option<Endpoint>,
    /// The profile in AWS's files.
    pub profile: Option<String>,
    /// The prefix of all table names.
    pub prefix: String,
    /// The time limit of a request with all its attempts.
    pub timeout: Duration,
    /// The time limit of connecting.
    pub connect_timeout: Duration,
    /// The number of retries of a call.
    pub retries: u32,
    /// Read and write units of new tables; `None`: on demand.
    pub capacity: Option<(u32, u32)>,
}

impl Config {
    /// Parses an address.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Err(Error::configuration(
                "this is not a DynamoDB address: write dynamodb://eu-central-1, or \
                 dynamodb://us-east-1?endpoint=http://localhost:8000 for a local server",
            ));
        };
        let (region, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let region = region.trim_end_matches('/');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        // An address with a login may have a '?' or '&' in its secret. The name of a profile may contain '@'.
        let mut parts = rest.split(['?', '&']);
        let has_login = parts.any(|part| part.contains('@') && !part.starts_with("profile="));
        if has_login || !region.bytes().all(allowed) {
            // The address is not shown: it may contain a secret.
            return Err(Error::configuration(
                "a DynamoDB address begins with a region, as in dynamodb://eu-central-1, and contains no credentials: \
                 AWS's chain finds them (environment, profile, role); write ?profile=name for a profile",
            ));
        }
        let mut config = Self {
            address: format!("{SCHEME}{region}"),
            region: (!region.is_empty()).then(|| region.to_owned()),
            endpoint: None,
            profile: None,
            prefix: String::new(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            retries: DEFAULT_RETRIES,
            capacity: None,
        };
        let mut seen: Vec<&str> = Vec::new();
        for parameter in parameters.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(Error::configuration(format!(
                    "{}: parameter {name:?} is given twice: remove one",
                    config.address
                )));
            }
            seen.push(name);
            let value = percent_decode_str(value).decode_utf8().map_err(|error| {
                Error::configuration(format!(
                    "{}: the value of {name:?} does not decode to UTF-8",
                    config.address
                ))
                .caused_by(error)
            })?;
            config.set(name, &value)?;
        }
        let endpoint = config
            .endpoint
            .as_ref()
            .map(|endpoint| format!("endpoint={endpoint}"));
        let prefix = (!config.prefix.is_empty()).then(|| format!("table_prefix={}", config.prefix));
        let shown: Vec<String> = endpoint.into_iter().chain(prefix).collect();
        if !shown.is_empty() {
            config.address = format!("{}?{}", config.address, shown.join("&"));
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let address = self.address.clone();
        let wrong = |wanted: &str| {
            Error::configuration(format!(
                "{address}: {name}={value} is not valid: {name} is {wanted}"
            ))
        };
        let seconds = || {
            value
                .parse()
                .ok()
                .filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST_TIMEOUT)
                .map(Duration::from_secs_f64)
                .ok_or_else(|| wrong("a number of seconds above 0, up to 86400"))
        };
        match name {
            "endpoint" => self.endpoint = Some(Endpoint::parse(value)?),
            "profile" if value.is_empty() => {
                return Err(wrong("the name of a profile in ~/.aws/config"));
            }
            "profile" => self.profile = Some(value.to_owned()),
            "table_prefix" => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                if !value.bytes().all(allowed) {
                    return Err(wrong("made of letters, digits, _ . and -"));
                }
                value.clone_into(&mut self.prefix);
            }
            "timeout" => self.timeout = seconds()?,
            "connect_timeout" => self.connect_timeout = seconds()?,
            "retries" => {
                let retries = value.parse().ok().filter(|count| *count <= MOST_RETRIES);
                self.retries = retries.ok_or_else(|| wrong("a whole number from 0 to 100"))?;
            }
            "capacity" => {
                let units = |text: &str| text.parse().ok().filter(|units| *units > 0);
                let both = value
                    .split_once(',')
                    .and_then(|(read, write)| Some((units(read)?, units(write)?)));
                self.capacity =
                    Some(both.ok_or_else(|| wrong("read and write units, 5,5 for example"))?);
            }
            _ => {
                return Err(Error::configuration(format!(
                    "{address}: parameter {name:?} is unknown: the parameters are {PARAMETERS}"
                )));
            }
        }
        Ok(())
    }
}

/// Scheme, host and port of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Whether connections use TLS.
    pub tls: bool,
    /// The name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// An HTTPS server on its usual port.
    pub fn https(host: impl Into<String>) -> Self {
        Self {
            tls: true,
            host: host.into(),
            port: 443,
        }
    }

    /// Parses `http://host:port` or `https://host`.
    pub fn parse(url: &str) -> Result<Self> {
        Self::split(url).ok_or_else(|| {
            // The URL is not shown: it may contain a secret.
            Error::configuration(
                "the endpoint is not valid: write endpoint=http://localhost:8000 for example, without user, path and \
                 query",
            )
        })
    }

    fn split(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                (
                    host,
                    port.strip_prefix(':')
                        .or_else(|| port.is_empty().then_some("")),
                )
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port? {
            "" if authority.ends_with(':') => return None,
            "" if tls => 443,
            "" => 80,
            port => port.parse().ok().filter(|port| *port > 0)?,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        (!host.is_empty() && host.bytes().all(allowed)).then(|| Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }

    /// The value of the header `host`.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == if self.tls { 443 } else { 80 } {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Whether the server runs on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_parsed() {
        let config = Config::parse(
            "dynamodb://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A8000&profile=me@dev&table_prefix=t_&timeout=2.5\
             &connect_timeout=1&retries=0&capacity=5,7",
        )
        .unwrap();
        assert_eq!(config.region.as_deref(), Some("eu-west-1"));
        assert_eq!(
            config.address,
            "dynamodb://eu-west-1?endpoint=http://localhost:8000&table_prefix=t_"
        );
        assert_eq!(config.profile.as_deref(), Some("me@dev"));
        assert_eq!(config.prefix, "t_");
        assert_eq!(config.timeout, Duration::from_millis(2500));
        assert_eq!(config.connect_timeout, Duration::from_secs(1));
        assert_eq!(config.retries, 0);
        assert_eq!(config.capacity, Some((5, 7)));
        assert_eq!(Config::parse("dynamodb://").unwrap().region, None);
    }

    proptest! {
        /// There is no place for a secret: an address with a login is refused, and not shown.
        #[test]
        fn a_login_is_refused_and_not_shown(
            secret in "(64738|HUSH|[a-z]{0,2})[@/#:%?&=,+]{0,2}HUSH[!-~]{0,6}",
            before in "dynamodb://|dynamodb://us-east-1\\?endpoint=http://|dynamo://",
            user in "AKIA:|me:|",
            rest in "us-east-1|localhost:8000||eu-west-1\\?timeout=1",
        ) {
            let url = format!("{before}{user}{secret}@{rest}");
            let error = Config::parse(&url).unwrap_err();
            prop_assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration);
            let shown = error.message.contains("HUSH") || error.message.contains("64738");
            prop_assert!(!shown, "{} of {}", error.message, url);
        }
    }

    #[test]
    fn an_invalid_address_is_refused() {
        for url in [
            "dynamodb://AKIA:hush@us-east-1",
            "dynamodb://us-east-1?endpoint=http://me:hush@localhost:8000",
            "dynamodb://us_east",
            "dynamodb://us-east-1?endpoint=ftp://x",
            "dynamodb://us-east-1?timeout=0",
            "dynamodb://us-east-1?timeout=NaN",
            "dynamodb://us-east-1?timeout=1&timeout=2",
            "dynamodb://us-east-1?retries=-1",
            "dynamodb://us-east-1?capacity=0,1",
            "dynamodb://us-east-1?table_prefix=a/b",
            "dynamodb://us-east-1?profil=dev",
            "redis://localhost",
        ] {
            let error = Config::parse(url).unwrap_err();
            assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration, "{url}");
        }
    }

    #[test]
    fn endpoints_are_parsed_and_shown() {
        for (url, shown) in [
            ("http://localhost:8000", "http://localhost:8000"),
            ("https://vpce-1.example/", "https://vpce-1.example"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown);
        }
        for url in [
            "localhost:8000",
            "http://",
            "http://a/b",
            "http://u:p@h:1",
            "http://h:",
            "http://h:0",
            "http://h:x",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        assert!(Endpoint::parse("http://[::1]").unwrap().is_loopback());
        assert!(!Endpoint::parse("http://10.0.0.1").unwrap().is_loopback());
    }
}
