//! The servers of a store: the one, or those of a Cluster and which bucket each of them has.
//!
//! A Cluster tells where its slots are. What it told is kept until a server says that a slot has moved, or
//! until one cannot be reached or cannot answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::config::{Config, Place};
use crate::fork_gate::{Gate, Shielded};
use crate::protocol::replies::{is_busy, is_passing, refused};
use crate::protocol::resp::{Call, Value};
use crate::protocol::slots::{self, BUCKETS};
use crate::transport::connection::Connection;
use crate::transport::deadline::{RESPITE, Stop, Watch, pause};

/// Connections to a server that are kept open while nobody uses them.
const IDLE: usize = 64;
/// How long one server of a Cluster is waited for before another is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// A server.
pub struct Node {
    /// Where it listens.
    pub place: Place,
    /// What messages call it.
    pub address: String,
    /// Connections that wait for the next blocking call.
    idle: Shielded<Vec<Connection>>,
    /// Whether it left the last question for slots without an answer: others are asked before it.
    is_silent: AtomicBool,
}

impl Node {
    /// A connection that nobody uses, or a new one.
    pub fn connect(&self, config: &Config, watch: &mut Watch, patient: bool) -> Result<Connection> {
        loop {
            match self.idle.with(Vec::pop) {
                Some(connection) if connection.is_fresh() => return Ok(connection),
                Some(_) => {}
                None => return self.open(config, watch, patient),
            }
        }
    }

    /// A new connection; with `patient` it waits for a server that cannot answer at the moment. A server of a Cluster
    /// that gives no sign for long counts as gone.
    pub fn open(&self, config: &Config, watch: &mut Watch, patient: bool) -> Result<Connection> {
        let (place, address) = (&self.place, &self.address);
        if !config.space.in_buckets {
            return Connection::open(config, place, address, watch, patient);
        }
        let mut shorter = watch.shorter(PATIENCE);
        let opened = Connection::open(config, place, address, &mut shorter, patient);
        match opened {
            Err(error) if matches!(error.kind, ErrorKind::Timeout(_)) => {
                watch
                    .look()
                    .map_err(|stop| stop.error(Outcome::NotApplied))?;
                Err(Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    format!(
                        "no Redis answers at {}: is it running, and is the address right?",
                        self.address
                    ),
                ))
            }
            opened => opened,
        }
    }

    /// The places of the buckets as a server tells them.
    fn routes(&self, config: &Config, watch: &mut Watch) -> Result<Vec<Option<Place>>> {
        let mut connection = self.connect(config, watch, false)?;
        let call = Call::new("CLUSTER").arg("SLOTS");
        let mut shorter = watch.shorter(PATIENCE);
        let mut answers = connection
            .exchange(&[call], &mut shorter)
            .map_err(|failure| {
                let mut error = failure.cause.error(&self.address, Outcome::NotApplied);
                if matches!(error.kind, ErrorKind::Timeout(_)) && watch.look().is_ok() {
                    error.kind = ErrorKind::Unavailable(Outcome::NotApplied);
                }
                error
            })?;
        let answer = answers.pop().unwrap_or(Value::Nil);
        if let Value::Error(text) = &answer
            && is_passing(text)
        {
            self.keep(connection);
            return Err(refused(&self.address, text));
        }
        let routes = routes(&answer, &self.place).ok_or_else(|| {
            let said = match answer {
                Value::Error(text) => text,
                _ => "what is no list of slots".to_owned(),
            };
            Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!("{} does not tell where its slots are: {said}", self.address),
            )
        })?;
        self.keep(connection);
        Ok(routes)
    }

    /// Keeps a connection for the next call.
    pub fn keep(&self, mut connection: Connection) {
        connection.rest();
        let surplus = self.idle.with(|idle| {
            if idle.len() < IDLE {
                idle.push(connection);
                return None;
            }
            Some(connection)
        });
        drop(surplus);
    }

    fn let_go(&self) {
        drop(self.idle.with(std::mem::take));
    }
}

/// What is known of a Cluster.
#[derive(Default)]
struct Known {
    /// The server of each bucket; none before anybody told.
    routes: Vec<Option<Arc<Node>>>,
    /// All servers that were heard of.
    nodes: Vec<Arc<Node>>,
    /// Counts what was told.
    version: u64,
    /// Counts the changes of routes, those that a single answer told included.
    changes: u64,
    /// Whether a server left a request without an answer: another may have taken over from it, and while a
    /// host is gone nothing else says so.
    in_doubt: bool,
}

