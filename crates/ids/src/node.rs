//! Snowflake nodes: no two processes that look into one directory of locks share one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::node_choice::{NODES, NodeChoice};
use crate::node_lock::{Attempt, DIRECTORY, Directory, NodeLock};
use crate::refusal::Refusal;

pub(crate) struct Claim {
    node: u16,
    /// `None` if nodes are taken without a lock.
    lock: Option<Arc<NodeLock>>,
}

/// How often the locks of nodes are checked.
const CHECK_MS: u64 = 1000;
/// How often a search starts again because lock files were removed meanwhile.
const ATTEMPTS: usize = 16;

/// The nodes that this process holds.
///
/// Nothing here reads the file system: [`Search`] and [`Check`] do, without the engine's lock.
pub(crate) struct Nodes {
    /// The nodes of [`NodeChoice::Default`], and the directory of the locks.
    chosen: Option<(u16, u16, PathBuf)>,
    claims: Vec<Claim>,
    /// Nodes that ancestors use without a lock.
    excluded: Vec<u16>,
    /// Whether nodes are taken without a lock: a repeatable block gets the same node each time.
    unlocked: bool,
    /// The search or the check that is running, by its number.
    running: Option<u64>,
    /// When the locks were last checked.
    checked_ms: i64,
    /// After how many milliseconds the next check is due.
    check_after_ms: u64,
}

impl Nodes {
    /// Holds no node.
    pub(crate) const fn new(unlocked: bool) -> Self {
        Self {
            chosen: None,
            claims: Vec::new(),
            excluded: Vec::new(),
            unlocked,
            running: None,
            checked_ms: 0,
            check_after_ms: u64::MAX,
        }
    }

    /// Sets the nodes of [`NodeChoice::Default`] and the directory of the locks.
    pub(crate) fn choose(&mut self, default: NodeChoice, directory: Option<&Path>) {
        let (low, high) = match default {
            NodeChoice::Default => (0, NODES - 1),
            NodeChoice::Between(low, high) => (low, high),
        };
        let directory = directory.unwrap_or(Path::new(DIRECTORY)).to_owned();
        self.chosen = Some((low, high, directory));
    }

    /// Returns all nodes and forgets what was chosen. Dropping the result releases the locks.
    #[must_use]
    pub(crate) fn release(&mut self) -> Vec<Claim> {
        self.chosen = None;
        self.running = None;
        self.check_after_ms = u64::MAX;
        std::mem::take(&mut self.claims)
    }

    /// Forgets everything, in a forked child: the nodes belong to the parent.
    pub(crate) fn restart_in_child(&mut self) {
        if self.unlocked {
            self.excluded
                .extend(self.claims.iter().map(|claim| claim.node));
        }
        self.unlocked = false;
        drop(self.release());
    }

    /// The node for `choice`, if it has been claimed.
    ///
    /// # Errors
    /// [`Refusal::NodeNotChosen`] before [`Nodes::choose`], [`Refusal::NodeNotClaimed`] before [`Nodes::search`].
    #[cold]
    pub(crate) fn claimed_node(&mut self, choice: NodeChoice, random: u64) -> Result<u16, Refusal> {
        let (low, high, _) = self.range(choice)?;
        if let Some(node) = self.claimed(low, high) {
            return Ok(node);
        }
        let free = |node: &u16| !self.excluded.contains(node);
        match (low..=high).find(free) {
            Some(node) if self.unlocked => {
                self.claims.push(Claim { node, lock: None });
                Ok(node)
            }
            _ => Err(Refusal::NodeNotClaimed { choice, random }),
        }
    }

    fn range(&self, choice: NodeChoice) -> Result<(u16, u16, &Path), Refusal> {
        let Some((low, high, directory)) = &self.chosen else {
            return Err(Refusal::NodeNotChosen);
        };
        Ok(match choice {
            NodeChoice::Default => (*low, *high, directory),
            NodeChoice::Between(low, high) => (low, high, directory),
        })
    }

    fn claimed(&self, low: u16, high: u16) -> Option<u16> {
        let mut nodes = self.claims.iter().map(|claim| claim.node);
        nodes.find(|node| (low..=high).contains(node))
    }

