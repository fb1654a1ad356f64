//! Connections that break in the middle of a write, and servers that are gone afterwards: what is reported of each row
//! agrees with what is stored.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use mintkey_store::store::Never;
use mintkey_store::{
    Action, BatchWrite, Delete, ErrorKind, Guard, Item, Key, KeyKind, Operation, Outcome, Path,
    Put, Reply, Result, Row, Store, Table, Update, Write,
};
use requests::*;
use server::frame;

/// What happens to one script.
#[derive(Clone, Copy, Debug)]
struct Act {
    /// Whether the server carries it out.
    delivered: bool,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// The server's reply is passed on.
    Reply,
    /// This reply is passed on, with the proxy's address for `{here}`.
    Say(&'static str),
    /// The connection is closed.
    Cut,
    /// All connections are closed, and no other can be made.
    Vanish,
}

const PASS: Act = act(true, Then::Reply);
const CUT_BEFORE: Act = act(false, Then::Cut);
const CUT_AFTER: Act = act(true, Then::Cut);
const VANISH_BEFORE: Act = act(false, Then::Vanish);
const VANISH_AFTER: Act = act(true, Then::Vanish);

const fn act(delivered: bool, then: Then) -> Act {
    Act { delivered, then }
}

const fn say(words: &'static str) -> Act {
    act(false, Then::Say(words))
}

/// A proxy in front of the server, which also passes for the only server of a Cluster.
struct Proxy {
    port: u16,
    acts: Mutex<VecDeque<Act>>,
    clients: Mutex<Vec<TcpStream>>,
    gone: AtomicBool,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    fn new(acts: &[Act]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            acts: Mutex::new(acts.iter().copied().collect()),
            clients: Mutex::default(),
            gone: AtomicBool::new(false),
            listening: Mutex::default(),
        });
        let own = Arc::clone(&proxy);
        let listening = thread::spawn(move || {
            for client in listener.incoming() {
                if own.gone.load(Ordering::SeqCst) {
                    return;
                }
                let client = client.unwrap();
                own.clients
                    .lock()
                    .unwrap()
                    .push(client.try_clone().unwrap());
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(client));
            }
        });
        *proxy.listening.lock().unwrap() = Some(listening);
        proxy
    }

    /// Is there no more.
    fn vanish(&self) {
        self.gone.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.lock().unwrap().take() {
            let _ = TcpStream::connect(("127.0.0.1", self.port));
            listening.join().unwrap();
        }
        for client in self.clients.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, client: TcpStream) -> Option<()> {
        let (mut server, mut answers) = server::connect();
        let mut own = client.try_clone().unwrap();
        let mut asked = BufReader::new(client);
        loop {
            let command = frame(&mut asked)?;
            let has = |text: &str| {
                command
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            if has("\r\nINFO\r\n") {
                // Whether this is a Cluster is left open.
                own.write_all(b"-NOPERM because\r\n").ok()?;
                continue;
            }
            if has("\r\nCLUSTER\r\n") {
                let port = self.port;
                let slots =
                    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n");
                own.write_all(slots.as_bytes()).ok()?;
                continue;
            }
            if has("\r\nASKING\r\n") {
                own.write_all(b"+OK\r\n").ok()?;
                continue;
            }
            let act = if has("\r\nEVAL") {
                self.acts.lock().unwrap().pop_front().unwrap_or(PASS)
            } else {
                PASS
            };
            let mut reply = Vec::new();
            if act.delivered {
                server.write_all(&command).ok()?;
                reply = frame(&mut answers)?;
                if reply.starts_with(b"-NOSCRIPT") {
                    // The server does not know it yet. Nothing has happened.
                    self.acts.lock().unwrap().push_front(act);
                    own.write_all(&reply).ok()?;
                    continue;
                }
            }
            match act.then {
                Then::Reply => own.write_all(&reply).ok()?,
                Then::Say(words) => {
                    let words = words.replace("{here}", &format!("127.0.0.1:{}", self.port));
                    own.write_all(words.as_bytes()).ok()?;
                }
                Then::Cut => {
                    let _ = own.shutdown(Shutdown::Both);
                    return None;
                }
                Then::Vanish => self.vanish(),
            }
        }
    }
}

