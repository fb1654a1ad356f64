//! AWS signature version 4.
//!
//! Key and signature are calculated by AWS's library. What is signed is written here: a request to `DynamoDB` always has the
//! same form, and the library takes several times as long to bring any request into the form that is signed.
//!
//! Source: "Signature Version 4 for API requests", AWS Identity and Access Management user guide.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use mintkey_runtime::locked;
use mintkey_store::{Error, Result};
use ring::digest::{SHA256, digest};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "dynamodb";
/// The length of a date, `20150830`.
const DAY: usize = 8;

/// Credentials in use.
pub struct Identity {
    credentials: Credentials,
    /// The key of the last request: it changes once a day.
    key: Mutex<Option<Arc<DayKey>>>,
}

/// The key for the requests of one day in one region.
struct DayKey {
    region: String,
    /// The day, the region, the service and the version of the key.
    scope: String,
    key: Vec<u8>,
}

/// A request to sign: a POST of the path `/`.
pub struct Unsigned<'a> {
    pub host: &'a str,
    /// The header `x-amz-target`.
    pub target: &'a str,
    pub body: &'a str,
    pub region: &'a str,
    /// The time, in seconds since 1970.
    pub time: i64,
}

/// The headers of a signature.
pub struct Signature<'a> {
    date: String,
    token: Option<&'a str>,
    authorization: String,
}

impl Signature<'_> {
    /// Their names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let token = self.token.map(|token| ("x-amz-security-token", token));
        [
            ("x-amz-date", &*self.date),
            ("authorization", &self.authorization),
        ]
        .into_iter()
        .chain(token)
    }
}

impl Identity {
    /// Signs with these credentials.
    pub const fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            key: Mutex::new(None),
        }
    }

    /// The texts that no message may show.
    pub fn secrets(&self) -> [&str; 2] {
        [
            self.credentials.secret_access_key(),
            self.credentials.session_token().unwrap_or(""),
        ]
    }

    /// Whether the credentials are still valid after this time.
    pub fn is_valid_for(&self, time: Duration) -> bool {
        let expiry = self.credentials.expiry();
        expiry.is_none_or(|expiry| expiry > SystemTime::now() + time)
    }

    /// The headers that a request to `DynamoDB` needs besides the signed ones.
    pub fn sign(&self, request: &Unsigned<'_>) -> Result<Signature<'_>> {
        let Unsigned { host, target, .. } = request;
        let date = DateTime::from_secs(request.time).fmt(Format::DateTime);
        let mut date = date.map_err(|error| {
            Error::configuration(format!("the request cannot be signed: {error}"))
        })?;
        date.retain(|character| !matches!(character, '-' | ':'));
        let day_key = self.key(&date[..DAY], request);
        let DayKey { scope, key, .. } = &*day_key;
        let token = self.credentials.session_token();
        let names = if token.is_some() {
            "host;x-amz-date;x-amz-security-token;x-amz-target"
        } else {
            "host;x-amz-date;x-amz-target"
        };

        // Method, path, query, headers, names of the headers, body.
        let mut text = String::with_capacity(512);
        push(
            &["POST\n/\n\nhost:", host, "\nx-amz-date:", &date],
            &mut text,
        );
        if let Some(token) = token {
            // Blanks are signed without those at the ends, and one for several.
            let words: Vec<&str> = token.split_ascii_whitespace().collect();
            push(&["\nx-amz-security-token:", &words.join(" ")], &mut text);
        }
        push(&["\nx-amz-target:", target, "\n\n", names, "\n"], &mut text);
        push_hash(request.body, &mut text);

        let mut signed = String::with_capacity(256);
        push(&[ALGORITHM, "\n", &date, "\n", scope, "\n"], &mut signed);
        push_hash(&text, &mut signed);
        let signature = calculate_signature(key, signed.as_bytes());

        let access_key = self.credentials.access_key_id();
        let mut authorization = String::with_capacity(256);
        push(
            &[ALGORITHM, " Credential=", access_key, "/", scope],
            &mut authorization,
        );
        push(
            &[", SignedHeaders=", names, ", Signature=", &signature],
            &mut authorization,
        );
        Ok(Signature {
            date,
            token,
            authorization,
        })
    }

    /// The key for the requests of a day, which is derived when the first one is signed.
    fn key(&self, day: &str, request: &Unsigned<'_>) -> Arc<DayKey> {
        let mut known = locked(&self.key);
        if let Some(key) = &*known
            && key.scope.starts_with(day)
            && key.region == request.region
        {
            return Arc::clone(key);
        }
        let time = UNIX_EPOCH + Duration::from_secs(request.time.unsigned_abs());
        let secret = self.credentials.secret_access_key();
        let region = request.region;
        let key = Arc::new(DayKey {
            region: region.to_owned(),
            scope: format!("{day}/{region}/{SERVICE}/aws4_request"),
            key: generate_signing_key(secret, time, region, SERVICE)
                .as_ref()
                .to_vec(),
        });
        *known = Some(Arc::clone(&key));
        key
    }
}