    /// Starts a search for a node of `choice`; `None` if there is one already. `number` identifies the search.
    ///
    /// # Errors
    /// [`Refusal::NodeNotChosen`]; [`Refusal::NodesBusy`] while another thread searches or checks.
    pub(crate) fn search(
        &mut self,
        choice: NodeChoice,
        number: u64,
    ) -> Result<Option<Search>, Refusal> {
        let (low, high, directory) = self.range(choice)?;
        let directory = directory.to_owned();
        if self.running.is_some() {
            return Err(Refusal::NodesBusy);
        }
        if self.claimed(low, high).is_some() {
            return Ok(None);
        }
        self.running = Some(number);
        Ok(Some(Search {
            directory,
            low,
            high,
            excluded: self.excluded.clone(),
        }))
    }

    /// Whether it is time to check the locks.
    #[inline]
    pub(crate) fn check_is_due(&self, now_ms: i64) -> bool {
        now_ms.wrapping_sub(self.checked_ms).cast_unsigned() >= self.check_after_ms
    }

    /// Starts a check of the locks, unless another search or check is running. `number` identifies the check.
    pub(crate) fn check(&mut self, now_ms: i64, number: u64) -> Option<Check> {
        self.checked_ms = now_ms;
        if self.running.is_some() {
            return None;
        }
        self.running = Some(number);
        let locks = self.claims.iter().filter_map(|claim| claim.lock.clone());
        Some(Check(locks.collect()))
    }

    /// Whether the search or the check of this number is still running.
    pub(crate) fn is_running(&self, number: u64) -> bool {
        self.running == Some(number)
    }

    /// Ends a search or a check.
    pub(crate) fn end(&mut self) {
        self.running = None;
    }

    /// Adds the node that a search found.
    pub(crate) fn add(&mut self, (node, lock): (u16, NodeLock), now_ms: i64) {
        self.checked_ms = now_ms;
        self.check_after_ms = CHECK_MS;
        let lock = Some(Arc::new(lock));
        self.claims.push(Claim { node, lock });
    }

    /// Removes nodes whose locks are lost. Dropping the result releases them.
    #[must_use]
    pub(crate) fn remove(&mut self, lost: &Lost) -> Vec<Claim> {
        let is_lost = |claim: &mut Claim| {
            let lock = claim.lock.as_ref();
            lock.is_some_and(|lock| lost.0.iter().any(|lost| Arc::ptr_eq(lost, lock)))
        };
        self.claims.extract_if(.., is_lost).collect()
    }
}

/// A search for a free node.
pub(crate) struct Search {
    directory: PathBuf,
    low: u16,
    high: u16,
    excluded: Vec<u16>,
}

impl Search {
    /// Locks a node; `random` chooses one if many are free. May wait for the file system.
    ///
    /// # Errors
    /// [`Refusal::Node`] when none is free.
    pub(crate) fn run(&self, random: u64) -> Result<(u16, NodeLock), Refusal> {
        let count = self.high - self.low + 1;
        // Machines with different lock directories should rarely use the same node.
        let first = if NodeChoice::Between(self.low, self.high) == NodeChoice::ANY {
            u16::try_from(random % u64::from(count)).unwrap_or_default()
        } else {
            0
        };
        let nodes = (0..count)
            .map(|i| self.low + (first + i) % count)
            .filter(|node| !self.excluded.contains(node));
        'again: for _ in 0..ATTEMPTS {
            let directory = Directory::open(&self.directory).map_err(Refusal::Node)?;
            let mut unusable = None;
            for node in nodes.clone() {
                match directory.lock(node).map_err(Refusal::Node)? {
                    Attempt::Locked(lock) => return Ok((node, lock)),
                    Attempt::Held => {}
                    Attempt::Unusable(what) => unusable = unusable.or(Some(what)),
                    Attempt::Removed => continue 'again,
                }
            }
            return Err(self.none_free(unusable));
        }
        Err(Refusal::Node(format!(
            "lock files in {} are removed as soon as they are created; set $MINTKEY_NODE_DIR to a \
             directory that no program cleans",
            self.directory.display()
        )))
    }

    fn none_free(&self, unusable: Option<String>) -> Refusal {
        let Self { low, high, .. } = self;
        Refusal::Node(match unusable {
            None if low == high => format!(
                "snowflake node {low} is held by another process on this machine; give each \
                 process its own node, or give all of them a range such as node=\"32-47\""
            ),
            None => format!(
                "all snowflake nodes {low}-{high} are held by other processes on this machine; \
                 give a wider range"
            ),
            Some(what) if low == high => format!(
                "snowflake node {low} cannot be claimed: {what}; remove that, or set \
                 $MINTKEY_NODE_DIR to another directory"
            ),
            Some(what) => format!(
                "none of the snowflake nodes {low}-{high} can be claimed: other processes on this \
                 machine hold them, or their lock files cannot be used ({what}); give a wider \
                 range, or set $MINTKEY_NODE_DIR to another directory"
            ),
        })
    }
}