/// The ways to carry a request out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Execute,
    ExecuteAll,
    Begin,
    Submit,
    SubmitAll,
}

const WAYS: [Way; 5] = [
    Way::Execute,
    Way::ExecuteAll,
    Way::Begin,
    Way::Submit,
    Way::SubmitAll,
];

impl Way {
    /// What comes of each of some operations, which do not depend on one another.
    fn run(self, store: &dyn Store, operations: Vec<Operation>) -> Vec<Result<Reply>> {
        let requests: Vec<_> = operations
            .into_iter()
            .map(|own| Arc::new(request(own)))
            .collect();
        match self {
            Self::Execute => requests
                .iter()
                .map(|own| store.execute(own, &Never))
                .collect(),
            Self::ExecuteAll => store.execute_all(&requests, &Never),
            Self::Begin => {
                let begun = requests.iter().map(|own| {
                    let mut begun = store.begin(own, &Never).unwrap();
                    begun.send();
                    begun
                });
                let begun: Vec<_> = begun.collect();
                begun.into_iter().map(|own| own.finish(None)).collect()
            }
            Self::Submit => {
                let submitted = requests
                    .iter()
                    .map(|own| submit(store, own.operation.clone()).1);
                let submitted: Vec<_> = submitted.collect();
                submitted
                    .into_iter()
                    .map(|answer| answer.recv().unwrap())
                    .collect()
            }
            Self::SubmitAll => {
                let (sender, receiver) = std::sync::mpsc::channel();
                let numbered = requests.iter().enumerate();
                let submitted = numbered.map(|(number, own)| {
                    let sender = sender.clone();
                    let done = move |answer| sender.send((number, answer)).unwrap();
                    (Arc::clone(own), Box::new(done) as mintkey_store::Done)
                });
                drop(store.submit_all(submitted.collect()));
                let mut answers: Vec<_> = receiver.iter().take(requests.len()).collect();
                answers.sort_by_key(|(number, _)| *number);
                answers.into_iter().map(|(_, answer)| answer).collect()
            }
        }
    }
}

/// Kinds of writes; each is done to three rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Put,
    Insert,
    InsertWide,
    VersionedPut,
    Update,
    VersionedUpdate,
    Delete,
    VersionedDelete,
}

const KINDS: [Kind; 8] = [
    Kind::Put,
    Kind::Insert,
    Kind::InsertWide,
    Kind::VersionedPut,
    Kind::Update,
    Kind::VersionedUpdate,
    Kind::Delete,
    Kind::VersionedDelete,
];

const ROWS: usize = 3;

fn row(number: usize, version: i64) -> Item {
    item(&[
        ("id", format!("row {number}").as_str().into()),
        ("version", version.into()),
    ])
}

fn key_of(number: usize) -> Key {
    Key {
        partition: string(&format!("row {number}")),
        sort: None,
    }
}

impl Kind {
    fn write(self, table: &Arc<Table>, number: usize) -> Write {
        let versioned = matches!(
            self,
            Self::VersionedPut | Self::VersionedUpdate | Self::VersionedDelete
        );
        let guard = Guard {
            row: match self {
                Self::Insert | Self::InsertWide => Row::Absent,
                _ => Row::Any,
            },
            version: versioned.then(|| ("version".into(), Some(1_i64.into()))),
            wide: self == Self::InsertWide,
            ..Guard::default()
        };
        let table = Arc::clone(table);
        match self {
            Self::Put | Self::Insert | Self::InsertWide | Self::VersionedPut => Write::Put(Put {
                table,
                item: Arc::new(row(number, 2)),
                guard,
            }),
            Self::Update | Self::VersionedUpdate => Write::Update(Update {
                actions: vec![Action::Add(Path::attribute("version"), self::number("1"))],
                guard,
                ..update_of(&table, key_of(number))
            }),
            Self::Delete | Self::VersionedDelete => Write::Delete(Delete {
                table,
                key: key_of(number),
                guard,
            }),
        }
    }

