//! Where credentials, region and endpoint come from, with servers in the place of AWS's services.

mod aws;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws::{Answer, Program, Seen, Services, after, assumed, keys};

/// The program of `Program::ask`, which is not a test.
#[test]
#[ignore = "the other tests start it"]
fn program() {
    aws::program();
}

fn nothing(seen: &Seen) -> Answer {
    panic!("no request was expected: {seen:?}")
}

fn local(services: &Services, parameters: &str) -> String {
    let url = services.url();
    format!("dynamodb://eu-west-1?endpoint={url}&timeout=15{parameters}")
}

fn elsewhere(services: &Services, parameters: &str) -> String {
    let url = services.elsewhere();
    format!("dynamodb://eu-west-1?endpoint={url}&timeout=15{parameters}")
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "ENV"),
    ("AWS_SECRET_ACCESS_KEY", "hush"),
];

fn all(services: &Services, expected: &str) {
    let keys = services.keys();
    assert!(
        !keys.is_empty() && keys.iter().all(|key| key == expected),
        "{keys:?}"
    );
}

#[test]
fn the_environment_precedes_the_default_profile_and_a_named_profile_precedes_both() {
    let profiles = "[default]\naws_access_key_id=D\naws_secret_access_key=hush\n\
                    [dev]\naws_access_key_id=DEV\naws_secret_access_key=hush\n";
    let named = [("AWS_PROFILE", "dev")];
    let cases: [(&[_], _, _); 4] = [
        (&KEYS, "", "ENV"),
        (&[], "", "D"),
        (&named, "", "DEV"),
        (&KEYS, "&profile=dev", "DEV"),
    ];
    for (vars, parameters, expected) in cases {
        let services = Services::new(nothing);
        let program = Program::new("", profiles).with(vars);
        assert_eq!(program.run(&local(&services, parameters)), "ok");
        all(&services, expected);
    }
    let services = Services::new(nothing);
    let program = Program::new("", profiles).with(&KEYS);
    let error = program.run(&local(&services, "&profile=nobody"));
    assert!(
        error.contains("profile \"nobody\" does not exist"),
        "{error}"
    );
}

#[test]
fn keys_of_the_environment_need_no_file() {
    let services = Services::new(nothing);
    let program = Program::new("", "").with(&KEYS);
    let pipe = program.home().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // A reader of the pipe would wait for ever.
    let pipe = pipe.display().to_string();
    let files = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
    let program = files
        .iter()
        .fold(program, |program, name| program.with(&[(name, &pipe)]));
    assert_eq!(program.run(&elsewhere(&services, "")), "ok");
    all(&services, "ENV");
}

#[test]
fn roles_are_assumed_one_after_the_other() {
    let config = "[profile top]\nrole_arn=arn:top\nsource_profile=mid\nexternal_id=x y\n\
                  [profile mid]\nrole_arn=arn:mid\nsource_profile=base\n\
                  [profile loop]\nrole_arn=a\nsource_profile=pool\n[profile pool]\nrole_arn=b\nsource_profile=loop\n\
                  [profile code]\nrole_arn=a\nsource_profile=base\nmfa_serial=1\n";
    let base = "[base]\naws_access_key_id=BASE\naws_secret_access_key=hush\n";
    let services = Services::new(|seen| {
        let name = if seen.body.contains("arn%3Amid") {
            "MID"
        } else {
            "TOP"
        };
        assumed("AssumeRole", name)
    });
    let program = Program::new(config, base).at(&services);
    assert_eq!(program.run(&local(&services, "&profile=top")), "ok");
    all(&services, "TOP");
    assert!(
        services
            .seen("arn%3Amid")
            .iter()
            .all(|seen| seen.key() == "BASE")
    );
    for seen in services.seen("arn%3Atop") {
        assert_eq!(seen.key(), "MID");
        assert_eq!(seen.headers["x-amz-security-token"], "t");
        assert!(seen.body.contains("ExternalId=x%20y"), "{}", seen.body);
    }
    for profile in ["loop", "code"] {
        let error = program.run(&local(&services, &format!("&profile={profile}")));
        assert!(error.starts_with("Configuration: "), "{error}");
    }
    for (status, kind) in [(403, "Configuration: "), (503, "Unavailable(NotApplied): ")] {
        let services = Services::new(move |_| (status, "", "hush".to_owned()));
        let program = Program::new(config, base).at(&services);
        let error = program.run(&local(&services, "&profile=mid"));
        assert!(error.starts_with(kind), "{error}");
        assert!(error.contains("role arn:mid"), "{error}");
        assert!(error.contains(&format!("status {status}")), "{error}");
    }
}