/// A check of the locks.
pub(crate) struct Check(Vec<Arc<NodeLock>>);

/// Locks that other processes no longer find.
pub(crate) struct Lost(Vec<Arc<NodeLock>>);

impl Check {
    /// The locks that are lost, if there are any. May wait for the file system.
    pub(crate) fn run(self) -> Option<Lost> {
        let mut locks = self.0;
        locks.retain(|lock| !lock.is_held());
        (!locks.is_empty()).then_some(Lost(locks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed when the test ends.
    struct Locks(PathBuf);

    impl Locks {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("mintkey-nodes-{name}-{}", std::process::id())))
        }

        /// The nodes of another process: a lock belongs to the open file.
        fn process(&self, default: NodeChoice) -> Nodes {
            let mut nodes = Nodes::new(false);
            nodes.choose(default, Some(&self.0));
            nodes
        }
    }

    impl Drop for Locks {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// The node of `choice`, as the engine claims it.
    fn resolve(nodes: &mut Nodes, choice: NodeChoice) -> Result<u16, Refusal> {
        match nodes.claimed_node(choice, 1020) {
            Err(Refusal::NodeNotClaimed { choice, random }) => {
                let search = nodes.search(choice, 1)?.unwrap();
                let found = search.run(random);
                nodes.end();
                nodes.add(found?, 0);
                nodes.claimed_node(choice, random)
            }
            held => held,
        }
    }

    /// The check after one second.
    fn check(nodes: &mut Nodes) {
        assert!(!nodes.check_is_due(999) && nodes.check_is_due(1000));
        if let Some(lost) = nodes.check(1000, 2).unwrap().run() {
            drop(nodes.remove(&lost));
        }
        nodes.end();
        nodes.checked_ms = 0;
    }

    const RANGE: NodeChoice = NodeChoice::Between(32, 34);

    #[test]
    fn a_range_is_shared_out_and_a_dead_process_gives_its_node_back() {
        let locks = Locks::new("range");
        let mut processes: Vec<Nodes> = (0..3).map(|_| locks.process(RANGE)).collect();
        let held: Vec<u16> = processes
            .iter_mut()
            .map(|nodes| resolve(nodes, NodeChoice::Default).unwrap())
            .collect();
        assert_eq!(held, [32, 33, 34]);
        let mut fourth = locks.process(RANGE);
        let refusal = resolve(&mut fourth, NodeChoice::Default).unwrap_err();
        assert!(refusal.to_string().contains("32-34"), "{refusal}");
        drop(processes.remove(1));
        assert_eq!(resolve(&mut fourth, NodeChoice::Default), Ok(33));
    }

    #[test]
    fn a_number_that_is_held_is_refused() {
        let locks = Locks::new("number");
        let five = NodeChoice::Between(5, 5);
        let mut first = locks.process(NodeChoice::ANY);
        assert_eq!(resolve(&mut first, five), Ok(5));
        assert_eq!(
            resolve(&mut first, NodeChoice::Between(4, 6)),
            Ok(5),
            "a node of this process is used again"
        );
        let refusal = resolve(&mut locks.process(NodeChoice::ANY), five).unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("node 5 is held by another process"),
            "{refusal}"
        );
    }

