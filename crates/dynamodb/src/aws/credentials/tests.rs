//! The chain against files, an environment and servers of which the tests say what they hold.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mintkey_store::store::Never;
use mintkey_store::{ErrorKind, Notes, Outcome};

use super::*;
use crate::client::Repeat;
use crate::store::Inner;
use crate::transport::blocking::{Blocking, run};
use crate::transport::http::Response;
use crate::transport::{Fault, Why};
use crate::wire::errors::{Failure, Refusal};

/// Answers in order, and keeps what it was asked. A status of 0 is a connection that breaks behind the request.
#[derive(Default)]
struct Script {
    answers: RefCell<VecDeque<(u16, String)>>,
    asked: RefCell<Vec<String>>,
}

impl Script {
    fn of(answers: &[(u16, &str)]) -> Self {
        let answers = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()));
        Self {
            answers: RefCell::new(answers.collect()),
            asked: RefCell::default(),
        }
    }
}

impl Link for Script {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        _: Instant,
    ) -> std::result::Result<Response, Fault> {
        let text = String::from_utf8_lossy(request);
        self.asked.borrow_mut().push(format!("{endpoint} {text}"));
        let Some((status, body)) = self.answers.borrow_mut().pop_front() else {
            return Err(Why::ConnectTimeout.unsent());
        };
        if status == 0 {
            let why = crate::transport::closed();
            return Err(Fault { sent: true, why });
        }
        Ok(Response {
            status,
            body: body.into_bytes(),
            ..Response::default()
        })
    }

    async fn pause(&self, _: Duration, _: Instant) -> std::result::Result<(), Fault> {
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

/// The access key that is found, and what was asked on the way.
fn found(url: &str, vars: &[(&str, &str)], script: &Script) -> Result<String> {
    let mut inner = Inner::new(Config::parse(url)?);
    inner.credentials = Keeper::of(Sources::of(vars));
    let notes = Notes::default();
    let session = Session::new(&inner, script, &notes);
    let blocking = Blocking::new(&inner, &Never);
    run(&blocking, async {
        Ok(identity(&session).await?.credentials.access_key.clone())
    })
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
fn the_environment_goes_before_the_usual_profile_and_a_named_one_before_both() {
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
    assert!(none.asked.borrow().is_empty());
}

#[test]
fn roles_are_taken_on_one_after_the_other() {
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
    let asked = script.asked.borrow();
    assert!(asked[0].starts_with("https://sts.eu-west-1.amazonaws.com POST / "));
    assert!(asked[0].contains("Credential=BASE/") && asked[0].contains("RoleArn=arn%3Amid"));
    assert!(asked[1].contains("Credential=MID/") && asked[1].contains("ExternalId=x%20y"));
    assert!(asked[1].contains("x-amz-security-token: t"));
    for profile in ["loop", "code"] {
        let url = format!("dynamodb://eu-west-1?profile={profile}");
        let error = home.with(&[], &url, &Script::default()).unwrap_err();
        assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration);
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
fn single_sign_on_uses_the_token_that_its_login_left() {
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
    let asked = script.asked.borrow();
    assert!(asked[0].starts_with("https://portal.sso.us-east-1.amazonaws.com GET /federation/"));
    assert!(asked[0].contains("credentials?account_id=12&role_name=reader "));
    assert!(asked[0].contains("x-amz-sso_bearer_token: tok"));
}

#[test]
fn a_process_and_a_web_identity_are_asked() {
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
    let asked = script.asked.borrow();
    assert!(
        asked[0].contains("Action=AssumeRoleWithWebIdentity")
            && asked[0].contains("WebIdentityToken=jwt")
    );
    assert!(!asked[0].contains("authorization:"));
}

#[test]
fn containers_and_instances_are_asked() {
    let script = Script::of(&[(200, &keys("ECS"))]);
    let vars = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
    assert_eq!(found("dynamodb://r", &vars, &script).unwrap(), "ECS");
    assert!(script.asked.borrow()[0].starts_with("http://169.254.170.2 GET /v2/x "));
    let far = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x")];
    assert!(found("dynamodb://r", &far, &Script::default()).is_err());
    let script = Script::of(&[(200, "tok"), (200, "role\n"), (200, &keys("EC2"))]);
    assert_eq!(found("dynamodb://r", &[], &script).unwrap(), "EC2");
    let asked = script.asked.borrow();
    assert!(asked[0].starts_with("http://169.254.169.254 PUT /latest/api/token "));
    assert!(
        asked[2].contains("security-credentials/role ") && asked[2].contains("metadata-token: tok")
    );
}

#[test]
fn nothing_found_says_what_to_do_and_asks_nobody_beside_a_local_server() {
    let error = found("dynamodb://r", &[], &Script::default()).unwrap_err();
    assert!(error.message.contains("AWS_ACCESS_KEY_ID"), "{error}");
    let none = Script::default();
    assert_eq!(
        found("dynamodb://r?endpoint=http://localhost:1", &[], &none).unwrap(),
        "local"
    );
    assert!(none.asked.borrow().is_empty());
}

#[test]
fn credentials_are_renewed_before_they_end() {
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
    let mut inner = Inner::new(Config::parse("dynamodb://r").unwrap());
    let vars = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")];
    inner.credentials = Keeper::of(Sources::of(&vars));
    let notes = Notes::default();
    let session = Session::new(&inner, &script, &notes);
    let blocking = Blocking::new(&inner, &Never);
    let next = || {
        run(&blocking, async {
            Ok(identity(&session).await?.credentials.access_key.clone())
        })
        .unwrap()
    };
    assert_eq!([next(), next(), next()], ["OLD", "NEW", "NEW"]);
    assert_eq!(script.asked.borrow().len(), 2);
}

fn place(url: &str, vars: &[(&str, &str)]) -> Result<Place> {
    find_place(&Config::parse(url)?, &Sources::of(vars))
}

#[test]
fn a_place_is_found_where_aws_looks_for_it() {
    let shown = |url: &str, vars: &[(&str, &str)]| {
        let place = place(url, vars).unwrap();
        format!("{} {}", place.region, place.endpoint)
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
    assert!(place("dynamodb://", &[]).is_err());
    assert!(place("dynamodb://?profile=none", &[]).is_err());
}

#[test]
fn a_write_that_was_not_answered_stays_unknown_when_the_credentials_are_gone() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let gone = Sources::asking(move |name| match name {
        "AWS_ACCESS_KEY_ID" if first.swap(false, std::sync::atomic::Ordering::SeqCst) => {
            Some("KEY".to_owned())
        }
        "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        _ => None,
    });
    let mut inner = Inner::new(Config::parse("dynamodb://us-east-1").unwrap());
    inner.credentials = Keeper::of(gone);
    let expired = "{\"__type\":\"x#ExpiredTokenException\",\"message\":\"no\"}";
    let script = Script::of(&[(0, ""), (400, expired)]);
    let notes = Notes::default();
    let session = Session::new(&inner, &script, &notes);
    let blocking = Blocking::new(&inner, &Never);
    let error = run(&blocking, async {
        match session.call("PutItem", "{}", Repeat::Write).await {
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
fn a_page_that_repeats_what_it_was_sent_is_not_shown() {
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
        Refusal::read(&response, &identity).message
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