/// Appends texts: without a format, which takes longer than the rest.
fn push(parts: &[&str], to: &mut String) {
    for part in parts {
        to.push_str(part);
    }
}

/// Appends the hash of a text in hexadecimal digits.
fn push_hash(text: &str, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use proptest::prelude::*;

    use super::*;
    use crate::transport::http::Response;
    use crate::wire::errors::ErrorResponse;

    const REQUEST: Unsigned<'_> = Unsigned {
        host: "dynamodb.eu-west-1.amazonaws.com",
        target: "DynamoDB_20120810.GetItem",
        body: r#"{"TableName":"rows"}"#,
        region: "eu-west-1",
        time: 1_440_938_160,
    };
    const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE//////////";

    fn identity(token: Option<&str>) -> Identity {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let token = token.map(ToOwned::to_owned);
        Identity::new(Credentials::new("AKIDEXAMPLE", secret, token, None, "test"))
    }

    /// The expected signatures are those of botocore 1.44.
    #[test]
    fn signatures_are_those_of_another_library() {
        for (token, names, signature) in [
            (
                None,
                "host;x-amz-date;x-amz-target",
                "7661d2c81b98ac834a6575fc85ac9c85774ae16ae9ccb6db037643570db62455",
            ),
            (
                Some(TOKEN),
                "host;x-amz-date;x-amz-security-token;x-amz-target",
                "4fb2468c3e2f5d20827ff41657236f3b7e9fab786ed3f4e61b546d42c16ab18d",
            ),
        ] {
            let identity = identity(token);
            let signed = identity.sign(&REQUEST).unwrap();
            let headers: Vec<_> = signed.headers().collect();
            assert!(headers.contains(&("x-amz-date", "20150830T123600Z")));
            let of_token = headers
                .iter()
                .find(|(name, _)| *name == "x-amz-security-token");
            assert_eq!(of_token.map(|(_, value)| *value), token);
            let authorization = headers.iter().find(|(name, _)| *name == "authorization");
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/dynamodb/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(authorization.unwrap().1, expected);
        }
    }

    /// The headers that the library itself calculates.
    fn of_the_library(identity: &Identity, request: &Unsigned<'_>) -> Vec<(String, String)> {
        let own = identity.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&own)
            .region(request.region)
            .name(SERVICE)
            .time(UNIX_EPOCH + Duration::from_secs(request.time.unsigned_abs()))
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let headers = [("host", request.host), ("x-amz-target", request.target)];
        let body = SignableBody::Bytes(request.body.as_bytes());
        let signable = SignableRequest::new("POST", "/", headers.into_iter(), body).unwrap();
        let (result, _) = sign(signable, &parameters.into()).unwrap().into_parts();
        result
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    proptest! {
        /// The same credentials sign all requests: days and regions change in between.
        #[test]
        fn signatures_are_those_of_the_library(
            token in proptest::option::of("[A-Za-z0-9/+=]{1,80}"),
            requests in proptest::collection::vec(
                ("[a-z0-9.-]{1,20}(:[1-9][0-9]{0,4})?", "[A-Za-z_0-9.]{1,30}", "\\PC{0,90}", "[a-z]{2}-[a-z]{4}-[1-3]", 0..99_i64),
                1..5,
            ),
        ) {
            let identity = identity(token.as_deref());
            for (host, target, body, region, hours) in &requests {
                let time = 1_440_938_160 + hours * 3607;
                let request = Unsigned { host, target, body, region, time };
                let signature = identity.sign(&request).unwrap();
                let mut own: Vec<_> = signature
                    .headers()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                let mut expected = of_the_library(&identity, &request);
                own.sort();
                expected.sort();
                prop_assert_eq!(own, expected);
            }
        }
    }

    #[test]
    fn a_response_that_repeats_secrets_is_not_shown() {
        let keys = Credentials::new(
            "AKID",
            "hush-this-secret",
            Some("hush-this-token".to_owned()),
            None,
            "test",
        );
        let identity = Identity::new(keys);
        let message = |body: &str| {
            let response = Response {
                status: 400,
                body: body.as_bytes().to_vec(),
                ..Response::default()
            };
            ErrorResponse::parse(&response, &identity.secrets()).message
        };
        assert_eq!(message("a page"), "status 400, body \"a page\"");
        for body in [
            "x-amz-security-token: hush-this-token",
            "hush-this-secret",
            "authorization: AWS4-HMAC-SHA256 Credential=AKID",
        ] {
            let shown = message(body);
            assert!(
                !shown.contains("hush") && !shown.contains("AKID"),
                "{shown}"
            );
        }
    }
}