/// The servers of a store.
pub struct Nodes {
    gate: Arc<Gate>,
    /// Those that the address names.
    named: Vec<Arc<Node>>,
    /// The address without a password.
    address: String,
    in_buckets: bool,
    known: Shielded<Known>,
}

impl Nodes {
    /// Those that the configuration names.
    pub fn new(config: &Config, gate: &Arc<Gate>) -> Self {
        let mut nodes = Self {
            gate: Arc::clone(gate),
            named: Vec::new(),
            address: config.address.clone(),
            in_buckets: config.space.in_buckets,
            known: Shielded::new(gate),
        };
        nodes.named = config
            .places
            .iter()
            .map(|place| nodes.node(place))
            .collect();
        nodes
    }

    fn node(&self, place: &Place) -> Arc<Node> {
        let address = match place {
            Place::Host(host, port) if self.in_buckets => {
                format!("{host}:{port} of {}", self.address)
            }
            _ => self.address.clone(),
        };
        Arc::new(Node {
            place: place.clone(),
            address,
            idle: Shielded::new(&self.gate),
            is_silent: AtomicBool::new(false),
        })
    }

    /// Whether they are a Cluster.
    pub const fn are_cluster(&self) -> bool {
        self.in_buckets
    }

    /// The server that has a bucket, as far as it is known.
    pub fn of(&self, bucket: u8) -> Option<Arc<Node>> {
        if !self.in_buckets {
            return self.named.first().cloned();
        }
        self.known.with(|known| {
            let route = known.routes.get(usize::from(bucket))?;
            route.clone()
        })
    }

    /// How often the Cluster has told where its slots are.
    pub fn version(&self) -> u64 {
        if !self.in_buckets {
            return 0;
        }
        self.known.with(|known| known.version)
    }

    /// How often it was found that a bucket is elsewhere.
    pub fn changes(&self) -> u64 {
        self.known.with(|known| known.changes)
    }

    /// Whether a server of the Cluster has a bucket, as far as is known.
    pub fn serves(&self, node: &Arc<Node>) -> bool {
        self.known.with(|known| {
            let mut routes = known.routes.iter().flatten();
            routes.any(|own| Arc::ptr_eq(own, node))
        })
    }

    /// Takes in that a server left a request without an answer.
    pub fn doubt(&self, node: &Node) {
        if self.in_buckets {
            node.is_silent.store(true, Ordering::Relaxed);
            self.known.with(|known| known.in_doubt = true);
        }
    }

    /// Learns where the slots are if nobody knows, or if that is in doubt; then what was known must do if
    /// nobody tells.
    ///
    /// Where nobody knows, and no server can tell at the moment, one who is `patient` asks until one can.
    pub fn prepare(&self, config: &Config, watch: &mut Watch, patient: bool) -> Result<()> {
        if !self.in_buckets {
            return Ok(());
        }
        let (version, in_doubt) = self.known.with(|known| (known.version, known.in_doubt));
        if version > 0 && !in_doubt {
            return Ok(());
        }
        loop {
            match self.learn(config, version, watch) {
                Err(error) if matches!(error.kind, ErrorKind::Unavailable(_)) => {
                    if version > 0 {
                        return Ok(());
                    }
                    if !patient || !is_busy(&error) {
                        return Err(error);
                    }
                    match watch.look() {
                        Ok(()) => pause(RESPITE),
                        Err(Stop::Late(_)) => return Err(error),
                        Err(stop) => return Err(stop.error(Outcome::NotApplied)),
                    }
                }
                told => return told,
            }
        }
    }

