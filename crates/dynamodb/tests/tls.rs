//! Servers and clients that do not trust each other: nothing is carried out, and waiting does not help.

mod faulty;
use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::create_certificate;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use faulty::{answer, is_whole};
use mintkey_store::{Action, ErrorKind, Guard, Operation, Path as AttributePath, Reply, Returning};
use requests::{get_of, key, number, order, orders, put_of, submit, update_of};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream, SupportedProtocolVersion};

/// A server with the certificate `own`, which requires it of its clients too. It ends with the process.
struct Server {
    folder: PathBuf,
    port: u16,
    /// The requests that it has read.
    requests: Arc<AtomicUsize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn server_config(folder: &Path, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join("own.pem")).unwrap();
    let own = PrivateKeyDer::from_pem_file(folder.join("own.key")).unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(certificate.clone()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(clients.into(), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], own)
        .unwrap();
    Arc::new(config)
}

impl Server {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("mintkey-dynamodb-trust-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        create_certificate(&folder, "own");
        create_certificate(&folder, "other");
        let config = server_config(&folder, version);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, counted) = (Arc::clone(&config), Arc::clone(&counted));
                std::thread::spawn(move || serve(stream.unwrap(), config, &counted));
            }
        });
        Self {
            folder,
            port,
            requests,
        }
    }

    /// A URL with this authority, and with this client certificate.
    fn url(&self, ca: &str, client: Option<&str>) -> String {
        let file = |name: &str, kind: &str| {
            let path = self.folder.join(format!("{name}.{kind}"));
            path.to_str().unwrap().to_owned()
        };
        let client = client.map_or_else(String::new, |name| {
            format!("&cert={}&key={}", file(name, "pem"), file(name, "key"))
        });
        format!(
            "dynamodb://us-east-1?endpoint=https://localhost:{}&ca={}&timeout=20{client}",
            self.port,
            file(ca, "pem")
        )
    }
}

fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, counted: &AtomicUsize) {
    let mut tls = ServerConnection::new(config).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match Stream::new(&mut tls, &mut stream).read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            // The client has gone, or is not trusted: then it was sent an alert.
            _ => return,
        }
        if is_whole(&bytes) {
            counted.fetch_add(1, Ordering::SeqCst);
            bytes.clear();
            let response = answer(200, "{}");
            let mut tls = Stream::new(&mut tls, &mut stream);
            if tls.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn operations() -> [Operation; 3] {
    // The last one must not be sent twice. The second one is larger than the buffers of sockets.
    let large = "x".repeat(350_000);
    let add = mintkey_store::Update {
        actions: vec![Action::Add(AttributePath::attribute("n"), number("1"))],
        returning: Returning::Nothing,
        ..update_of(&orders(), key("a", "1"))
    };
    [
        get_of(&orders(), key("a", "1")),
        put_of(
            &orders(),
            order("a", "1", &[("text", large.as_str().into())]),
            Guard::default(),
        ),
        Operation::Update(add),
    ]
}

#[test]
fn without_trust_nothing_is_carried_out() {
    for version in [&TLS12, &TLS13] {
        let server = Server::new(version);
        for (ca, client, remedy) in [
            ("other", Some("own"), "?ca="),
            ("own", None, "?cert="),
            ("own", Some("other"), "?cert="),
        ] {
            let store = mintkey_dynamodb::open(&server.url(ca, client)).unwrap();
            for operation in operations() {
                for result in [
                    requests::run(&*store, operation.clone()),
                    submit(&*store, operation.clone()).1.recv().unwrap(),
                ] {
                    let error = result.unwrap_err();
                    let context = format!("{version:?} {ca} {client:?}: {error}");
                    assert_eq!(error.kind, ErrorKind::Configuration, "{context}");
                    assert!(error.message.contains(remedy), "{context}");
                }
            }
        }
        assert_eq!(server.requests.load(Ordering::SeqCst), 0);
        let store = mintkey_dynamodb::open(&server.url("own", Some("own"))).unwrap();
        for operation in operations() {
            let reply = requests::run(&*store, operation).unwrap();
            assert!(
                matches!(reply, Reply::Done | Reply::Item(None)),
                "{reply:?}"
            );
        }
    }
}
