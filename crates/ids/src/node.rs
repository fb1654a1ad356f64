//! Snowflake nodes: no two processes that look into one directory of locks share one.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{InvalidParameter, Refusal};

/// Nodes of a snowflake: ten bits.
pub const NODES: u16 = 1024;

/// Which nodes a strategy may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NodeChoice {
    /// What the process chose (`$MINTKEY_NODE`, else any free one).
    #[default]
    Default,
    /// Any free one between these two, both included.
    Between(u16, u16),
}

impl NodeChoice {
    /// Any of all nodes.
    pub const ANY: Self = Self::Between(0, NODES - 1);

    /// Reads `"5"` or `"32-47"`.
    ///
    /// # Errors
    /// When the text is neither, or a number is beyond 1023.
    pub fn parse(text: &str) -> Result<Self, InvalidParameter> {
        let number = |part: &str| part.trim().parse::<u16>().ok().filter(|&n| n < NODES);
        let parsed = match text.split_once('-') {
            None => number(text).map(|node| (node, node)),
            Some((low, high)) => number(low).zip(number(high)),
        };
        match parsed {
            Some((low, high)) if low <= high => Ok(Self::Between(low, high)),
            _ => Err(InvalidParameter(format!(
                "{text:?} is no snowflake node: give a number from 0 to 1023 or a range such as \"32-47\""
            ))),
        }
    }
}

impl fmt::Display for NodeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Between(low, high) if low == high => write!(f, "{low}"),
            Self::Between(low, high) => write!(f, "{low}-{high}"),
        }
    }
}

struct Claim {
    node: u16,
    /// Open as long as the node is ours: the lock goes with it, also when the process dies.
    _lock: Option<File>,
}

/// The nodes that this process holds.
pub struct Nodes {
    default: Option<NodeChoice>,
    directory: Option<PathBuf>,
    claims: Vec<Claim>,
    /// Nodes that ancestors use without a lock.
    excluded: Vec<u16>,
    /// Whether nodes are taken without a lock: repeatable tests want the same node each time.
    unlocked: bool,
}

impl Nodes {
    /// No node held yet.
    #[must_use]
    pub const fn new(unlocked: bool) -> Self {
        Self {
            default: None,
            directory: None,
            claims: Vec::new(),
            excluded: Vec::new(),
            unlocked,
        }
    }

    /// Says what [`NodeChoice::Default`] means and where the locks lie.
    pub fn choose(&mut self, default: NodeChoice, directory: Option<&Path>) {
        self.default = Some(match default {
            NodeChoice::Default => NodeChoice::ANY,
            chosen @ NodeChoice::Between(..) => chosen,
        });
        self.directory = Some(directory.unwrap_or(Path::new(DIRECTORY)).to_owned());
    }

    /// Lets go of everything, as a forked child must: the parent goes on with its nodes.
    pub fn restart_in_child(&mut self) {
        if self.unlocked {
            self.excluded
                .extend(self.claims.iter().map(|claim| claim.node));
        }
        self.unlocked = false;
        self.default = None;
        self.directory = None;
        self.claims.clear();
    }

    /// Gives all nodes back and forgets the choice: another copy of this process has them, too.
    pub fn release(&mut self) {
        self.default = None;
        self.directory = None;
        self.claims.clear();
    }

    /// The node for `choice`, claimed at the first call; `random` chooses where many are free.
    ///
    /// # Errors
    /// [`Refusal::NodeNotChosen`] before [`Nodes::choose`]; [`Refusal::Node`] when none is free.
    #[cold]
    pub fn resolve(&mut self, choice: NodeChoice, random: u64) -> Result<u16, Refusal> {
        let (Some(default), Some(directory)) = (self.default, self.directory.clone()) else {
            return Err(Refusal::NodeNotChosen);
        };
        let between = match choice {
            NodeChoice::Default => default,
            NodeChoice::Between(..) => choice,
        };
        let NodeChoice::Between(low, high) = between else {
            return Err(Refusal::NodeNotChosen);
        };
        let count = high - low + 1;
        // Machines that do not see each other's locks should rarely meet on one node.
        #[allow(clippy::cast_possible_truncation, reason = "below the count")]
        let first = if between == NodeChoice::ANY && !self.unlocked {
            (random % u64::from(count)) as u16
        } else {
            0
        };
        let node = self.free_node(low, count, first, &directory)?;
        let Some(node) = node else {
            return Err(Refusal::Node(if low == high {
                format!(
                    "snowflake node {low} is held by another process on this machine; give each \
                     process a node of its own, or a range such as node=\"32-47\" to share out"
                )
            } else {
                format!(
                    "all snowflake nodes {low}-{high} are held by other processes on this machine; \
                     give a wider range"
                )
            }));
        };
        Ok(node)
    }

    /// The first node of the range that is ours already or that nobody holds.
    fn free_node(
        &mut self,
        low: u16,
        count: u16,
        first: u16,
        directory: &Path,
    ) -> Result<Option<u16>, Refusal> {
        let candidates = (0..count).map(|i| low + (first + i) % count);
        let ours = |node: &u16| self.claims.iter().any(|claim| claim.node == *node);
        if let Some(node) = candidates.clone().find(ours) {
            return Ok(Some(node));
        }
        for node in candidates {
            if self.excluded.contains(&node) {
                continue;
            }
            let lock = if self.unlocked {
                None
            } else {
                match lock_file(directory, node)? {
                    Some(file) => Some(file),
                    None => continue,
                }
            };
            self.claims.push(Claim { node, _lock: lock });
            return Ok(Some(node));
        }
        Ok(None)
    }
}

