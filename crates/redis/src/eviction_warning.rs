//! The warning about servers that evict rows. Each store gives it once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The eviction policy that a server reported at sign-in.
///
/// Nothing here waits for a lock: another thread may have held it when the process forked.
#[derive(Debug, Default)]
pub struct EvictionWarning {
    is_known: AtomicBool,
    is_pending: AtomicBool,
    text: Mutex<Option<String>>,
}

impl EvictionWarning {
    /// Notes the policy in the `INFO` of a server.
    pub fn read_info(&self, address: &str, info: &str) {
        let setting = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let Some(policy) = setting("maxmemory_policy").filter(|policy| *policy != "noeviction")
        else {
            return;
        };
        if self.is_known.swap(true, Ordering::SeqCst) {
            return;
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
        if let Ok(mut text) = self.text.try_lock() {
            *text = Some(format!(
                "{address} has maxmemory-policy {policy}: when its memory is full, it silently deletes {victims} \
                 ({limit}). Set maxmemory-policy noeviction; then it refuses writes instead"
            ));
            self.is_pending.store(true, Ordering::SeqCst);
        }
    }

    /// The warning, at the first call after it is known.
    pub fn take(&self) -> Option<String> {
        if !self.is_pending.load(Ordering::Relaxed) {
            return None;
        }
        let text = self.text.try_lock().ok()?.take();
        self.is_pending.store(false, Ordering::SeqCst);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning_for(info: &str) -> Option<String> {
        let warning = EvictionWarning::default();
        warning.read_info("redis://here", info);
        warning.take()
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
        for address in ["redis://one", "redis://two"] {
            warning.read_info(address, "maxmemory_policy:allkeys-random\r\n");
        }
        assert!(warning.take().unwrap().contains("one"));
        assert_eq!(warning.take(), None);
        warning.read_info("redis://one", "maxmemory_policy:allkeys-random\r\n");
        assert_eq!(warning.take(), None);
    }
}
