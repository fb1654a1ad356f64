//! Reading URLs: all parts come back decoded, and no message shows a password.

use mintkey_runtime::{Address, Host, Parameters};
use mintkey_store::{Error, ErrorKind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

const EXAMPLE: &str = "redis://localhost:6379/0";
const SCHEMES: [&str; 4] = ["redis", "redis-cluster", "unix", "dynamodb"];

fn parse(url: &str) -> Result<(Address, Parameters), Error> {
    Address::parse(url, &SCHEMES, EXAMPLE)
}

fn parse_path(url: &str) -> Result<(Address, Parameters), Error> {
    Address::parse_path(url, "sqlite", "sqlite:///shop.db")
}

fn address(url: &str) -> Address {
    parse(url).unwrap().0
}

fn host(name: &str, port: impl Into<Option<u16>>) -> Host {
    Host {
        name: name.to_owned(),
        port: port.into(),
    }
}

#[test]
fn an_address_has_its_parts() {
    let (address, mut parameters) =
        parse("redis://me:s%40crt@db.example:7000/3?prefix=shop").unwrap();
    assert_eq!(address.scheme, "redis");
    assert_eq!(address.user.as_deref(), Some("me"));
    assert_eq!(address.password.as_deref(), Some("s@crt"));
    assert_eq!(address.hosts, [host("db.example", 7000)]);
    assert_eq!(address.path, "/3");
    assert_eq!(address.to_string(), "redis://db.example:7000/3");
    assert_eq!(format!("{address:?}"), "Address(redis://db.example:7000/3)");
    assert_eq!(parameters.take("prefix").as_deref(), Some("shop"));
    let which = [("db", "2".to_owned()), ("prefix", "shop".to_owned())];
    assert_eq!(
        address.with_parameters(which),
        "redis://db.example:7000/3?db=2&prefix=shop"
    );
    assert_eq!(address.with_parameters([]), address.to_string());
}

#[test]
fn hosts_are_one_or_many_or_none() {
    let hosts = |url: &str| address(url).hosts;
    assert_eq!(
        hosts("dynamodb://eu-central-1"),
        [host("eu-central-1", None)]
    );
    assert_eq!(
        hosts("redis-cluster://a:7000,b,[::1]:7002,[fe80::1%25eth0]/0"),
        [
            host("a", 7000),
            host("b", None),
            host("::1", 7002),
            host("fe80::1%25eth0", None)
        ]
    );
    assert_eq!(hosts("dynamodb://?retries=0"), []);
    let socket = address("unix:///run/r%20s.sock");
    assert_eq!(
        (socket.hosts, socket.path.as_str()),
        (vec![], "/run/r s.sock")
    );
}

#[test]
fn a_password_may_have_characters_that_separate_other_parts() {
    for password in [
        "p/w", "p@w", "p:w", "p#w", "[pw", "p,w", "p%3Fw", "//", "p://w",
    ] {
        let url = format!("redis://me:{password}@host:1/2");
        let address = address(&url);
        let decoded = password.replace("%3F", "?");
        assert_eq!(address.password, Some(decoded), "{url}");
        assert_eq!(address.to_string(), "redis://host:1/2");
    }
}

#[test]
fn an_absent_part_and_an_empty_one_are_the_same() {
    for url in ["redis://host", "redis://@host", "redis://:@host"] {
        let address = address(url);
        assert_eq!((address.user, address.password), (None, None), "{url}");
    }
    let only_password = address("redis://:pw@host");
    assert_eq!(only_password.user, None);
    assert_eq!(only_password.password.as_deref(), Some("pw"));
    assert_eq!(address("redis://me@host").user.as_deref(), Some("me"));
}

#[test]
fn a_wrong_url_is_refused_with_an_example() {
    for url in [
        "",
        "host",
        "redis:host",
        "redis:/host",
        "://host",
        "Redis://host",
        "http://host",
        " redis://host",
        "redis://:6379",
        "redis://host:",
        "redis://host:0",
        "redis://host:+1",
        "redis://host:65536",
        "redis://host:port",
        "redis://a,",
        "redis://,a",
        "redis://a:1,b:x",
        "redis://::1",
        "redis://[::1",
        "redis://[::1]6379",
        "redis://[]",
        "redis://ho st",
        "redis://host#part",
        "redis://hö",
        "redis://host/%ff",
        "redis://host/%00",
        "redis://%ff@host",
        "redis://me:%ff@host",
        "redis://me:pw?x@host",
        "redis:///path@host",
    ] {
        let error = parse(url).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{url}");
        assert!(
            error.message.ends_with(&format!(": write {EXAMPLE}")),
            "{url}: {error}"
        );
    }
}

#[test]
fn the_url_of_a_file_is_a_path() {
    for (url, path) in [
        ("sqlite://", ""),
        ("sqlite:///shop.db?sync=full", "/shop.db"),
        ("sqlite:////srv/my%20shop.db", "//srv/my shop.db"),
        ("sqlite://shop.db", "shop.db"),
        ("sqlite://:memory:", ":memory:"),
        ("sqlite:///me@work/a#b:c,d.db", "/me@work/a#b:c,d.db"),
    ] {
        let (address, _) = parse_path(url).unwrap();
        assert_eq!(address.path, path, "{url}");
        assert_eq!(
            (address.hosts, address.user, address.password),
            (vec![], None, None)
        );
    }
    for url in [
        "sqlite:shop.db",
        "sqlite://me:pw@host/shop.db",
        "sqlite:///a%00b",
        "sqlite:///%ff",
    ] {
        let error = parse_path(url).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{url}");
        assert!(
            error.message.ends_with(": write sqlite:///shop.db"),
            "{url}: {error}"
        );
    }
}

/// All texts that can become part of a message when a URL is read.
fn messages(read: Result<(Address, Parameters), Error>) -> Vec<String> {
    match read {
        Err(error) => vec![error.to_string(), format!("{error:?}")],
        Ok((address, parameters)) => {
            let invalid = parameters.invalid("timeout", "x", "a number");
            let mut texts = vec![
                address.to_string(),
                format!("{address:?}"),
                format!("{parameters:?}"),
                address.with_parameters([("prefix", "x".to_owned())]),
                invalid.to_string(),
            ];
            texts.extend(parameters.end().err().map(|error| format!("{error:?}")));
            texts
        }
    }
}

/// Text made of the characters that have a meaning in a URL, and of others.
fn noise() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        ":",
        "/",
        "?",
        "#",
        "@",
        "&",
        "=",
        "%",
        "%4",
        "%40",
        "%00",
        "%ff",
        "[",
        "]",
        "[::1]",
        ",",
        "//",
        "://",
        ":memory:",
        "host",
        "6379",
        "0",
        "a",
        "timeout=1",
        " ",
        "\0",
        "\n",
        "é",
        "\u{202e}",
    ]);
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