#[cfg(unix)]
const DIRECTORY: &str = "/tmp/mintkey-nodes";
#[cfg(not(unix))]
const DIRECTORY: &str = r"C:\ProgramData\mintkey-nodes";

/// The locked file of a node, or `None` when another process holds it.
fn lock_file(directory: &Path, node: u16) -> Result<Option<File>, Refusal> {
    let path = directory.join(format!("{node}.lock"));
    let refuse = |what: &str, error: &dyn fmt::Display| {
        Refusal::Node(format!(
            "cannot {what} {}, which keeps two processes from sharing a snowflake node: {error}; \
             name a directory that every process may write with $MINTKEY_NODE_DIR",
            path.display()
        ))
    };
    let file = open_shared(directory, &path).map_err(|error| refuse("open", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(refuse("lock", &error)),
    }
}

/// Opens the file so that other users' processes can, too.
#[cfg(unix)]
fn open_shared(directory: &Path, path: &Path) -> std::io::Result<File> {
    use std::fs::Permissions;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    if !directory.is_dir() {
        std::fs::create_dir_all(directory)?;
        // Sticky like /tmp: everybody may add locks, nobody may remove those of others.
        std::fs::set_permissions(directory, Permissions::from_mode(0o1777))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let file = options.write(true).create(true).mode(0o644).open(path)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            Ok(file)
        }
        opened => opened,
    }
}

#[cfg(not(unix))]
fn open_shared(directory: &Path, path: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(directory)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes when the test ends.
    struct Locks(PathBuf);

    impl Locks {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("mintkey-nodes-{name}-{}", std::process::id())))
        }

        /// What another process would have: a lock belongs to the file it was taken through.
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

    const RANGE: NodeChoice = NodeChoice::Between(32, 34);

    #[test]
    fn a_range_is_shared_out_and_a_dead_process_gives_its_node_back() {
        let locks = Locks::new("range");
        let mut processes: Vec<Nodes> = (0..3).map(|_| locks.process(RANGE)).collect();
        let held: Vec<u16> = processes
            .iter_mut()
            .map(|nodes| nodes.resolve(NodeChoice::Default, 0).unwrap())
            .collect();
        assert_eq!(held, [32, 33, 34]);
        let mut fourth = locks.process(RANGE);
        let refusal = fourth.resolve(NodeChoice::Default, 0).unwrap_err();
        assert!(refusal.to_string().contains("32-34"), "{refusal}");
        drop(processes.remove(1));
        assert_eq!(fourth.resolve(NodeChoice::Default, 0), Ok(33));
    }

    #[test]
    fn a_number_that_is_held_is_refused() {
        let locks = Locks::new("number");
        let five = NodeChoice::Between(5, 5);
        let mut first = locks.process(NodeChoice::ANY);
        assert_eq!(first.resolve(five, 0), Ok(5));
        assert_eq!(
            first.resolve(NodeChoice::Between(4, 6), 0),
            Ok(5),
            "what is ours already serves again"
        );
        let refusal = locks.process(NodeChoice::ANY).resolve(five, 0).unwrap_err();
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
            .map(|nodes| nodes.resolve(NodeChoice::Default, 1020).unwrap())
            .collect();
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len(), 20);
        assert!(
            held.contains(&1023) && held.contains(&0),
            "the search goes round"
        );
    }

    #[test]
    fn a_child_lets_go_and_claims_anew() {
        let locks = Locks::new("child");
        let mut parent = locks.process(RANGE);
        assert_eq!(parent.resolve(NodeChoice::Default, 0), Ok(32));
        let mut child = locks.process(RANGE);
        child.restart_in_child();
        assert_eq!(
            child.resolve(NodeChoice::Default, 0),
            Err(Refusal::NodeNotChosen)
        );
        child.choose(RANGE, Some(&locks.0));
        assert_eq!(child.resolve(NodeChoice::Default, 0), Ok(33));
    }

    #[test]
    fn a_repeatable_block_takes_the_same_node_without_a_lock_and_its_children_another() {
        let locks = Locks::new("repeatable");
        let mut block = Nodes::new(true);
        for _ in 0..2 {
            block.choose(RANGE, Some(&locks.0));
            assert_eq!(block.resolve(NodeChoice::Default, 99), Ok(32));
        }
        assert!(!locks.0.exists());
        block.restart_in_child();
        block.choose(RANGE, Some(&locks.0));
        assert_eq!(block.resolve(NodeChoice::Default, 99), Ok(33));
    }

    #[test]
    fn texts_that_are_no_nodes_are_refused() {
        assert_eq!(NodeChoice::parse("7"), Ok(NodeChoice::Between(7, 7)));
        assert_eq!(
            NodeChoice::parse(" 32 - 47 "),
            Ok(NodeChoice::Between(32, 47))
        );
        for text in [
            "", "-1", "1024", "5-", "-", "7-3", "1-2-3", "a", "0x1", "3-1024",
        ] {
            assert!(NodeChoice::parse(text).is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let locks = Locks::new("file");
        std::fs::write(&locks.0, "").unwrap();
        let refusal = locks
            .process(NodeChoice::ANY)
            .resolve(NodeChoice::Default, 0)
            .unwrap_err();
        assert!(
            refusal.to_string().contains("$MINTKEY_NODE_DIR"),
            "{refusal}"
        );
        std::fs::remove_file(&locks.0).unwrap();
    }
}
