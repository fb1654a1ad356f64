//! Pings the server.

use mintkey_store::{Reply, Result, Server};

use crate::client::{Client, Effect};
use crate::transport::Transport;
use crate::wire::errors::{ErrorClass, Failure, without_table};
use crate::wire::response::Listed;

/// Sends a signed call that reads no table.
///
/// The credentials need no permission for it: the server has accepted their signature when it reports that one is missing.
pub async fn ping<T: Transport>(client: &Client<'_, T>) -> Result<Reply> {
    let config = &client.shared.config;
    match client
        .call("ListTables", "{\"Limit\":1}", Effect::None)
        .await
    {
        Ok(output) => output.parse::<Listed>().map(drop)?,
        Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::Denied => {}
        Err(failure) => return Err(without_table(config, failure)),
    }
    Ok(Reply::Servers(vec![Server {
        address: config.address.clone(),
        version: None,
    }]))
}