#[test]
fn single_sign_on_uses_the_stored_token_and_renews_it() {
    const CORP: &str = "[profile dev]\nsso_session=corp\nsso_account_id=12\nsso_role_name=reader\n\
                        [sso-session corp]\nsso_region=us-east-1\nsso_start_url=https://corp.example\n";
    /// The SHA-1 of the session's name.
    const TOKEN: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let services = Services::new(|seen| {
        let json = "content-type: application/json\r\n";
        if seen.line.starts_with("POST /token ") {
            assert!(
                seen.body.contains("\"refreshToken\":\"again\""),
                "{}",
                seen.body
            );
            let body = "{\"accessToken\":\"new\",\"expiresIn\":3600,\"refreshToken\":\"later\"}";
            return (200, json, body.to_owned());
        }
        let token = &seen.headers["x-amz-sso_bearer_token"];
        let body = format!(
            "{{\"roleCredentials\":{{\"accessKeyId\":\"SSO-{token}\",\"secretAccessKey\":\"hush\",\
             \"sessionToken\":\"t\",\"expiration\":32472144000000}}}}"
        );
        (200, json, body)
    });
    let program = Program::new(CORP, "").at(&services);
    let url = local(&services, "&profile=dev");
    let error = program.run(&url);
    assert!(error.contains("aws sso login"), "{error}");
    program.file(
        TOKEN,
        &format!(
            "{{\"accessToken\":\"old\",\"expiresAt\":\"{}\"}}",
            after(7200)
        ),
    );
    assert_eq!(program.ask("blocking", &url), "ok");
    assert_eq!(services.keys(), ["SSO-old"]);
    let asked = services.seen("GET /federation/credentials");
    assert!(asked[0].line.contains("account_id=12"), "{:?}", asked[0]);
    assert!(asked[0].line.contains("role_name=reader"), "{:?}", asked[0]);
    let token = format!(
        "{{\"accessToken\":\"old\",\"expiresAt\":\"2020-01-01T00:00:00Z\",\"refreshToken\":\"again\",\
         \"clientId\":\"id\",\"clientSecret\":\"hush\",\"registrationExpiresAt\":\"{}\",\"region\":\"us-east-1\",\
         \"startUrl\":\"https://corp.example\"}}",
        after(7200)
    );
    let path = program.file(TOKEN, &token);
    assert_eq!(program.ask("submitted", &url), "ok");
    assert_eq!(services.keys(), ["SSO-old", "SSO-new"]);
    let stored = std::fs::read_to_string(path).unwrap();
    assert!(stored.contains("later"), "{stored}");
}

