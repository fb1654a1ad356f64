//! TLS: a server that needs a password and a client certificate.

use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::{create_certificate, free_port};

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mintkey_store::{ErrorKind, Operation};
use requests::*;

/// A server in a folder. A shell ends it, and removes the folder, when this process ends.
struct Server {
    folder: PathBuf,
    port: u16,
    scheme: &'static str,
    _shell: Child,
}

impl Server {
    /// Starts a single server, or a Cluster of one server.
    fn start(scheme: &'static str, protocol: &str) -> Self {
        let name = format!(
            "mintkey-redis-tls-{scheme}-{protocol}-{}",
            std::process::id()
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        create_certificate(&folder, "own");
        create_certificate(&folder, "other");
        let port = free_port();
        let more = match scheme {
            "rediss-cluster" => "--cluster-enabled yes --tls-cluster yes",
            _ => "",
        };
        let script = "trap : INT TERM; cd \"$0\"; redis-server --port 0 --tls-port \"$1\" --bind 127.0.0.1 --save '' --requirepass s3cret \
                      --tls-cert-file own.pem --tls-key-file own.key --tls-ca-cert-file own.pem --tls-protocols \"$3\" $2 >log 2>&1 & \
                      read -r _; kill $!; wait; rm -r \"$0\"";
        let shell = Command::new("sh")
            .args(["-c", script, folder.to_str().unwrap()])
            .args([&port.to_string(), more, protocol])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed().as_secs() < 10, "install redis-server");
            std::thread::yield_now();
        }
        if !more.is_empty() {
            let slots = "cd \"$0\"; redis-cli -p \"$1\" --tls --cacert own.pem --cert own.pem --key own.key \
                         -a s3cret --no-auth-warning CLUSTER ADDSLOTSRANGE 0 16383";
            let given = Command::new("sh")
                .args(["-c", slots, folder.to_str().unwrap(), &port.to_string()])
                .output()
                .unwrap();
            assert_eq!(given.stdout, b"OK\n", "{given:?}");
        }
        Self {
            folder,
            port,
            scheme,
            _shell: shell,
        }
    }

    /// A URL with this client certificate; none: "".
    fn url(&self, login: &str, ca: &str, own: &str) -> String {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let (port, ca, scheme) = (self.port, file(ca), self.scheme);
        let url = format!("{scheme}://{login}127.0.0.1:{port}?ca={ca}");
        if own.is_empty() {
            return url;
        }
        let (certificate, key) = (file(&format!("{own}.pem")), file(&format!("{own}.key")));
        format!("{url}&cert={certificate}&key={key}")
    }
}

#[test]
fn both_sides_are_authenticated() {
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        check_authentication(&Server::start("rediss", protocol));
    }
}

#[test]
fn both_sides_are_authenticated_in_a_cluster() {
    // It replies CLUSTERDOWN for a moment, until it serves its slots.
    check_authentication(&Server::start("rediss-cluster", "TLSv1.3"));
}

fn check_authentication(server: &Server) {
    let store = mintkey_redis::open(&server.url(":s3cret@", "own.pem", "own")).unwrap();
    for sort in ["1", "2"] {
        let large = order("a", sort, &[("text", "x".repeat(300_000).as_str().into())]);
        put(&*store, &orders(), large.clone()).unwrap();
        assert_eq!(get(&*store, &orders(), key("a", sort)), Some(large.clone()));
        let results: Vec<_> = (0..20)
            .map(|_| submit(&*store, get_of(&orders(), key("a", sort))).1)
            .collect();
        for result in results {
            let reply = mintkey_store::Reply::Item(Some(large.clone()));
            assert_eq!(result.recv().unwrap().unwrap(), reply);
        }
    }
    let refused = |url: &str| {
        let store = mintkey_redis::open(url).unwrap();
        let scan = Operation::Scan(scan_of(&orders()));
        for result in [
            run(&*store, scan.clone()),
            submit(&*store, scan).1.recv().unwrap(),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
            assert!(!error.to_string().contains("wr0ng"), "{error}");
        }
    };
    refused(&server.url(":wr0ng@", "own.pem", "own"));
    refused(&server.url("", "own.pem", "own"));
    refused(&server.url(":s3cret@", "other.pem", "own"));
    // A server that does not trust the client sends an alert, and closes the connection.
    refused(&server.url(":s3cret@", "own.pem", "other"));
    refused(&server.url(":s3cret@", "own.pem", ""));
}