    /// Asks the Cluster where its slots are, unless somebody has since this version.
    pub fn learn(&self, config: &Config, version: u64, watch: &mut Watch) -> Result<()> {
        let (current, mut candidates) = self
            .known
            .with(|known| (known.version, known.nodes.clone()));
        if current != version {
            return Ok(());
        }
        // One that is cut off from the others tells old things: each time another is the first.
        if !candidates.is_empty() {
            let turn = usize::try_from(version).unwrap_or(0) % candidates.len();
            candidates.rotate_left(turn);
        }
        candidates.extend(self.named.iter().cloned());
        candidates.sort_by_key(|node| node.is_silent.load(Ordering::Relaxed));
        let mut last = None;
        for node in candidates {
            let told = node.routes(config, watch);
            node.is_silent.store(told.is_err(), Ordering::Relaxed);
            match told {
                Ok(routes) => {
                    let routes = routes
                        .iter()
                        .map(|place| Some(self.known_node(place.as_ref()?)));
                    let routes: Vec<Option<Arc<Node>>> = routes.collect();
                    let mut nodes: Vec<Arc<Node>> = Vec::new();
                    for node in routes.iter().flatten() {
                        if !nodes.iter().any(|own| Arc::ptr_eq(own, node)) {
                            nodes.push(Arc::clone(node));
                        }
                    }
                    let old = self.known.with(|known| {
                        known.version += 1;
                        known.changes += 1;
                        known.in_doubt = false;
                        let routes = std::mem::replace(&mut known.routes, routes);
                        (routes, std::mem::replace(&mut known.nodes, nodes))
                    });
                    // Connections are closed here, and not behind the gate.
                    drop(old);
                    for node in self.named.iter().filter(|node| !self.serves(node)) {
                        node.let_go();
                    }
                    return Ok(());
                }
                Err(error) => {
                    if !matches!(error.kind, ErrorKind::Unavailable(_)) {
                        return Err(error);
                    }
                    if is_busy(&error) || !last.as_ref().is_some_and(is_busy) {
                        last = Some(error);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::configuration("this Redis address names no server")))
    }

    /// The server at a place: one that is known already, with its connections, or a new one.
    fn known_node(&self, place: &Place) -> Arc<Node> {
        let is_it = |node: &&Arc<Node>| node.place == *place;
        let named = self.named.iter().find(is_it).cloned();
        let new = named.unwrap_or_else(|| self.node(place));
        self.known.with(|known| {
            if let Some(node) = known.nodes.iter().find(is_it) {
                return Arc::clone(node);
            }
            known.nodes.push(Arc::clone(&new));
            new
        })
    }

    /// Keeps a connection for the next call, unless its server has no bucket any more.
    pub fn keep(&self, node: &Arc<Node>, connection: Connection) {
        if !self.in_buckets || self.serves(node) {
            node.keep(connection);
        }
    }

    /// Takes in that a bucket is elsewhere.
    fn moved(&self, bucket: u8, place: &Place) {
        let node = self.known_node(place);
        let old = self.known.with(|known| {
            known.changes += 1;
            let route = known.routes.get_mut(usize::from(bucket))?;
            route.replace(node)
        });
        if let Some(old) = old.filter(|old| !self.serves(old)) {
            old.let_go();
        }
    }

    /// What is to be done about a server's answer to a call, which was asked this once or has the bucket.
    pub fn judge(
        &self,
        call: &Call,
        value: Value,
        from: &Node,
        asking: Option<Arc<Node>>,
    ) -> Verdict {
        let Value::Error(text) = &value else {
            return Verdict::Final(value);
        };
        if text.starts_with("NOSCRIPT") {
            return Verdict::Whole(asking);
        }
        if self.in_buckets {
            let mut words = text.split(' ');
            let kind = words.next();
            let place = words.nth(1).and_then(|place| location(place, &from.place));
            match (kind, place) {
                (Some("MOVED"), Some(place)) => {
                    self.moved(call.bucket, &place);
                    return Verdict::Moved;
                }
                (Some("ASK"), Some(place)) => return Verdict::Ask(self.known_node(&place)),
                _ => {}
            }
        }
        if call.patient && is_passing(text) {
            return Verdict::Later(value);
        }
        Verdict::Final(value)
    }

    /// No server has a bucket.
    pub fn nobody(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "no server of {} has the slots that are needed: nothing was written; look at CLUSTER SLOTS",
                self.address
            ),
        )
    }

    /// Closes the connections that nobody uses.
    pub fn let_go(&self) {
        let known = self.known.with(|known| known.nodes.clone());
        for node in self.named.iter().chain(&known) {
            node.let_go();
        }
    }
}

/// What is to be done about an answer.
pub enum Verdict {
    /// It is the answer.
    Final(Value),
    /// The script is to be sent itself, not its name; to this server, if it was asked but this once.
    Whole(Option<Arc<Node>>),
    /// Another server has the bucket.
    Moved,
    /// The bucket is on its way to this server, which is to be asked this once.
    Ask(Arc<Node>),
    /// It could not be done at the moment; this was the answer.
    Later(Value),
}

/// A place as a server of a Cluster writes it, which leaves out its own host if it does not know it.
fn location(text: &str, teller: &Place) -> Option<Place> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    place(host, port.parse().ok()?, teller)
}

