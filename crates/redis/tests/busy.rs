//! Servers that cannot answer at the moment, and are met by a new connection.

mod proxy;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;
mod ways;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mintkey_store::{ErrorKind, Guard, Interrupt, Operation, Outcome, Reply, Store};
use proxy::Proxy;
use requests::*;
use ways::WAYS;

const REFUSALS: [&str; 5] = [
    "-BUSY Redis is busy running a script.\r\n",
    "-LOADING Redis is loading the dataset in memory\r\n",
    "-MASTERDOWN Link with MASTER is down\r\n",
    "-CLUSTERDOWN The cluster is down\r\n",
    "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
];

fn store(scheme: &str, proxy: &Proxy, timeout: f64) -> Arc<dyn Store> {
    let (port, process) = (proxy.port, std::process::id());
    let url = format!("{scheme}://127.0.0.1:{port}?prefix=busy-{process}&timeout={timeout}");
    mintkey_redis::open(&url).unwrap()
}

fn save() -> Operation {
    put_of(&orders(), order("a", "1", &[]), Guard::default())
}

#[test]
fn a_new_connection_waits_for_a_server_that_is_busy() {
    for scheme in ["redis", "redis-cluster"] {
        for words in REFUSALS {
            for way in WAYS {
                let proxy = Proxy::new(&[]);
                proxy.refuse(4, words);
                let store = store(scheme, &proxy, 30.0);
                for reply in way.run(&*store, vec![save(), save(), save()]) {
                    assert_eq!(reply, Ok(Reply::Done), "{scheme} {words:?} {way:?}");
                }
                assert_eq!(proxy.refusals_left(), 0);
                proxy.vanish();
            }
        }
    }
}

#[test]
fn one_that_stays_busy_is_reported_when_the_time_is_over() {
    for scheme in ["redis", "redis-cluster"] {
        for way in WAYS {
            let proxy = Proxy::new(&[]);
            proxy.refuse(10_000, REFUSALS[0]);
            let store = store(scheme, &proxy, 0.5);
            for reply in way.run(&*store, vec![save()]) {
                let error = reply.unwrap_err();
                let kind = ErrorKind::Unavailable(Outcome::NotApplied);
                assert_eq!(error.kind, kind, "{scheme} {way:?} {error}");
                assert!(error.message.contains("BUSY"), "{scheme} {way:?} {error}");
            }
            assert!(proxy.refusals_left() < 9_998, "{scheme} {way:?}");
            proxy.vanish();
        }
    }
}

static RAISED: AtomicBool = AtomicBool::new(false);

struct Now;

impl Interrupt for Now {
    fn raised(&self) -> bool {
        RAISED.store(true, Ordering::SeqCst);
        true
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_a_busy_server() {
    for scheme in ["redis", "redis-cluster"] {
        let proxy = Proxy::new(&[]);
        proxy.refuse(10_000, REFUSALS[0]);
        let store = store(scheme, &proxy, 30.0);
        let error = store.execute(&request(save()), &Now).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
        proxy.vanish();
    }
    assert!(RAISED.load(Ordering::SeqCst));
}

#[test]
fn a_server_with_too_many_clients_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.write_all(b"-ERR max number of clients reached\r\n");
            // What was sent is read, lest the reply is lost with the connection.
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    for url in [
        format!("redis://{place}"),
        format!("redis://:secret@{place}/2"),
    ] {
        let store = mintkey_redis::open(&url).unwrap();
        for way in WAYS {
            let error = way.run(&*store, vec![save()]).remove(0).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
            assert!(error.message.contains("maxclients"), "{way:?} {error}");
        }
    }
}
