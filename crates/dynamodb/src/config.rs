//! The address of a store: region, endpoint and parameters.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mintkey_runtime::{Address, Notices, Parameters, Tls};
use mintkey_store::{Error, Result};

const EXAMPLE: &str = "dynamodb://eu-central-1, or dynamodb://us-east-1?endpoint=http://localhost:8000 for a local \
                       server, always without credentials: AWS's chain finds them (environment, profile, role)";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_RETRIES: u32 = 3;
const MOST_RETRIES: usize = 100;

/// The parsed address of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address for messages: with the parameters that tell stores apart, without all others.
    pub address: String,
    /// The region; `None`: from the environment or the profile.
    pub region: Option<String>,
    /// The server; `None`: from the environment, or AWS's server in the region.
    pub endpoint: Option<Endpoint>,
    /// Which servers are trusted, and the client certificate.
    pub tls: Arc<Tls>,
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
    /// The reports for the log of the program.
    pub notices: Arc<Notices>,
}

impl Config {
    /// Parses an address.
    pub fn parse(url: &str) -> Result<Self> {
        let (address, mut parameters) =
            Address::parse(&with_encoded_profile(url), &["dynamodb"], EXAMPLE)?;
        let region = region(&address)?;
        let endpoint = parameters.take("endpoint");
        let endpoint = endpoint.map(|url| Endpoint::parse(&url)).transpose()?;
        let tls = tls(&address, endpoint.as_ref(), &mut parameters)?;
        let profile = parameters.take_as(
            "profile",
            "the name of a profile in ~/.aws/config",
            |value| (!value.is_empty()).then(|| value.to_owned()),
        )?;
        let prefix = prefix(&mut parameters)?.unwrap_or_default();
        let timeout = parameters.take_seconds("timeout")?;
        let connect_timeout = parameters.take_seconds("connect_timeout")?;
        let retries = parameters.take_number("retries", 0..=MOST_RETRIES)?;
        let capacity = capacity(&mut parameters)?;
        parameters.end()?;
        let server = endpoint
            .as_ref()
            .map(|endpoint| ("endpoint", endpoint.to_string()));
        let tables = (!prefix.is_empty()).then(|| ("table_prefix", prefix.clone()));
        Ok(Self {
            address: address.with_parameters(server.into_iter().chain(tables)),
            region,
            endpoint,
            tls: Arc::new(tls),
            profile,
            prefix,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            retries: retries
                .and_then(|count| count.try_into().ok())
                .unwrap_or(DEFAULT_RETRIES),
            capacity,
            notices: Arc::default(),
        })
    }

    /// The same for the child of a fork.
    pub fn in_child(&self) -> Self {
        Self {
            tls: Arc::new(self.tls.in_child()),
            notices: Arc::default(),
            ..self.clone()
        }
    }
}

/// How connections are encrypted.
fn tls(address: &Address, endpoint: Option<&Endpoint>, parameters: &mut Parameters) -> Result<Tls> {
    if endpoint.is_none_or(|endpoint| endpoint.tls) {
        let bundle = env::var("AWS_CA_BUNDLE").ok();
        return Tls::take(parameters, bundle.filter(|path| !path.is_empty()));
    }
    for name in ["ca", "cert", "key"] {
        if parameters.take(name).is_some() {
            return Err(Error::configuration(format!(
                "{address}: {name}= is for encrypted connections: write endpoint=https://…"
            )));
        }
    }
    Ok(Tls::default())
}

/// The URL with each '@' in the name of its profile encoded: profiles have such names, and other parameters have not.
///
/// A URL with a second ':' in front of the profile is left alone: what follows that ':' may be a password, which ends at the
/// '@'.
fn with_encoded_profile(url: &str) -> String {
    let names = ["?profile=", "&profile="];
    let start = names.iter().filter_map(|name| url.find(name)).min();
    let Some((before, rest)) = start.map(|start| url.split_at(start)) else {
        return url.to_owned();
    };
    if before.matches(':').count() != 1 {
        return url.to_owned();
    }
    let end = rest[1..].find('&').map_or(rest.len(), |end| end + 1);
    let (profile, after) = rest.split_at(end);
    format!("{before}{}{after}", profile.replace('@', "%40"))
}

/// The region: a host without a port.
fn region(address: &Address) -> Result<Option<String>> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let has_login = address.user.is_some() || address.password.is_some();
    let has_path = !address.path.trim_end_matches('/').is_empty();
    match address.hosts.as_slice() {
        [] if !has_login && !has_path => Ok(None),
        [host]
            if !has_login && !has_path && host.port.is_none() && host.name.bytes().all(allowed) =>
        {
            Ok(Some(host.name.clone()))
        }
        // The address is not shown: it may contain a secret.
        _ => Err(Error::configuration(format!(
            "the store's URL is not a region with parameters: write {EXAMPLE}"
        ))),
    }
}

fn prefix(parameters: &mut Parameters) -> Result<Option<String>> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    parameters.take_as(
        "table_prefix",
        "letters, digits, '_', '.' and '-'",
        |value| value.bytes().all(allowed).then(|| value.to_owned()),
    )
}

/// Read and write units.
fn capacity(parameters: &mut Parameters) -> Result<Option<(u32, u32)>> {
    let units = |text: &str| text.parse().ok().filter(|units| *units > 0);
    parameters.take_as(
        "capacity",
        "read and write units, 5,5 for example",
        |value| {
            let (read, write) = value.split_once(',')?;
            Some((units(read)?, units(write)?))
        },
    )
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
        if url.contains('@') {
            return None;
        }
        let (address, parameters) = Address::parse(url, &["http", "https"], "").ok()?;
        parameters.end().ok()?;
        let tls = address.scheme == "https";
        let [host] = address.hosts.as_slice() else {
            return None;
        };
        let is_plain = matches!(address.path.as_str(), "" | "/");
        is_plain.then(|| Self {
            tls,
            host: host.name.clone(),
            port: host.port.unwrap_or(if tls { 443 } else { 80 }),
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
        let config = Config::parse("dynamodb://?profile=a@b@c&endpoint=http://localhost:8000");
        assert_eq!(config.unwrap().profile.as_deref(), Some("a@b@c"));
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
            "dynamodb://AKIA:80?hush=%ff&profile=@us-east-1",
            "dynamodb://us-east-1?endpoint=http://:%40hush&profile=@localhost",
            "dynamodb://us-east-1?endpoint=http://me:80&table_prefix=hush&profile=@localhost",
            "dynamodb://us-east-1?profile=dev&endpoint=http://me:80&table_prefix=hush&profile=@localhost",
            "dynamodb://us_east",
            "dynamodb://us-east-1?endpoint=ftp://x",
            "dynamodb://us-east-1?timeout=0",
            "dynamodb://us-east-1?timeout=NaN",
            "dynamodb://us-east-1?timeout=1&timeout=2",
            "dynamodb://us-east-1?retries=-1",
            "dynamodb://us-east-1?capacity=0,1",
            "dynamodb://us-east-1?table_prefix=a/b",
            "dynamodb://us-east-1?profil=dev",
            "dynamodb://us-east-1?endpoint=http://localhost:8000&ca=/etc/ca.pem",
            "dynamodb://us-east-1?endpoint=https://localhost:8000&cert=/etc/me.pem",
            "dynamodb://us-east-1?ca=/nothing/is/here.pem",
            "redis://localhost",
        ] {
            let error = Config::parse(url).unwrap_err();
            assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration, "{url}");
            assert!(!error.message.contains("hush"), "{error}");
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
            "http://:@h:1",
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