    fn before(self, number: usize) -> Option<Item> {
        let new = matches!(self, Self::Insert | Self::InsertWide);
        (!new).then(|| row(number, 1))
    }

    fn after(self, number: usize) -> Option<Item> {
        let removes = matches!(self, Self::Delete | Self::VersionedDelete);
        (!removes).then(|| row(number, 2))
    }
}

fn alone(write: Write) -> Operation {
    match write {
        Write::Put(put) => Operation::Put(put),
        Write::Update(update) => Operation::Update(update),
        Write::Delete(delete) => Operation::Delete(delete),
    }
}

/// A store behind a proxy, and another one on the same rows behind one that lets everything through.
struct Pair {
    rough: Arc<dyn Store>,
    smooth: Arc<dyn Store>,
    proxies: [Arc<Proxy>; 2],
}

impl Pair {
    fn new(scheme: &str, acts: &[Act], timeout: f64) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (own, process) = (COUNT.fetch_add(1, Ordering::SeqCst), std::process::id());
        let proxies = [Proxy::new(acts), Proxy::new(&[])];
        let open = |proxy: &Proxy, timeout: f64| {
            let port = proxy.port;
            let parameters = format!("prefix=unanswered-{process}-{own}&timeout={timeout}");
            mintkey_redis::open(&format!("{scheme}://127.0.0.1:{port}?{parameters}")).unwrap()
        };
        Self {
            rough: open(&proxies[0], timeout),
            smooth: open(&proxies[1], 60.0),
            proxies,
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for proxy in &self.proxies {
            proxy.vanish();
        }
    }
}

/// Carries a kind of write out while these acts happen; gives what was reported of each row, after it was compared with
/// what is stored.
fn reported(
    scheme: &str,
    acts: &[Act],
    kind: Kind,
    way: Way,
    batch: bool,
    timeout: f64,
) -> Vec<Option<ErrorKind>> {
    let pair = Pair::new(scheme, acts, timeout);
    let table = plain("plain", KeyKind::String);
    run(&*pair.smooth, Operation::CreateTable(Arc::clone(&table))).unwrap();
    for row in (0..ROWS).filter_map(|number| kind.before(number)) {
        put(&*pair.smooth, &table, row).unwrap();
    }
    let writes = (0..ROWS).map(|number| kind.write(&table, number));
    let results: Vec<Result<()>> = if batch {
        let operation = Operation::BatchWrite(BatchWrite {
            table: Arc::clone(&table),
            writes: writes.collect(),
        });
        match way.run(&*pair.rough, vec![operation]).remove(0) {
            Ok(Reply::Written(outcomes)) => outcomes,
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.of_all(ROWS),
        }
    } else {
        let replies = way.run(&*pair.rough, writes.map(alone).collect());
        replies.into_iter().map(|reply| reply.map(drop)).collect()
    };
    let run = format!("{scheme} {acts:?} {kind:?} {way:?} batch={batch}: {results:?}");
    for (number, result) in results.iter().enumerate() {
        let stored = get(&*pair.smooth, &table, key_of(number));
        match result.as_ref().err().map(|error| error.kind.outcome()) {
            None => assert_eq!(stored, kind.after(number), "row {number} of {run}"),
            Some(Some(Outcome::Unknown)) => {
                let possible = [kind.before(number), kind.after(number)];
                assert!(possible.contains(&stored), "row {number} of {run}");
            }
            Some(_) => assert_eq!(stored, kind.before(number), "row {number} of {run}"),
        }
    }
    drop_table(&*pair.smooth, &table);
    results
        .into_iter()
        .map(|result| result.err().map(|error| error.kind))
        .collect()
}

