//! The chain with files, an environment and servers of the tests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mintkey_store::store::Never;
use mintkey_store::{ErrorKind, Outcome, RequestMetrics, Result};

use crate::aws::credentials::cache::CredentialsCache;
use crate::aws::credentials::identity::{Credentials, Identity};
use crate::aws::credentials::region::Destination;
use crate::aws::credentials::remote::Lookup;
use crate::aws::credentials::sources::Sources;
use crate::aws::time;
use crate::client::{Client, Effect};
use crate::config::{Config, Endpoint};
use crate::shared::Shared;
use crate::transport::Transport;
use crate::transport::blocking::Blocking;
use crate::transport::error::{Cause, TransportError};
use crate::transport::http::Response;
use crate::wire::errors::{Failure, Refusal};

/// Responds in order, and keeps the requests. A status of 0 is a connection that breaks after the request.
#[derive(Default)]
struct Script {
    responses: RefCell<VecDeque<(u16, String)>>,
    requests: RefCell<Vec<String>>,
}

impl Script {
    fn of(responses: &[(u16, &str)]) -> Self {
        let responses = responses
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()));
        Self {
            responses: RefCell::new(responses.collect()),
            requests: RefCell::default(),
        }
    }
}

impl Transport for Script {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        _: Instant,
    ) -> std::result::Result<Response, TransportError> {
        let text = String::from_utf8_lossy(request);
        self.requests
            .borrow_mut()
            .push(format!("{endpoint} {text}"));
        let Some((status, body)) = self.responses.borrow_mut().pop_front() else {
            return Err(Cause::ConnectTimeout.unsent());
        };
        if status == 0 {
            return Err(Cause::closed().sent());
        }
        Ok(Response {
            status,
            body: body.into_bytes(),
            ..Response::default()
        })
    }

    async fn pause(&self, _: Duration, _: Instant) -> std::result::Result<(), TransportError> {
        Ok(())
    }

    fn may_continue(&self, _: Instant) -> std::result::Result<(), TransportError> {
        Ok(())
    }
}

const FAR: &str = "2999-01-01T00:00:00Z";

fn keys(name: &str) -> String {
    format!(
        "{{\"AccessKeyId\":\"{name}\",\"SecretAccessKey\":\"hush\",\"Token\":\"t\",\"Expiration\":\"{FAR}\"}}"
    )
}

fn assumed(name: &str) -> String {
    format!(
        "<R><Credentials><AccessKeyId>{name}</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>{FAR}</Expiration></Credentials></R>"
    )
}

/// Runs a future to its end with the transport of a blocking call.
fn run<R>(future: impl Future<Output = Result<R>>) -> Result<R> {
    let shared = Shared::new(Config::parse("dynamodb://r").unwrap());
    Blocking::new(&shared.config, &shared.pool, &Never).run(future)
}

/// The access key that a cache returns.
fn access_key(cache: &CredentialsCache, config: &Config, script: &Script) -> Result<String> {
    let lookup = Lookup {
        config,
        transport: script,
        deadline: Instant::now() + Duration::from_secs(60),
        outcome: Outcome::NotApplied,
    };
    run(async {
        let identity = cache.identity(&lookup).await?;
        Ok(identity.credentials.access_key.clone())
    })
}

/// The access key that is found with these environment variables.
fn found(url: &str, vars: &[(&str, &str)], script: &Script) -> Result<String> {
    let cache = CredentialsCache::of(Sources::of(vars));
    access_key(&cache, &Config::parse(url)?, script)
}

/// A folder with AWS's files, and the variables that name them.
struct Home {
    folder: tempfile::TempDir,
    vars: Vec<(String, String)>,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let aws = folder.path().join(".aws");
        std::fs::create_dir_all(aws.join("sso/cache")).unwrap();
        std::fs::write(aws.join("config"), config).unwrap();
        std::fs::write(aws.join("credentials"), credentials).unwrap();
        let home = folder.path().display().to_string();
        Self {
            folder,
            vars: vec![("HOME".to_owned(), home)],
        }
    }

    fn with(&self, more: &[(&str, &str)], url: &str, script: &Script) -> Result<String> {
        let own = self.vars.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let vars: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        found(url, &vars, script)
    }
}

const ENV: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "ENV"),
    ("AWS_SECRET_ACCESS_KEY", "hush"),
];

#[test]
fn the_environment_precedes_the_default_profile_and_a_named_profile_precedes_both() {
    let home = Home::new(
        "",
        "[default]\naws_access_key_id=D\naws_secret_access_key=hush\n[dev]\naws_access_key_id=DEV\naws_secret_access_key=hush\n",
    );
    let none = Script::default();
    assert_eq!(home.with(&ENV, "dynamodb://r", &none).unwrap(), "ENV");
    assert_eq!(home.with(&[], "dynamodb://r", &none).unwrap(), "D");
    assert_eq!(
        home.with(&[("AWS_PROFILE", "dev")], "dynamodb://r", &none)
            .unwrap(),
        "DEV"
    );
    assert_eq!(
        home.with(&ENV, "dynamodb://r?profile=dev", &none).unwrap(),
        "DEV"
    );
    assert!(
        home.with(&ENV, "dynamodb://r?profile=nobody", &none)
            .is_err()
    );
    assert!(none.requests.borrow().is_empty());
}