#[test]
fn the_program_of_a_profile_is_a_source() {
    let config = format!(
        "[profile run]\ncredential_process=echo '{}'\n[profile bad]\ncredential_process=exit 3\n\
         [profile role]\nrole_arn=arn:top\nsource_profile=run\n\
         [profile both]\ncredential_process=exit 3\naws_access_key_id=BOTH\naws_secret_access_key=hush\n\
         [profile much]\ncredential_process=yes\n[profile no]\ncredential_process=echo hush\n",
        keys("RUN", 3600)
    );
    let run = |profile: &str| {
        let services = Services::new(|_| assumed("AssumeRole", "TOP"));
        let program = Program::new(&config, "").at(&services);
        let result = program.run(&local(&services, &format!("&profile={profile}")));
        (result, services.keys().pop())
    };
    for (profile, key) in [("run", "RUN"), ("role", "TOP"), ("both", "BOTH")] {
        assert_eq!(run(profile), ("ok".to_owned(), Some(key.to_owned())));
    }
    for (profile, part) in [
        ("bad", "failed (exit status: 3)"),
        ("much", "wrote more than 65536 bytes"),
        ("no", "wrote no valid credentials"),
    ] {
        let (error, _) = run(profile);
        assert!(error.starts_with("Configuration: "), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(error.contains(&format!("profile {profile:?}")), "{error}");
    }
}

#[test]
fn a_slow_program_obeys_the_timeout_and_the_interrupt() {
    let services = Services::new(nothing);
    let program = Program::new(
        "[default]\ncredential_process=sleep 60 & echo $! > ~/pid; wait\n",
        "",
    );
    let begin = Instant::now();
    let url = format!("dynamodb://eu-west-1?endpoint={}&timeout=", services.url());
    for (calls, timeout, kind) in [
        ("blocking", "2", "Timeout(NotApplied)"),
        ("submitted", "2", "Timeout(NotApplied)"),
        ("interrupted", "30", "Interrupted(NotApplied)"),
    ] {
        let error = program.ask(calls, &format!("{url}{timeout}"));
        assert!(error.starts_with(kind), "{error}");
        assert!(error.contains("looking up credentials"), "{error}");
        let pid = std::fs::read_to_string(program.home().join("pid")).unwrap();
        // It is killed with the shell that started it. Who adopts it need not have waited for it.
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let runs = || stat().is_ok_and(|stat| !stat.contains(") Z "));
        let killed = Instant::now();
        while runs() {
            assert!(
                killed.elapsed() < Duration::from_secs(10),
                "the program still runs"
            );
            std::thread::yield_now();
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert!(services.keys().is_empty());
}

#[test]
fn calls_that_wait_for_credentials_use_them_although_they_expire_soon() {
    let services = Services::new(nothing);
    let output = format!(
        "{{\"Version\":1,\"AccessKeyId\":\"SHORT\",\"SecretAccessKey\":\"hush\",\"Expiration\":\"{}\"}}",
        after(200)
    );
    let program = Program::new(
        &format!(
            "[default]\ncredential_process=echo run >> ~/runs; \
             until test -e ~/'all wait'; do sleep 0.01; done; echo '{output}'\n"
        ),
        "",
    );
    let url = format!("dynamodb://eu-west-1?endpoint={}", services.url());
    assert_eq!(program.ask("many", &url), "[]");
    let runs = std::fs::read_to_string(program.home().join("runs")).unwrap();
    // A request that begins when the others get the credentials runs the program once more.
    let runs = runs.lines().count();
    assert!(runs <= 4, "{runs}");
}

#[test]
fn a_web_identity_is_a_source() {
    let services = Services::new(|seen| {
        assert!(seen.body.contains("WebIdentityToken=jwt"), "{}", seen.body);
        assert!(!seen.headers.contains_key("authorization"));
        assumed("AssumeRoleWithWebIdentity", "WEB")
    });
    let program = Program::new("", "").at(&services);
    let token = program.file("token", "jwt").display().to_string();
    let vars = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:web"),
    ];
    let program = program.with(&vars);
    assert_eq!(program.run(&local(&services, "")), "ok");
    all(&services, "WEB");
    let missing = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/file")];
    let error = program.with(&missing).run(&local(&services, ""));
    assert!(error.starts_with("Configuration: "), "{error}");
}

#[test]
fn containers_are_sources_but_not_for_a_local_server() {
    let services = Services::new(|seen| {
        assert_eq!(seen.headers["authorization"], "let me in");
        (200, "", keys("ECS", 3600))
    });
    // A host name, which must be one of this machine.
    let url = format!("http://localhost:{}/v2/x", services.port);
    let program = || Program::new("", "").with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    let token = [("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in")];
    let permitted = program().with(&token);
    assert_eq!(permitted.run(&elsewhere(&services, "")), "ok");
    all(&services, "ECS");
    assert_eq!(services.seen("GET /v2/x ").len(), 2);
    let other = Services::new(nothing);
    assert_eq!(permitted.run(&local(&other, "")), "ok");
    all(&other, "local");
    for vars in [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush\r\nx-evil: 1"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/x"),
    ] {
        let error = program().with(&[vars]).run(&elsewhere(&other, ""));
        assert!(error.starts_with("Configuration: "), "{error}");
    }
}

#[test]
fn instances_are_sources() {
    let services = Services::new(|seen| {
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
        if seen.line.starts_with("PUT /latest/api/token ") {
            return (200, ttl, "tok".to_owned());
        }
        assert_eq!(seen.headers["x-aws-ec2-metadata-token"], "tok");
        if seen.line.contains("/security-credentials/role ") {
            (200, "", keys("EC2", 3600))
        } else {
            (200, "", "role".to_owned())
        }
    });
    let url = services.url();
    let program = || Program::new("", "").with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    assert_eq!(program().run(&elsewhere(&services, "")), "ok");
    all(&services, "EC2");
    let other = Services::new(nothing);
    let disabled = program().with(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    let error = disabled.run(&elsewhere(&other, ""));
    assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
    // A port that nothing listens on.
    let nowhere = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")];
    let error = Program::new("", "")
        .with(&nowhere)
        .run(&elsewhere(&other, ""));
    assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let asked = AtomicUsize::new(0);
    let services = Services::new(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => (200, "", keys("OLD", 60)),
        _ => (200, "", keys("NEW", 3600)),
    });
    let url = format!("{}/x", services.url());
    let program = Program::new("", "").with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert_eq!(program.ask("three", &elsewhere(&services, "")), "ok ok ok ");
    assert_eq!(services.keys(), ["OLD", "NEW", "NEW"]);
    assert_eq!(services.seen("GET /x ").len(), 2);
}

#[test]
fn valid_credentials_are_used_while_their_renewal_fails() {
    let asked = AtomicUsize::new(0);
    let services = Services::new(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => (200, "", keys("OLD", 60)),
        _ => (403, "", String::new()),
    });
    let url = format!("{}/x", services.url());
    let program = Program::new("", "").with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert_eq!(program.ask("three", &elsewhere(&services, "")), "ok ok ok ");
    assert_eq!(services.keys(), ["OLD", "OLD", "OLD"]);
    // The third call does not ask again at once.
    assert_eq!(services.seen("GET /x ").len(), 2);
}