fn part() -> impl Strategy<Value = Option<String>> {
    prop::option::of("\\PC{1,12}")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_encoded_url_gives_its_parts_back(
        user in part(),
        password in part(),
        hosts in prop::collection::vec(("[a-zA-Z0-9._-]{1,10}", prop::option::of(1_u16..)), 0..4),
        path in prop::option::of("\\PC{0,12}"),
        parameters in prop::collection::btree_map("[a-z_]{1,8}", "\\PC{0,12}", 0..4),
    ) {
        const NAMES: [&str; 4] = ["prefix", "timeout", "ca", "key"];
        let login = match (&user, &password) {
            (None, None) => String::new(),
            (user, password) => {
                let [user, password] = [user, password].map(|part| encoded(part.as_deref().unwrap_or("")));
                format!("{user}:{password}@")
            }
        };
        let places: Vec<String> = hosts
            .iter()
            .map(|(name, port)| port.map_or_else(|| name.clone(), |port| format!("{name}:{port}")))
            .collect();
        let raw_path = path.as_deref().map_or_else(String::new, |path| format!("/{}", encoded(path)));
        let location = format!("{}{raw_path}", places.join(","));
        let values: Vec<(&str, &String)> = NAMES.into_iter().zip(parameters.values()).collect();
        let query: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let url = format!("redis://{login}{location}?{}", query.join("&"));

        let (address, mut given) = parse(&url).unwrap();

        prop_assert_eq!(&address.user, &user);
        prop_assert_eq!(&address.password, &password);
        let read: Vec<_> = address.hosts.iter().map(|host| (host.name.clone(), host.port)).collect();
        prop_assert_eq!(read, hosts);
        prop_assert_eq!(&address.path, &path.map_or_else(String::new, |path| format!("/{path}")));
        prop_assert_eq!(address.to_string(), format!("redis://{location}"));
        for (name, value) in values {
            prop_assert_eq!(given.take(name), Some(value.clone()));
        }
        prop_assert!(given.end().is_ok());
    }

    #[test]
    fn no_message_shows_a_password(before in noise(), after in noise(), rest in noise()) {
        for url in [
            format!("redis://{before}s3cret{after}@{rest}"),
            format!("redis://me:{before}s3cret{after}@host:6379/0?{rest}"),
            format!("redis:{before}s3cret{after}@{rest}"),
            format!("{before}s3cret{after}@{rest}"),
        ] {
            for text in messages(parse(&url)) {
                prop_assert!(!text.contains("s3cret"), "{url:?}: {text:?}");
            }
        }
        // A file has no password, but a user may write its scheme before the rest of another store's URL.
        let url = format!("sqlite://me:s3cret{after}@{rest}");
        for text in messages(parse_path(&url)) {
            prop_assert!(!text.contains("s3cret"), "{url:?}: {text:?}");
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(url in "\\PC{0,40}", signs in noise()) {
        for url in [url, format!("unix://{signs}"), format!("sqlite://{signs}"), signs] {
            for parse in [parse, parse_path] {
                if let Ok((address, parameters)) = parse(&url) {
                    // The text of an address names the same store.
                    let (again, _) = parse(&address.to_string()).unwrap();
                    prop_assert_eq!((again.hosts, again.path), (address.hosts, address.path));
                    drop(parameters.end());
                }
            }
        }
    }
}
