//! Reads a store's address.

use std::time::Duration;

use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;

use crate::transport::http::Endpoint;

const SCHEME: &str = "dynamodb://";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A day: more is a mistake in the unit.
const LONGEST_TIMEOUT: f64 = 86_400.0;
const DEFAULT_RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 100;
const PARAMETERS: &str =
    "endpoint, profile, table_prefix, timeout, connect_timeout, retries and capacity";

/// What an address says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The address with the parameters that say which store it is, for messages.
    pub address: String,
    /// The region; none: the environment's or the profile's.
    pub region: Option<String>,
    /// Another server than AWS's.
    pub endpoint: Option<Endpoint>,
    /// The profile of AWS's files.
    pub profile: Option<String>,
    /// What stands before every table's name.
    pub prefix: String,
    /// How long a request may take, with all its attempts.
    pub timeout: Duration,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How often a request may be sent again.
    pub retries: u32,
    /// Read and write units of new tables; none: on demand.
    pub capacity: Option<(u32, u32)>,
}

impl Config {
    /// Reads an address.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Err(Error::configuration(
                "this is no DynamoDB address: write dynamodb://eu-central-1, or \
                 dynamodb://us-east-1?endpoint=http://localhost:8000 for a local server",
            ));
        };
        let (region, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let region = region.trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        // Parts of an address with a login, which may hold a '?' or '&'. A profile may be named like this.
        let mut parts = rest.split(['?', '&']);
        let login = parts.any(|part| part.contains('@') && !part.starts_with("profile="));
        if login || !region.bytes().all(plain) {
            // Not shown: it may hold a secret.
            return Err(Error::configuration(
                "a DynamoDB address begins with a region, as in dynamodb://eu-central-1, and holds no keys: AWS's own \
                 chain finds them (environment, profile, role); write ?profile=name for a profile",
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
                    "{}: {name:?} is given twice: leave one out",
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
        let which: Vec<String> = endpoint.into_iter().chain(prefix).collect();
        if !which.is_empty() {
            config.address = format!("{}?{}", config.address, which.join("&"));
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let address = self.address.clone();
        let wrong = |wanted: &str| {
            Error::configuration(format!(
                "{address}: {name}={value} is not possible: {name} is {wanted}"
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
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                if !value.bytes().all(fits) {
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
                    "{address}: there is no parameter {name:?}: there are {PARAMETERS}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_says_where_and_how() {
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
    fn what_cannot_be_meant_is_refused() {
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
}
