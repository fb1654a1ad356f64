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
