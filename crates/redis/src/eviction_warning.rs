//! The warning about servers that evict rows. Each store gives it once.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a server has reported its eviction policy at sign-in.
#[derive(Debug, Default)]
pub struct EvictionWarning(AtomicBool);

impl EvictionWarning {
    /// The warning, the first time that the `INFO` of a server has a policy that evicts rows.
    pub fn read_info(&self, address: &str, info: &str) -> Option<String> {
        let setting = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let policy = setting("maxmemory_policy").filter(|policy| *policy != "noeviction")?;
        if self.0.swap(true, Ordering::SeqCst) {
            return None;
        }
        let victims = if policy.starts_with("volatile") {
            "rows that have an expiry, before their time"
        } else {
            "rows, and with them whole row sets and indexes"
        };
        let limit = match setting("maxmemory") {
            Some("0") | None => "maxmemory is not set now".to_owned(),
            Some(bytes) => format!("maxmemory is {bytes} bytes"),
        };
        Some(format!(
            "{address} has maxmemory-policy {policy}: when its memory is full, it silently deletes {victims} ({limit}). \
             Set maxmemory-policy noeviction; then it refuses writes instead"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning_for(info: &str) -> Option<String> {
        EvictionWarning::default().read_info("redis://here", info)
    }

    #[test]
    fn only_a_policy_that_evicts_rows_gives_a_warning() {
        assert_eq!(warning_for("redis_version:7.0.0\r\n"), None);
        assert_eq!(
            warning_for("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n"),
            None
        );
        let warning = warning_for("maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n").unwrap();
        assert!(warning.contains("redis://here"), "{warning}");
        assert!(warning.contains("allkeys-lru"), "{warning}");
        assert!(warning.contains("100 bytes"), "{warning}");
        let warning = warning_for("maxmemory_policy:volatile-ttl\r\n").unwrap();
        assert!(warning.contains("before their time"), "{warning}");
    }

    #[test]
    fn the_warning_is_given_once() {
        let warning = EvictionWarning::default();
        let evicts = "maxmemory_policy:allkeys-random\r\n";
        let first = warning.read_info("redis://one", evicts);
        assert!(first.unwrap().contains("one"));
        assert_eq!(warning.read_info("redis://two", evicts), None);
    }
}
