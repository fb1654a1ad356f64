//! Servers that send more than a response: the rest is not the response to the next call.

mod faulty;
use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::create_certificate;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use faulty::{answer, is_whole};
use mintkey_store::{Operation, Reply, Result, Store};
use requests::{get_of, key, orders, submit};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// What the server sends after the response to the first request, at the same time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Surplus {
    None,
    /// Another response in the same record of TLS.
    SameRecord,
    NextRecord,
    /// Another record that is not complete. The rest of it precedes the next response.
    HalfRecord,
    /// Only the header of that record.
    RecordHeader,
}

/// A server with TLS. It ends with the process.
struct Server {
    folder: PathBuf,
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn server_config(folder: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join("own.pem")).unwrap();
    let own = PrivateKeyDer::from_pem_file(folder.join("own.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], own)
        .unwrap();
    Arc::new(config)
}

impl Server {
    fn new(surplus: Surplus) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("mintkey-dynamodb-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        create_certificate(&folder, "own");
        let config = server_config(&folder);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                let config = Arc::clone(&config);
                let surplus = if first { surplus } else { Surplus::None };
                std::thread::spawn(move || serve(stream.unwrap(), config, surplus));
            }
        });
        Self {
            folder,
            port,
            connections,
        }
    }

    fn open(&self) -> Arc<dyn Store> {
        let ca = self.folder.join("own.pem");
        mintkey_dynamodb::open(&format!(
            "dynamodb://us-east-1?endpoint=https://localhost:{}&ca={}&timeout=20",
            self.port,
            ca.to_str().unwrap()
        ))
        .unwrap()
    }
}

/// Reads a request; false at the end of the connection.
fn read(tls: &mut ServerConnection, stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&bytes) {
        match rustls::Stream::new(tls, stream).read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return false,
        }
    }
    true
}

/// The records with this text.
fn records(tls: &mut ServerConnection, text: &str) -> Vec<u8> {
    tls.writer().write_all(text.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, surplus: Surplus) {
    let mut tls = ServerConnection::new(config).unwrap();
    let response = answer(200, "{}");
    // A row with the key of the next call.
    let other = answer(
        200,
        "{\"Item\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"}}}",
    );
    let mut late = Vec::new();
    let mut is_first = true;
    while read(&mut tls, &mut stream) {
        let mut bytes = std::mem::take(&mut late);
        if std::mem::take(&mut is_first) {
            let both = format!("{response}{other}");
            let text = if surplus == Surplus::SameRecord {
                &both
            } else {
                &response
            };
            bytes.extend(records(&mut tls, text));
            let sent = match surplus {
                Surplus::None | Surplus::SameRecord => None,
                Surplus::NextRecord => Some(usize::MAX),
                Surplus::HalfRecord => Some(40),
                Surplus::RecordHeader => Some(3),
            };
            if let Some(sent) = sent {
                let mut next = records(&mut tls, &other);
                late = next.split_off(sent.min(next.len()));
                bytes.extend(next);
            }
        } else {
            bytes.extend(records(&mut tls, &response));
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_row() -> Operation {
    get_of(&orders(), key("a", "1"))
}

type Call = fn(&dyn Store, Operation) -> Result<Reply>;

fn submitted(store: &dyn Store, operation: Operation) -> Result<Reply> {
    submit(store, operation).1.recv().unwrap()
}

#[test]
fn surplus_bytes_over_tls_are_not_the_next_response() {
    for (surplus, connections) in [
        (Surplus::None, 1),
        (Surplus::SameRecord, 2),
        (Surplus::NextRecord, 2),
        (Surplus::HalfRecord, 2),
        (Surplus::RecordHeader, 2),
    ] {
        for call in [requests::run as Call, submitted] {
            let server = Server::new(surplus);
            let store = server.open();
            for _ in 0..3 {
                let reply = call(&*store, read_row()).unwrap();
                assert_eq!(reply, Reply::Item(None), "{surplus:?}");
            }
            let opened = server.connections.load(Ordering::SeqCst);
            assert_eq!(opened, connections, "{surplus:?}");
        }
    }
}