#[test]
fn roles_are_assumed_one_after_the_other() {
    let home = Home::new(
        "[profile top]\nrole_arn=arn:top\nsource_profile=mid\nexternal_id=x y\n[profile mid]\nrole_arn=arn:mid\n\
         source_profile=base\n[profile loop]\nrole_arn=a\nsource_profile=pool\n[profile pool]\nrole_arn=b\n\
         source_profile=loop\n[profile code]\nrole_arn=a\nsource_profile=base\nmfa_serial=1\n",
        "[base]\naws_access_key_id=BASE\naws_secret_access_key=hush\n",
    );
    let script = Script::of(&[(200, &assumed("MID")), (200, &assumed("TOP"))]);
    assert_eq!(
        home.with(&[], "dynamodb://eu-west-1?profile=top", &script)
            .unwrap(),
        "TOP"
    );
    let requests = script.requests.borrow();
    assert!(requests[0].starts_with("https://sts.eu-west-1.amazonaws.com POST / "));
    assert!(requests[0].contains("Credential=BASE/") && requests[0].contains("RoleArn=arn%3Amid"));
    assert!(requests[1].contains("Credential=MID/") && requests[1].contains("ExternalId=x%20y"));
    assert!(requests[1].contains("x-amz-security-token: t"));
    for profile in ["loop", "code"] {
        let url = format!("dynamodb://eu-west-1?profile={profile}");
        let error = home.with(&[], &url, &Script::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
    }
    let refused = Script::of(&[(403, "hush")]);
    let error = home
        .with(&[], "dynamodb://eu-west-1?profile=mid", &refused)
        .unwrap_err();
    assert!(
        error.message.contains("role arn:mid") && !error.message.contains("hush"),
        "{error}"
    );
}

#[test]
fn single_sign_on_uses_the_stored_token() {
    let home = Home::new(
        "[profile dev]\nsso_session=corp\nsso_account_id=12\nsso_role_name=reader\n\
         [sso-session corp]\nsso_region=us-east-1\nsso_start_url=https://corp.example\n",
        "",
    );
    let url = "dynamodb://eu-west-1?profile=dev";
    let error = home.with(&[], url, &Script::default()).unwrap_err();
    assert!(error.message.contains("aws sso login"), "{error}");
    let mut name = String::new();
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, b"corp");
    crate::aws::signing::push_hex(hash.as_ref(), &mut name);
    let file = home
        .folder
        .path()
        .join(format!(".aws/sso/cache/{name}.json"));
    std::fs::write(
        file,
        format!("{{\"accessToken\":\"tok\",\"expiresAt\":\"{FAR}\"}}"),
    )
    .unwrap();
    let body = "{\"roleCredentials\":{\"accessKeyId\":\"SSO\",\"secretAccessKey\":\"hush\",\"sessionToken\":\"t\",\
                \"expiration\":32472144000000}}";
    let script = Script::of(&[(200, body)]);
    assert_eq!(home.with(&[], url, &script).unwrap(), "SSO");
    let requests = script.requests.borrow();
    assert!(requests[0].starts_with("https://portal.sso.us-east-1.amazonaws.com GET /federation/"));
    assert!(requests[0].contains("credentials?account_id=12&role_name=reader "));
    assert!(requests[0].contains("x-amz-sso_bearer_token: tok"));
}

#[test]
fn a_process_and_a_web_identity_are_sources() {
    let home = Home::new(
        &format!(
            "[profile run]\ncredential_process=echo '{}'\n[profile bad]\ncredential_process=exit 3\n",
            keys("RUN")
        ),
        "",
    );
    let none = Script::default();
    assert_eq!(
        home.with(&[], "dynamodb://r?profile=run", &none).unwrap(),
        "RUN"
    );
    assert!(home.with(&[], "dynamodb://r?profile=bad", &none).is_err());
    let token = home.folder.path().join("token");
    std::fs::write(&token, "jwt\n").unwrap();
    let token = token.display().to_string();
    let vars = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:web"),
    ];
    let script = Script::of(&[(200, &assumed("WEB"))]);
    assert_eq!(home.with(&vars, "dynamodb://r", &script).unwrap(), "WEB");
    let requests = script.requests.borrow();
    assert!(
        requests[0].contains("Action=AssumeRoleWithWebIdentity")
            && requests[0].contains("WebIdentityToken=jwt")
    );
    assert!(!requests[0].contains("authorization:"));
}

