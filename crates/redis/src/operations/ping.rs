//! Pings the server, or each primary of the Cluster.

use mintkey_store::{Reply, Result};

use crate::operations::context::OperationContext;
use crate::protocol::replies::handshake_error;
use crate::protocol::resp::{Call, Value};
use crate::transport::topology::Routes as _;

impl OperationContext<'_> {
    /// Sends PING to each server that has slot groups.
    pub async fn ping(&self) -> Result<Reply> {
        // The first call makes the driver request the slots, if they are not known.
        self.ping_each(&[0]).await?;
        let (mut nodes, mut slot_groups) = (Vec::new(), Vec::new());
        for slot_group in self.store.config.keyspace.slot_groups() {
            let node = self.store.topology.node_of(slot_group);
            if let Some(node) = node.filter(|node| !nodes.contains(node)) {
                nodes.push(node);
                slot_groups.extend((slot_group != 0).then_some(slot_group));
            }
        }
        self.ping_each(&slot_groups).await?;
        let mut servers: Vec<_> = nodes.iter().map(|node| node.describe()).collect();
        servers.sort();
        Ok(Reply::Servers(servers))
    }

    /// Sends PING to the servers of these slot groups.
    async fn ping_each(&self, slot_groups: &[u8]) -> Result<()> {
        if slot_groups.is_empty() {
            return Ok(());
        }
        let call = |slot_group: &u8| {
            let mut call = Call::on(*slot_group, "PING");
            // A server that cannot carry out commands now is no healthy one.
            call.retry_when_busy = false;
            call
        };
        let replies = self.channel.send(slot_groups.iter().map(call).collect());
        for (slot_group, reply) in slot_groups.iter().zip(replies.await?) {
            if let Value::Error(text) = reply {
                let node = self.store.topology.node_of(*slot_group);
                let address = node.map_or_else(
                    || self.store.config.address.clone(),
                    |node| node.address.clone(),
                );
                return Err(handshake_error(&address, &text));
            }
        }
        Ok(())
    }
}