#[test]
fn one_call_renews_for_all_and_its_failures_are_retried() {
    let asked = AtomicUsize::new(0);
    let services = Services::new(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => (503, "", String::new()),
        _ => (200, "", keys("ONE", 3600)),
    });
    let url = format!("{}/x", services.url());
    let program = Program::new("", "").with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert_eq!(program.ask("many", &elsewhere(&services, "")), "[]");
    assert_eq!(services.seen("GET /x ").len(), 2);
    assert_eq!(services.keys(), ["ONE"; 64]);
    let all_wait = program.home().join("all wait");
    std::fs::remove_file(&all_wait).unwrap();
    let services = Services::new(move |_| {
        while !all_wait.exists() {
            std::thread::yield_now();
        }
        (403, "", String::new())
    });
    let url = format!("{}/x", services.url());
    let program = program.with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    let failed = program.ask("many", &elsewhere(&services, ""));
    assert_eq!(failed.matches("status 403").count(), 64, "{failed}");
    // A request that begins when the others get the answer asks once more.
    let asked = services.seen("GET /x ").len();
    assert!(asked <= 4, "{asked}");
}

#[test]
fn region_and_endpoint_are_found_in_awss_sources() {
    let services = Services::new(nothing);
    let other = Services::new(nothing);
    let (url, wrong) = (services.url(), other.url());
    let config = format!(
        "[profile here]\nregion=eu-north-1\nendpoint_url={url}\n\
         [profile service]\nregion=eu-north-1\nendpoint_url={wrong}\nservices=mine\n\
         [services mine]\ndynamodb =\n  endpoint_url = {url}\n[profile none]\noutput=json\n"
    );
    let in_environment = [("AWS_ENDPOINT_URL_DYNAMODB", url.as_str())];
    let both = [in_environment[0], ("AWS_ENDPOINT_URL", wrong.as_str())];
    let region = [("AWS_DEFAULT_REGION", "sa-east-1")];
    let first = [("AWS_REGION", "us-west-2"), region[0]];
    let cases: [(&[_], &[_], _, _); 6] = [
        (&both, &region, "dynamodb://eu-west-1", "eu-west-1"),
        (&both, &region, "dynamodb://", "sa-east-1"),
        (&in_environment, &first, "dynamodb://", "us-west-2"),
        (&[("AWS_PROFILE", "here")], &[], "dynamodb://", "eu-north-1"),
        (
            &[("AWS_PROFILE", "service")],
            &[],
            "dynamodb://",
            "eu-north-1",
        ),
        (
            &[("AWS_PROFILE", "here")],
            &[],
            "dynamodb://eu-west-1",
            "eu-west-1",
        ),
    ];
    for (vars, more, address, region) in cases {
        let program = Program::new(&config, "").with(&KEYS).with(vars).with(more);
        assert_eq!(program.run(&format!("{address}?timeout=15")), "ok");
        let seen = services.seen("POST / ").pop().unwrap();
        let signed = &seen.headers["authorization"];
        assert!(signed.contains(&format!("/{region}/dynamodb/")), "{signed}");
    }
    assert!(other.keys().is_empty());
    for (vars, address, part) in [
        (KEYS[0], "dynamodb://", "no region"),
        (("AWS_PROFILE", "none"), "dynamodb://", "no region"),
        (("AWS_PROFILE", "who"), "dynamodb://", "does not exist"),
        (
            ("AWS_REGION", "eu\r\nx-evil: 1"),
            "dynamodb://",
            "is not valid",
        ),
        (
            ("AWS_PROFILE", "who"),
            "dynamodb://?profile=none",
            "no region",
        ),
    ] {
        let program = Program::new(&config, "").with(&KEYS).with(&[vars]);
        let error = program.run(address);
        assert!(error.starts_with("Configuration: "), "{error}");
        assert!(error.contains(part), "{error}");
    }
}
