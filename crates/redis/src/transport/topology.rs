//! The servers of a store: a single one, or those of a Cluster with their slot groups.
//!
//! `CLUSTER SLOTS` returns which server has which slots. The result is kept until a server replies that a slot has moved,
//! cannot be reached, or does not answer.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use mintkey_runtime::locked;
use mintkey_store::{Error, ErrorKind, Outcome};

use crate::config::{Config, Endpoint};
use crate::protocol::replies::is_transient;
use crate::protocol::resp::{Call, Value};
use crate::protocol::slots::{self, SLOT_GROUPS};
use crate::transport::connection::Connection;
use crate::transport::node::Node;

/// What a reply means for a call.
pub enum ReplyAction<N> {
    /// It is final.
    Final(Value),
    /// The server does not know the script: send its source, to this server if the call was sent there after ASK.
    SendSource(Option<N>),
    /// Another server has the slot group: send the call there.
    Moved,
    /// The slot group is migrating to this server: send the call there once, after ASKING.
    Ask(N),
    /// The server cannot carry out the call at the moment, as this reply says: send it again later.
    RetryLater(Value),
}

/// Which servers there are. `N` is a server.
pub trait Routes<N> {
    /// Whether this is a Cluster.
    fn is_cluster(&self) -> bool;
    /// Whether the slots must be requested before the next call.
    fn needs_slots(&self) -> bool;
    /// Counts the replies to requests for the slots.
    fn version(&self) -> u64;
    /// The server of a slot group, if it is known.
    fn node_of(&self, slot_group: u8) -> Option<N>;
    /// What a reply means. `asking` is the server if the call was sent there after ASK.
    fn classify_reply(
        &self,
        call: &Call,
        value: Value,
        from: &N,
        asking: Option<N>,
    ) -> ReplyAction<N>;
    /// The error if no server has a slot group.
    fn no_server_error(&self) -> Error;
}

/// The known state of a Cluster.
#[derive(Default)]
struct TopologyState {
    /// The server of each slot group. Empty before the first `CLUSTER SLOTS`.
    routes: Vec<Option<Arc<Node>>>,
    /// All known servers.
    nodes: Vec<Arc<Node>>,
    /// Counts the replies to `CLUSTER SLOTS`.
    version: u64,
    /// Counts the changes of routes, including those by a single redirect.
    changes: u64,
    /// Whether a server did not answer a request: a replica may have taken over, and nothing else reports that while a host
    /// is unreachable.
    suspect: bool,
}

/// The servers of a store.
pub struct Topology {
    /// The servers in the address.
    named: Vec<Arc<Node>>,
    /// The address without its password.
    address: String,
    clustered: bool,
    known: Mutex<TopologyState>,
}

impl Topology {
    /// The servers of the configuration.
    pub fn new(config: &Config) -> Self {
        let mut nodes = Self {
            named: Vec::new(),
            address: config.address.clone(),
            clustered: config.keyspace.clustered,
            known: Mutex::default(),
        };
        nodes.named = config
            .endpoints
            .iter()
            .map(|endpoint| nodes.node(endpoint))
            .collect();
        nodes
    }

    fn node(&self, endpoint: &Endpoint) -> Arc<Node> {
        let address = match endpoint {
            Endpoint::Host(host, port) if self.clustered => {
                format!("{host}:{port} of {}", self.address)
            }
            _ => self.address.clone(),
        };
        Arc::new(Node::new(endpoint, address))
    }

    /// The number of changes of routes so far.
    pub fn changes(&self) -> u64 {
        locked(&self.known).changes
    }

    /// Whether a server of the Cluster is known to have a slot group.
    pub fn serves(&self, node: &Arc<Node>) -> bool {
        let known = locked(&self.known);
        let mut routes = known.routes.iter().flatten();
        routes.any(|own| Arc::ptr_eq(own, node))
    }

    /// Notes that a server did not answer a request.
    pub fn suspect(&self, node: &Node) {
        if self.clustered {
            node.is_unresponsive.store(true, Ordering::Relaxed);
            locked(&self.known).suspect = true;
        }
    }

    /// The servers to ask for the slots, in order.
    pub fn candidates(&self) -> Vec<Arc<Node>> {
        let (version, mut candidates) = {
            let known = locked(&self.known);
            (known.version, known.nodes.clone())
        };
        // A server that is cut off from the others returns old routes: each time another one is asked first.
        if !candidates.is_empty() {
            let first = usize::try_from(version).unwrap_or(0) % candidates.len();
            candidates.rotate_left(first);
        }
        candidates.extend(self.named.iter().cloned());
        candidates.sort_by_key(|node| node.is_unresponsive.load(Ordering::Relaxed));
        candidates
    }

