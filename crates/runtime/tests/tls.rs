//! The encryption of connections, against a server in memory.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mintkey_runtime::{Address, Tls, untrusted_reason};
use mintkey_store::{ErrorKind, Result};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

/// A folder with self-signed certificates for localhost and their keys, in files of these names.
fn certificates(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext"])
            .args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext"])
            .args(["basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(folder.path().join(format!("{name}.key")))
            .arg("-out")
            .arg(folder.path().join(format!("{name}.pem")))
            .stderr(Stdio::null())
            .status()
            .expect("install openssl, which makes the certificates of this test");
        assert!(made.success());
    }
    folder
}

/// The encryption that these parameters describe; `~` stands for the folder.
fn tls(folder: &Path, query: &str) -> Result<Tls> {
    let query = query.replace('~', folder.to_str().unwrap());
    let (_, mut parameters) =
        Address::parse(&format!("rediss://localhost?{query}"), &["rediss"], "").unwrap();
    let tls = Tls::take(&mut parameters, None)?;
    parameters.end()?;
    Ok(tls)
}

/// A server with the first certificate, which requires the second of its clients.
fn server(folder: &Path, own: &str, clients: &str) -> ServerConnection {
    let file = |name: String| folder.join(name);
    let certificate = |name: &str| CertificateDer::from_pem_file(file(format!("{name}.pem")));
    let key = PrivateKeyDer::from_pem_file(file(format!("{own}.key"))).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(clients).unwrap()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![certificate(own).unwrap()], key)
        .unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// Runs the handshake; the first error of each side.
fn handshake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> (Option<rustls::Error>, Option<rustls::Error>) {
    let mut errors = (None, None);
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &*bytes).unwrap();
        errors.1 = errors.1.or(server.process_new_packets().err());
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &*bytes).unwrap();
        errors.0 = errors.0.or(client.process_new_packets().err());
    }
    errors
}

#[test]
fn server_and_client_verify_each_other() {
    let folder = certificates(&["server", "client"]);
    let folder = folder.path();
    let tls = tls(folder, "ca=~/server.pem&cert=~/client.pem&key=~/client.key").unwrap();
    // A child of a fork has the same certificates and other locks.
    let child = tls.in_child();
    assert!(!Arc::ptr_eq(
        &tls.config().unwrap(),
        &child.config().unwrap()
    ));
    assert!(Arc::ptr_eq(&tls.config().unwrap(), &tls.config().unwrap()));
    for tls in [tls, child] {
        for host in ["localhost", "127.0.0.1"] {
            let mut client = tls.connection(host).unwrap();
            let mut server = server(folder, "server", "client");
            assert_eq!(handshake(&mut client, &mut server), (None, None));
            assert!(server.peer_certificates().is_some());
        }
    }
}

#[test]
fn without_cert_the_client_has_no_certificate() {
    let folder = certificates(&["server", "client"]);
    let folder = folder.path();
    let tls = tls(folder, "ca=~/server.pem").unwrap();
    let mut client = tls.connection("localhost").unwrap();
    let (_, refused) = handshake(&mut client, &mut server(folder, "server", "client"));
    assert_eq!(refused, Some(rustls::Error::NoCertificatesPresented));
}

#[test]
fn an_untrusted_side_is_told_what_to_do() {
    let folder = certificates(&["server", "other"]);
    let folder = folder.path();
    let way_out = |ca: &str, host: &str| {
        let tls = tls(folder, &format!("ca=~/{ca}.pem")).unwrap();
        let mut client = tls.connection(host).unwrap();
        let (error, _) = handshake(&mut client, &mut server(folder, "server", "other"));
        untrusted_reason(&io::Error::other(error.unwrap())).unwrap()
    };
    assert!(way_out("other", "localhost").contains("?ca="));
    assert!(way_out("server", "example.org").contains("a name that is in the certificate"));
    let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
    assert!(
        untrusted_reason(&io::Error::other(expired))
            .unwrap()
            .contains("the clock")
    );
    assert_eq!(untrusted_reason(&io::Error::other("broken")), None);
    assert_eq!(untrusted_reason(&io::ErrorKind::BrokenPipe.into()), None);
}

#[test]
fn files_that_cannot_be_used_are_refused() {
    let folder = certificates(&["own", "other"]);
    let folder = folder.path();
    fs::write(folder.join("empty.pem"), "").unwrap();
    fs::write(folder.join("text.pem"), "no certificate").unwrap();
    for (query, words) in [
        ("ca=~/none.pem", "none.pem"),
        ("ca=~/empty.pem", "empty.pem"),
        ("ca=~/text.pem", "text.pem"),
        ("ca=~", "cannot be read"),
        ("ca=", "cannot be read"),
        ("cert=~/own.pem", "both ?cert= and &key="),
        ("key=~/own.key", "both ?cert= and &key="),
        ("cert=~/own.pem&key=~/other.key", "cannot be used with"),
        ("cert=~/own.pem&key=~/own.pem", "own.pem"),
        ("cert=~/own.key&key=~/own.key", "own.key"),
    ] {
        let error = tls(folder, query).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{query}");
        assert!(error.message.contains(words), "{query}: {error}");
        assert!(!error.message.contains("PRIVATE KEY"), "{error}");
    }
}

#[test]
fn a_host_that_cannot_be_in_a_certificate_is_refused() {
    let folder = certificates(&["own"]);
    let tls = tls(folder.path(), "ca=~/own.pem").unwrap();
    for host in ["", "a b", "under score.example"] {
        let error = tls.connection(host).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{host}");
    }
}