#[test]
fn containers_and_instances_are_sources() {
    let script = Script::of(&[(200, &keys("ECS"))]);
    let vars = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
    assert_eq!(found("dynamodb://r", &vars, &script).unwrap(), "ECS");
    assert!(script.requests.borrow()[0].starts_with("http://169.254.170.2 GET /v2/x "));
    let far = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x")];
    assert!(found("dynamodb://r", &far, &Script::default()).is_err());
    let script = Script::of(&[(200, "tok"), (200, "role\n"), (200, &keys("EC2"))]);
    assert_eq!(found("dynamodb://r", &[], &script).unwrap(), "EC2");
    let requests = script.requests.borrow();
    assert!(requests[0].starts_with("http://169.254.169.254 PUT /latest/api/token "));
    assert!(
        requests[2].contains("security-credentials/role ")
            && requests[2].contains("metadata-token: tok")
    );
}

#[test]
fn missing_credentials_are_an_error_except_for_a_local_server() {
    let error = found("dynamodb://r", &[], &Script::default()).unwrap_err();
    assert!(error.message.contains("AWS_ACCESS_KEY_ID"), "{error}");
    let none = Script::default();
    assert_eq!(
        found("dynamodb://r?endpoint=http://localhost:1", &[], &none).unwrap(),
        "local"
    );
    assert!(none.requests.borrow().is_empty());
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let soon = time::now() + 60;
    let stamp = time::basic(soon);
    let soon = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &stamp[..4],
        &stamp[4..6],
        &stamp[6..8],
        &stamp[9..11],
        &stamp[11..13],
        &stamp[13..15]
    );
    let ending = keys("OLD").replace(FAR, &soon);
    let script = Script::of(&[(200, &ending), (200, &keys("NEW"))]);
    let vars = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")];
    let cache = CredentialsCache::of(Sources::of(&vars));
    let config = Config::parse("dynamodb://r").unwrap();
    let next = || access_key(&cache, &config, &script).unwrap();
    assert_eq!([next(), next(), next()], ["OLD", "NEW", "NEW"]);
    assert_eq!(script.requests.borrow().len(), 2);
}

fn destination(url: &str, vars: &[(&str, &str)]) -> Result<Destination> {
    Destination::find(&Config::parse(url)?, &Sources::of(vars))
}

#[test]
fn region_and_endpoint_are_found_in_awss_sources() {
    let shown = |url: &str, vars: &[(&str, &str)]| {
        let destination = destination(url, vars).unwrap();
        format!("{} {}", destination.region, destination.endpoint)
    };
    assert_eq!(
        shown("dynamodb://eu-west-1", &[("AWS_REGION", "us-east-1")]),
        "eu-west-1 https://dynamodb.eu-west-1.amazonaws.com"
    );
    assert_eq!(
        shown("dynamodb://", &[("AWS_DEFAULT_REGION", "cn-north-1")]),
        "cn-north-1 https://dynamodb.cn-north-1.amazonaws.com.cn"
    );
    let local = ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:8000");
    assert_eq!(
        shown("dynamodb://eu-west-1", &[local]),
        "eu-west-1 http://localhost:8000"
    );
    assert_eq!(
        shown("dynamodb://x?endpoint=http://[::1]:1", &[local]),
        "x http://[::1]:1"
    );
    assert!(destination("dynamodb://", &[]).is_err());
    assert!(destination("dynamodb://?profile=none", &[]).is_err());
}

#[test]
fn a_write_without_response_stays_unknown_when_there_are_no_credentials() {
    let first = AtomicBool::new(true);
    let gone = Sources::asking(move |name| match name {
        "AWS_ACCESS_KEY_ID" if first.swap(false, Ordering::SeqCst) => Some("KEY".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        _ => None,
    });
    let mut shared = Shared::new(Config::parse("dynamodb://us-east-1").unwrap());
    shared.credentials = CredentialsCache::of(gone);
    let expired = "{\"__type\":\"x#ExpiredTokenException\",\"message\":\"no\"}";
    let script = Script::of(&[(0, ""), (400, expired)]);
    let metrics = RequestMetrics::default();
    let client = Client::new(&shared, &script, &metrics);
    let error = run(async {
        match client.call("PutItem", "{}", Effect::Idempotent).await {
            Err(Failure::Failed(error)) => Ok(error),
            _ => panic!("there are no credentials"),
        }
    });
    let error = error.unwrap();
    let unknown = ErrorKind::Unavailable(Outcome::Unknown);
    assert_eq!(error.kind, unknown, "{error}");
    assert!(error.message.contains("no credentials"), "{error}");
}

#[test]
fn a_response_that_repeats_secrets_is_not_shown() {
    let identity = Identity::new(Credentials {
        access_key: "AKID".to_owned(),
        secret: "hush-this-secret".to_owned(),
        token: Some("hush-this-token".to_owned()),
        expires: None,
    });
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