    /// Replaces all routes.
    pub fn set_all_routes(&self, endpoints: &[Option<Endpoint>]) {
        let routes = endpoints
            .iter()
            .map(|endpoint| Some(self.known_node(endpoint.as_ref()?)));
        let routes: Vec<Option<Arc<Node>>> = routes.collect();
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for node in routes.iter().flatten() {
            if !nodes.iter().any(|own| Arc::ptr_eq(own, node)) {
                nodes.push(Arc::clone(node));
            }
        }
        let old = {
            let mut known = locked(&self.known);
            known.version += 1;
            known.changes += 1;
            known.suspect = false;
            let routes = mem::replace(&mut known.routes, routes);
            (routes, mem::replace(&mut known.nodes, nodes))
        };
        // Connections are closed without the lock.
        drop(old);
        for node in self.named.iter().filter(|node| !self.serves(node)) {
            node.close_idle();
        }
    }

    /// The server at an endpoint: a known one, with its connections, or a new one.
    fn known_node(&self, endpoint: &Endpoint) -> Arc<Node> {
        let is_it = |node: &&Arc<Node>| node.endpoint == *endpoint;
        let named = self.named.iter().find(is_it).cloned();
        let new = named.unwrap_or_else(|| self.node(endpoint));
        let mut known = locked(&self.known);
        if let Some(node) = known.nodes.iter().find(is_it) {
            return Arc::clone(node);
        }
        known.nodes.push(Arc::clone(&new));
        new
    }

    /// Keeps a connection for the next call, unless its server has no slot group any more.
    pub fn keep(&self, node: &Arc<Node>, connection: Connection) {
        if !self.clustered || self.serves(node) {
            node.keep(connection);
        }
    }

    /// Notes that another server has a slot group.
    fn set_route(&self, slot_group: u8, endpoint: &Endpoint) {
        let node = self.known_node(endpoint);
        let old = {
            let mut known = locked(&self.known);
            known.changes += 1;
            let route = known.routes.get_mut(usize::from(slot_group));
            route.and_then(|route| route.replace(node))
        };
        if let Some(old) = old.filter(|old| !self.serves(old)) {
            old.close_idle();
        }
    }

    /// Follows the redirect in an error reply of a server, if it is one.
    fn follow(&self, slot_group: u8, text: &str, from: &Node) -> Option<ReplyAction<Arc<Node>>> {
        if !self.clustered {
            return None;
        }
        let mut words = text.split(' ');
        let kind = words.next();
        let endpoint = redirect_endpoint(words.nth(1)?, &from.endpoint)?;
        match kind {
            Some("MOVED") => {
                self.set_route(slot_group, &endpoint);
                Some(ReplyAction::Moved)
            }
            Some("ASK") => Some(ReplyAction::Ask(self.known_node(&endpoint))),
            _ => None,
        }
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        let known = locked(&self.known).nodes.clone();
        for node in self.named.iter().chain(&known) {
            node.close_idle();
        }
    }
}

impl Routes<Arc<Node>> for Topology {
    fn is_cluster(&self) -> bool {
        self.clustered
    }

    fn needs_slots(&self) -> bool {
        let known = locked(&self.known);
        self.clustered && (known.version == 0 || known.suspect)
    }

    fn version(&self) -> u64 {
        if !self.clustered {
            return 0;
        }
        locked(&self.known).version
    }

    fn node_of(&self, slot_group: u8) -> Option<Arc<Node>> {
        if !self.clustered {
            return self.named.first().cloned();
        }
        let known = locked(&self.known);
        known.routes.get(usize::from(slot_group))?.clone()
    }

    fn classify_reply(
        &self,
        call: &Call,
        value: Value,
        from: &Arc<Node>,
        asking: Option<Arc<Node>>,
    ) -> ReplyAction<Arc<Node>> {
        let Value::Error(text) = &value else {
            return ReplyAction::Final(value);
        };
        if text.starts_with("NOSCRIPT") {
            return ReplyAction::SendSource(asking);
        }
        match self.follow(call.slot_group, text, from) {
            Some(redirect) => redirect,
            None if call.retry_when_busy && is_transient(text) => ReplyAction::RetryLater(value),
            None => ReplyAction::Final(value),
        }
    }

    fn no_server_error(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!("no server of {} has the slots of these keys", self.address),
        )
        .advice("check CLUSTER SLOTS")
    }
}