fn drop_table(store: &dyn Store, table: &Arc<Table>) {
    run(store, Operation::DeleteTable(Arc::clone(table))).unwrap();
}

/// All kinds of writes in all ways, at the same time.
fn in_all_ways(
    scheme: &str,
    acts: &[Act],
    timeout: f64,
    check: impl Fn(Vec<Option<ErrorKind>>, Kind) + Sync,
) {
    let check = &check;
    thread::scope(|scope| {
        for kind in KINDS {
            scope.spawn(move || {
                for way in WAYS {
                    for batch in [false, true] {
                        check(reported(scheme, acts, kind, way, batch, timeout), kind);
                    }
                }
            });
        }
    });
}

/// What happens to a write of one server.
const ALONE: &[&[Act]] = &[
    &[CUT_BEFORE, CUT_AFTER, VANISH_BEFORE],
    &[CUT_AFTER, VANISH_BEFORE],
    &[CUT_AFTER, CUT_AFTER, CUT_AFTER, VANISH_BEFORE],
    &[
        CUT_AFTER,
        say("-NOSCRIPT No matching script.\r\n"),
        VANISH_BEFORE,
    ],
    &[CUT_AFTER, say("+STALE\r\n"), VANISH_BEFORE],
    &[
        CUT_AFTER,
        say("-OOM command not allowed\r\n"),
        PASS,
        VANISH_BEFORE,
    ],
    &[
        CUT_AFTER,
        say("-READONLY You can't write\r\n"),
        VANISH_BEFORE,
    ],
    &[PASS, CUT_AFTER, VANISH_BEFORE],
];

/// What happens to a write of a Cluster.
const REDIRECTED: &[&[Act]] = &[
    &[CUT_AFTER, say("-MOVED 1 {here}\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-ASK 1 {here}\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-TRYAGAIN because\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-CLUSTERDOWN because\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-LOADING because\r\n"), VANISH_BEFORE],
    &[PASS, CUT_AFTER, say("-MOVED 1 {here}\r\n"), VANISH_BEFORE],
];

#[test]
fn a_write_that_was_delivered_to_a_server_that_is_gone_has_an_unknown_outcome() {
    in_all_ways("redis", &[VANISH_AFTER], 60.0, |reported, kind| {
        // The rows behind the first one may not have been sent.
        assert_eq!(
            reported[0],
            Some(ErrorKind::Unavailable(Outcome::Unknown)),
            "{kind:?}"
        );
    });
}

#[test]
fn reports_agree_with_what_is_stored() {
    for acts in ALONE {
        in_all_ways("redis", acts, 60.0, |_, _| ());
    }
}

#[test]
fn reports_agree_with_what_is_stored_in_a_cluster() {
    thread::scope(|scope| {
        for acts in ALONE[..2].iter().chain(REDIRECTED) {
            scope.spawn(|| in_all_ways("redis-cluster", acts, 0.3, |_, _| ()));
        }
    });
}

#[test]
fn a_table_that_is_half_dropped_has_an_unknown_outcome() {
    for way in WAYS {
        let pair = Pair::new("redis-cluster", &[PASS, VANISH_BEFORE], 0.5);
        let table = plain("plain", KeyKind::String);
        for number in 0..20 {
            put(&*pair.smooth, &table, row(number, 1)).unwrap();
        }
        let drop = Operation::DeleteTable(Arc::clone(&table));
        let error = way.run(&*pair.rough, vec![drop]).remove(0).unwrap_err();
        assert_eq!(error.kind.outcome(), Some(Outcome::Unknown), "{error}");
        assert_ne!(scan(&*pair.smooth, scan_of(&table)).len(), 20);
        drop_table(&*pair.smooth, &table);
    }
}
