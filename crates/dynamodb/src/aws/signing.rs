//! AWS signature version 4.
//!
//! Source: "Signature Version 4 for API requests", AWS Identity and Access Management user guide.

use std::fmt::Write as _;

use ring::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed.
pub struct Signing<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, encoded and in order.
    pub query: &'a str,
    /// The signed headers, their names in lower case and in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
    /// The time, `20150830T123600Z`.
    pub time: &'a str,
    /// The region.
    pub region: &'a str,
    /// The service.
    pub service: &'a str,
}

/// The signing key of one day, region and service.
#[derive(Clone, Debug)]
pub struct DayKey {
    day: String,
    region: String,
    service: String,
    key: hmac::Key,
}

impl DayKey {
    /// Derives the key for the day of a request.
    pub fn new(secret: &str, signing: &Signing<'_>) -> Self {
        let day = day(signing.time);
        let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        let key = [day, signing.region, signing.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| {
                hmac::Key::new(
                    hmac::HMAC_SHA256,
                    hmac::sign(&key, part.as_bytes()).as_ref(),
                )
            });
        Self {
            day: day.to_owned(),
            region: signing.region.to_owned(),
            service: signing.service.to_owned(),
            key,
        }
    }

    /// Whether it can sign this request.
    pub fn is_for(&self, signing: &Signing<'_>) -> bool {
        self.day == day(signing.time)
            && self.region == signing.region
            && self.service == signing.service
    }

    /// Appends the value of the header `authorization`.
    pub fn authorize(&self, signing: &Signing<'_>, access_key: &str, to: &mut String) {
        let mut text = String::with_capacity(512);
        for part in [signing.method, signing.path, signing.query] {
            text.push_str(part);
            text.push('\n');
        }
        for (name, value) in signing.headers {
            text.push_str(name);
            text.push(':');
            text.push_str(value.trim());
            text.push('\n');
        }
        text.push('\n');
        push_names(signing.headers, &mut text);
        text.push('\n');
        push_hex(
            digest::digest(&digest::SHA256, signing.body).as_ref(),
            &mut text,
        );
        let canonical = digest::digest(&digest::SHA256, text.as_bytes());
        text.clear();
        let _ = write!(text, "{ALGORITHM}\n{}\n", signing.time);
        self.push_scope(&mut text);
        text.push('\n');
        push_hex(canonical.as_ref(), &mut text);
        let signature = hmac::sign(&self.key, text.as_bytes());
        let _ = write!(to, "{ALGORITHM} Credential={access_key}/");
        self.push_scope(to);
        to.push_str(", SignedHeaders=");
        push_names(signing.headers, to);
        to.push_str(", Signature=");
        push_hex(signature.as_ref(), to);
    }

    fn push_scope(&self, to: &mut String) {
        for part in [&self.day, &self.region, &self.service] {
            to.push_str(part);
            to.push('/');
        }
        to.push_str("aws4_request");
    }
}

fn day(time: &str) -> &str {
    time.get(..8).unwrap_or(time)
}

fn push_names(headers: &[(&str, &str)], to: &mut String) {
    for (index, (name, _)) in headers.iter().enumerate() {
        if index > 0 {
            to.push(';');
        }
        to.push_str(name);
    }
}

/// Appends bytes in hexadecimal.
pub fn push_hex(bytes: &[u8], to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIME: &str = "20150830T123600Z";
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", TIME);
    const LONG_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeo\
        IYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75Y\
        U9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvK\
        Tr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    /// Method, query, headers, body and the expected signature.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

    fn authorization(
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &str,
        service: &str,
    ) -> String {
        let signing = Signing {
            method,
            path: "/",
            query,
            headers,
            body: body.as_bytes(),
            time: TIME,
            region: "us-east-1",
            service,
        };
        let mut text = String::new();
        DayKey::new(SECRET, &signing).authorize(&signing, "AKIDEXAMPLE", &mut text);
        text
    }

    /// The signature version 4 test suite of AWS, as its SDK for Rust (aws-sigv4 1.6, Apache 2.0)
    /// contains it: the cases whose parts need no sorting or folding.
    #[test]
    fn the_published_test_suite_passes() {
        let token = ("x-amz-security-token", LONG_TOKEN);
        let short = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let form = [
            ("content-length", "13"),
            ("content-type", "application/x-www-form-urlencoded"),
            HOST,
            (
                "x-amz-content-sha256",
                "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
            ),
            DATE,
        ];
        let cases: &[Case] = &[
            (
                "GET",
                "",
                &[HOST, DATE],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "",
                &[HOST, DATE],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                "Param1=value1",
                &[HOST, DATE],
                "",
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
            (
                "GET",
                "Param1=value1&Param2=value2",
                &[HOST, DATE],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST",
                "",
                &[HOST, DATE, token],
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                "GET",
                "",
                &[HOST, DATE, ("x-amz-security-token", short)],
                "",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            (
                "POST",
                "",
                &[HOST, ("my-header1", "value1"), DATE],
                "",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "POST",
                "",
                &form,
                "Param1=value1",
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
        ];
        for (method, query, headers, body, signature) in cases {
            let text = authorization(method, query, headers, body, "service");
            let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                         SignedHeaders=";
            assert!(text.starts_with(start), "{text}");
            assert!(
                text.ends_with(&format!(", Signature={signature}")),
                "{text}"
            );
        }
    }

    /// "Create a signed AWS API request", AWS Identity and Access Management user guide.
    #[test]
    fn the_published_example_passes() {
        let headers = [
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("host", "iam.amazonaws.com"),
            DATE,
        ];
        let text = authorization(
            "GET",
            "Action=ListUsers&Version=2010-05-08",
            &headers,
            "",
            "iam",
        );
        let signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert!(text.ends_with(signature), "{text}");
    }

    #[test]
    fn a_key_signs_the_requests_of_its_day() {
        let signing = |time| Signing {
            method: "POST",
            path: "/",
            query: "",
            headers: &[],
            body: b"",
            time,
            region: "r",
            service: "s",
        };
        let key = DayKey::new(SECRET, &signing(TIME));
        assert!(key.is_for(&signing("20150830T235959Z")));
        assert!(!key.is_for(&signing("20150831T000000Z")));
    }
}
