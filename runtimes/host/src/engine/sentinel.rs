//! Asks a sentinel for the master with a name.

use std::collections::HashMap;

use postern_channels::relay::command::{Cause, Failure};
use redis::ConnectionAddr;
use redis::aio::MultiplexedConnection;

use super::connector::Answer;
use super::encoding;

pub(super) async fn ask(connection: &mut MultiplexedConnection, master: &str) -> Result<Answer, Failure> {
    let mut fields = redis::cmd("SENTINEL");
    fields.arg("MASTER").arg(master);
    let fields = fields.query_async::<HashMap<String, String>>(connection).await;
    let fields = fields.map_err(|error| {
        if error.detail().is_some_and(|text| text.contains("No such master")) {
            return Failure::new(Cause::Unreachable, format!("no master has the name {master}"));
        }
        encoding::failure(&error)
    })?;
    // During a failover, this address is more recent than the one among the fields. It must not be older than the epoch.
    let mut address = redis::cmd("SENTINEL");
    address.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let address = address.query_async::<Option<(String, u16)>>(connection).await;
    let address = address.map_err(|error| encoding::failure(&error))?;
    let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    let (Some((host, port)), Some(epoch)) = (address, epoch) else {
        return Err(Failure::new(Cause::Protocol, "the answer of a sentinel has another form"));
    };
    Ok(Answer { master: ConnectionAddr::Tcp(host, port), epoch, nodes: Vec::new() })
}
