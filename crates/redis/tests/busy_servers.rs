//! New connections to servers that cannot answer at the moment.

mod entry_points;
mod proxy;
use mintkey_store_testkit::requests;
mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use entry_points::ENTRY_POINTS;
use mintkey_store::{ErrorKind, Guard, Interrupt, Operation, Outcome, Reply, Store};
use proxy::Proxy;
use requests::*;

const BUSY_REPLIES: [&str; 5] = [
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
        for reply in BUSY_REPLIES {
            for entry_point in ENTRY_POINTS {
                let proxy = Proxy::new(&[]);
                proxy.refuse(4, reply);
                let store = store(scheme, &proxy, 30.0);
                for result in entry_point.run(&*store, vec![save(), save(), save()]) {
                    assert_eq!(
                        result,
                        Ok(Reply::Done),
                        "{scheme} {reply:?} {entry_point:?}"
                    );
                }
                assert_eq!(proxy.refusals_left(), 0);
                proxy.vanish();
            }
        }
    }
}

#[test]
fn a_server_that_stays_busy_is_reported_after_the_timeout() {
    for scheme in ["redis", "redis-cluster"] {
        for entry_point in ENTRY_POINTS {
            let proxy = Proxy::new(&[]);
            proxy.refuse(10_000, BUSY_REPLIES[0]);
            let store = store(scheme, &proxy, 0.5);
            for reply in entry_point.run(&*store, vec![save()]) {
                let error = reply.unwrap_err();
                let kind = ErrorKind::Unavailable(Outcome::NotApplied);
                assert_eq!(error.kind, kind, "{scheme} {entry_point:?} {error}");
                assert!(
                    error.message.contains("BUSY"),
                    "{scheme} {entry_point:?} {error}"
                );
            }
            assert!(proxy.refusals_left() < 9_998, "{scheme} {entry_point:?}");
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
        proxy.refuse(10_000, BUSY_REPLIES[0]);
        let store = store(scheme, &proxy, 30.0);
        let error = store.execute(&request(save()), &Now).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
        proxy.vanish();
    }
    assert!(RAISED.load(Ordering::SeqCst));
}

#[test]
fn a_server_with_too_many_clients_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.write_all(b"-ERR max number of clients reached\r\n");
            // The request is read: otherwise the reply may be lost when the connection closes.
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    for url in [
        format!("redis://{address}"),
        format!("redis://:secret@{address}/2"),
    ] {
        let store = mintkey_redis::open(&url).unwrap();
        for entry_point in ENTRY_POINTS {
            let error = entry_point
                .run(&*store, vec![save()])
                .remove(0)
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
            assert!(
                error.message.contains("maxclients"),
                "{entry_point:?} {error}"
            );
        }
    }
}