fn place(host: &str, port: u16, teller: &Place) -> Option<Place> {
    match (host, teller) {
        ("" | "?", Place::Host(own, _)) => Some(Place::Host(own.clone(), port)),
        ("" | "?", Place::Socket(_)) => None,
        _ => Some(Place::Host(host.to_owned(), port)),
    }
}

/// The places of the buckets in an answer to `CLUSTER SLOTS`.
fn routes(answer: &Value, teller: &Place) -> Option<Vec<Option<Place>>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    let mut routes = vec![None; usize::from(BUCKETS)];
    for range in ranges {
        let Value::Array(parts) = range else {
            return None;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(primary),
            ..,
        ] = &parts[..]
        else {
            return None;
        };
        let [host, Value::Int(port), ..] = &primary[..] else {
            return None;
        };
        let host = match host {
            Value::Bulk(host) => std::str::from_utf8(host).ok()?,
            Value::Nil => "",
            _ => return None,
        };
        let place = place(host, u16::try_from(*port).ok()?, teller);
        for bucket in 0..BUCKETS {
            if (*first..=*last).contains(&i64::from(slots::slot_of(bucket))) {
                routes[usize::from(bucket)].clone_from(&place);
            }
        }
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::slots::slot_of;

    fn host(host: &str, port: u16) -> Place {
        Place::Host(host.to_owned(), port)
    }

    fn range(first: u16, last: u16, host: Value, port: u16) -> Value {
        let primary = Value::Array(vec![host, Value::Int(port.into()), Value::Nil]);
        let replica = Value::Array(vec![Value::Bulk(b"r".to_vec()), Value::Int(1)]);
        let bounds = [first, last].map(|slot| Value::Int(slot.into()));
        Value::Array([&bounds[..], &[primary, replica]].concat())
    }

    #[test]
    fn reads_where_slots_are() {
        let (teller, own) = (host("seed", 7000), slot_of(5));
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let answer = Value::Array(vec![
            range(own, own, text("a"), 7001),
            range(slot_of(6), slot_of(6), text(""), 7002),
            range(slot_of(7), slot_of(7), text("?"), 7003),
            range(slot_of(8), slot_of(8), Value::Nil, 7004),
            range(slot_of(9), slot_of(9), text("::1"), 7005),
        ]);
        let routes = routes(&answer, &teller).unwrap();
        assert_eq!(routes[5], Some(host("a", 7001)));
        assert_eq!(routes[6], Some(host("seed", 7002)));
        assert_eq!(routes[7], Some(host("seed", 7003)));
        assert_eq!(routes[8], Some(host("seed", 7004)));
        assert_eq!(routes[9], Some(host("::1", 7005)));
        assert_eq!(routes.iter().flatten().count(), 5);
        for strange in [Value::Nil, Value::Array(vec![Value::Int(1)])] {
            assert_eq!(super::routes(&strange, &teller), None);
        }
    }

    #[test]
    fn reads_where_a_slot_has_gone() {
        let teller = host("seed", 7000);
        assert_eq!(
            location("10.0.0.1:7001", &teller),
            Some(host("10.0.0.1", 7001))
        );
        assert_eq!(location(":7001", &teller), Some(host("seed", 7001)));
        assert_eq!(location("?:7001", &teller), Some(host("seed", 7001)));
        assert_eq!(location("::1:7001", &teller), Some(host("::1", 7001)));
        assert_eq!(location("host", &teller), None);
        assert_eq!(location("host:70000", &teller), None);
    }

    #[test]
    fn a_server_is_one_however_often_it_is_named() {
        let config = Config::parse("redis-cluster://a:1,b:2").unwrap();
        let nodes = Nodes::new(&config, &Arc::default());
        for place in [host("a", 1), host("c", 3)] {
            assert!(Arc::ptr_eq(
                &nodes.known_node(&place),
                &nodes.known_node(&place)
            ));
        }
        let redirected = |word: &str| Value::Error(format!("{word} 5 c:3"));
        let from = nodes.known_node(&host("a", 1));
        let call = Call::on(5, "GET");
        let asked = nodes.judge(&call, redirected("ASK"), &from, None);
        let Verdict::Ask(node) = asked else {
            panic!("not followed");
        };
        assert!(Arc::ptr_eq(&node, &nodes.known_node(&host("c", 3))));
        let alone = Nodes::new(&Config::parse("redis://a:1").unwrap(), &Arc::default());
        let verdict = alone.judge(&call, redirected("ASK"), &from, None);
        assert!(matches!(verdict, Verdict::Final(_)));
    }
}
