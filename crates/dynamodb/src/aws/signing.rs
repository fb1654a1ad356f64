//! AWS signature version 4, by AWS's library.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity as SdkIdentity;
use mintkey_store::{Error, Result};

/// Credentials in use.
pub struct Identity {
    credentials: Credentials,
    /// The same for the library.
    signer: SdkIdentity,
}

/// A request to sign: a POST of the path `/`.
pub struct Unsigned<'a> {
    /// The headers to sign.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a str,
    /// The region.
    pub region: &'a str,
    /// The time.
    pub time: SystemTime,
}

impl Identity {
    /// Signs with these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            signer: credentials.clone().into(),
            credentials,
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
    pub fn sign(&self, request: &Unsigned<'_>) -> Result<SigningInstructions> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::configuration(format!("the request cannot be signed: {error}"))
        };
        let parameters = SigningParams::builder()
            .identity(&self.signer)
            .region(request.region)
            .name("dynamodb")
            .time(request.time)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?;
        let body = SignableBody::Bytes(request.body.as_bytes());
        let headers = request.headers.iter().copied();
        let signable =
            SignableRequest::new("POST", "/", headers, body).map_err(|error| failed(&error))?;
        let signed = sign(signable, &parameters.into()).map_err(|error| failed(&error))?;
        Ok(signed.into_parts().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http::Response;
    use crate::wire::errors::Refusal;

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
            let signed = identity(token)
                .sign(&Unsigned {
                    headers: &[
                        ("host", "dynamodb.eu-west-1.amazonaws.com"),
                        ("x-amz-target", "DynamoDB_20120810.GetItem"),
                    ],
                    body: r#"{"TableName":"rows"}"#,
                    region: "eu-west-1",
                    time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160),
                })
                .unwrap();
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
            Refusal::parse(&response, &identity.secrets()).message
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