    #[test]
    fn without_a_choice_processes_find_nodes_of_their_own() {
        let locks = Locks::new("any");
        let mut processes: Vec<Nodes> = (0..20)
            .map(|_| locks.process(NodeChoice::Default))
            .collect();
        let mut held: Vec<u16> = processes
            .iter_mut()
            .map(|nodes| resolve(nodes, NodeChoice::Default).unwrap())
            .collect();
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len(), 20);
        assert!(
            held.contains(&1023) && held.contains(&0),
            "the search wraps around"
        );
    }

    #[test]
    fn a_child_forgets_its_nodes_and_claims_another() {
        let locks = Locks::new("child");
        let mut parent = locks.process(RANGE);
        assert_eq!(resolve(&mut parent, NodeChoice::Default), Ok(32));
        let mut child = locks.process(RANGE);
        child.restart_in_child();
        assert_eq!(
            resolve(&mut child, NodeChoice::Default),
            Err(Refusal::NodeNotChosen)
        );
        child.choose(RANGE, Some(&locks.0));
        assert_eq!(resolve(&mut child, NodeChoice::Default), Ok(33));
    }

    #[test]
    fn a_repeatable_block_takes_the_same_node_without_a_lock_and_its_children_another() {
        let locks = Locks::new("repeatable");
        let mut block = Nodes::new(true);
        for _ in 0..2 {
            block.choose(RANGE, Some(&locks.0));
            assert_eq!(resolve(&mut block, NodeChoice::Default), Ok(32));
        }
        assert!(!locks.0.exists());
        block.restart_in_child();
        block.choose(RANGE, Some(&locks.0));
        assert_eq!(resolve(&mut block, NodeChoice::Default), Ok(33));
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let locks = Locks::new("file");
        std::fs::write(&locks.0, "").unwrap();
        let mut nodes = locks.process(NodeChoice::ANY);
        let refusal = resolve(&mut nodes, NodeChoice::Default).unwrap_err();
        assert!(
            refusal.to_string().contains("$MINTKEY_NODE_DIR"),
            "{refusal}"
        );
        std::fs::remove_file(&locks.0).unwrap();
    }

    /// Locks the file as a process on another machine does.
    #[cfg(unix)]
    fn lock_elsewhere(locks: &Locks, node: u16) -> std::fs::File {
        std::fs::create_dir_all(&locks.0).unwrap();
        let file = std::fs::File::create(locks.0.join(format!("{node}.lock"))).unwrap();
        file.try_lock().unwrap();
        file
    }

    #[cfg(unix)]
    #[test]
    fn a_node_whose_lock_another_process_took_is_given_back() {
        let locks = Locks::new("taken");
        let mut nodes = locks.process(RANGE);
        assert_eq!(resolve(&mut nodes, NodeChoice::Default), Ok(32));
        check(&mut nodes);
        assert_eq!(
            nodes.claimed_node(NodeChoice::Default, 0),
            Ok(32),
            "nothing was lost"
        );
        std::fs::remove_dir_all(&locks.0).unwrap();
        let _other = lock_elsewhere(&locks, 32);
        check(&mut nodes);
        assert_eq!(resolve(&mut nodes, NodeChoice::Default), Ok(33));
    }

    #[cfg(unix)]
    #[test]
    fn a_node_whose_lock_was_removed_is_locked_again() {
        let locks = Locks::new("again");
        let mut nodes = locks.process(RANGE);
        assert_eq!(resolve(&mut nodes, NodeChoice::Default), Ok(32));
        std::fs::remove_file(locks.0.join("32.lock")).unwrap();
        check(&mut nodes);
        assert_eq!(resolve(&mut nodes, NodeChoice::Default), Ok(32));
        let file = std::fs::File::open(locks.0.join("32.lock")).unwrap();
        assert!(file.try_lock().is_err());
    }

    #[test]
    fn one_thread_at_a_time_searches_or_checks() {
        let locks = Locks::new("busy");
        let mut nodes = locks.process(RANGE);
        let search = nodes.search(NodeChoice::Default, 1).unwrap().unwrap();
        let busy = nodes.search(NodeChoice::Default, 2).err();
        assert_eq!(busy, Some(Refusal::NodesBusy));
        assert!(nodes.check(0, 3).is_none());
        nodes.add(search.run(0).unwrap(), 0);
        nodes.end();
        let found = nodes.search(NodeChoice::Default, 4).unwrap();
        assert!(found.is_none(), "another thread has found one");
        assert!(
            nodes
                .search(NodeChoice::Between(5, 5), 5)
                .unwrap()
                .is_some()
        );
        drop(nodes.release());
        assert!(!nodes.is_running(5), "its result is discarded");
    }
}