/// The endpoint in a redirect. A server leaves out its own host if it does not know it.
fn redirect_endpoint(text: &str, source: &Endpoint) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    endpoint_of(host, port.parse().ok()?, source)
}

fn endpoint_of(host: &str, port: u16, source: &Endpoint) -> Option<Endpoint> {
    match (host, source) {
        ("" | "?", Endpoint::Host(own, _)) => Some(Endpoint::Host(own.clone(), port)),
        ("" | "?", Endpoint::Socket(_)) => None,
        _ => Some(Endpoint::Host(host.to_owned(), port)),
    }
}

/// The endpoint of each slot group, from a reply to `CLUSTER SLOTS`.
pub fn routes(reply: &Value, source: &Endpoint) -> Option<Vec<Option<Endpoint>>> {
    let Value::Array(ranges) = reply else {
        return None;
    };
    let mut routes = vec![None; usize::from(SLOT_GROUPS)];
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
        let endpoint = endpoint_of(host, u16::try_from(*port).ok()?, source);
        for slot_group in 0..SLOT_GROUPS {
            if (*first..=*last).contains(&i64::from(slots::slot_of_group(slot_group))) {
                routes[usize::from(slot_group)].clone_from(&endpoint);
            }
        }
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::slots::slot_of_group;

    fn host(host: &str, port: u16) -> Endpoint {
        Endpoint::Host(host.to_owned(), port)
    }

    fn range(first: u16, last: u16, host: Value, port: u16) -> Value {
        let primary = Value::Array(vec![host, Value::Int(port.into()), Value::Nil]);
        let replica = Value::Array(vec![Value::Bulk(b"r".to_vec()), Value::Int(1)]);
        let bounds = [first, last].map(|slot| Value::Int(slot.into()));
        Value::Array([&bounds[..], &[primary, replica]].concat())
    }

    #[test]
    fn cluster_slots_are_parsed() {
        let (source, own) = (host("seed", 7000), slot_of_group(5));
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let reply = Value::Array(vec![
            range(own, own, text("a"), 7001),
            range(slot_of_group(6), slot_of_group(6), text(""), 7002),
            range(slot_of_group(7), slot_of_group(7), text("?"), 7003),
            range(slot_of_group(8), slot_of_group(8), Value::Nil, 7004),
            range(slot_of_group(9), slot_of_group(9), text("::1"), 7005),
        ]);
        let routes = routes(&reply, &source).unwrap();
        assert_eq!(routes[5], Some(host("a", 7001)));
        assert_eq!(routes[6], Some(host("seed", 7002)));
        assert_eq!(routes[7], Some(host("seed", 7003)));
        assert_eq!(routes[8], Some(host("seed", 7004)));
        assert_eq!(routes[9], Some(host("::1", 7005)));
        assert_eq!(routes.iter().flatten().count(), 5);
        for strange in [Value::Nil, Value::Array(vec![Value::Int(1)])] {
            assert_eq!(super::routes(&strange, &source), None);
        }
    }

    #[test]
    fn redirects_are_parsed() {
        let source = host("seed", 7000);
        assert_eq!(
            redirect_endpoint("10.0.0.1:7001", &source),
            Some(host("10.0.0.1", 7001))
        );
        assert_eq!(
            redirect_endpoint(":7001", &source),
            Some(host("seed", 7001))
        );
        assert_eq!(
            redirect_endpoint("?:7001", &source),
            Some(host("seed", 7001))
        );
        assert_eq!(
            redirect_endpoint("::1:7001", &source),
            Some(host("::1", 7001))
        );
        assert_eq!(redirect_endpoint("host", &source), None);
        assert_eq!(redirect_endpoint("host:70000", &source), None);
    }

    #[test]
    fn a_server_that_is_named_several_times_is_one_node() {
        let config = Config::parse("redis-cluster://a:1,b:2").unwrap();
        let nodes = Topology::new(&config);
        for endpoint in [host("a", 1), host("c", 3)] {
            assert!(Arc::ptr_eq(
                &nodes.known_node(&endpoint),
                &nodes.known_node(&endpoint)
            ));
        }
        let from = nodes.known_node(&host("a", 1));
        let Some(ReplyAction::Ask(node)) = nodes.follow(5, "ASK 5 c:3", &from) else {
            panic!("the redirect was not followed");
        };
        assert!(Arc::ptr_eq(&node, &nodes.known_node(&host("c", 3))));
        let alone = Topology::new(&Config::parse("redis://a:1").unwrap());
        assert!(alone.follow(5, "ASK 5 c:3", &from).is_none());
    }
}
