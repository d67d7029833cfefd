//! The descriptions of the instances with the same channels.

use std::collections::BTreeMap;
use std::time::SystemTime;

use postern_channels::relay::{ServerAnswer, ServerOperation};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::result::{MethodResult, raw};
use crate::channels::Node;
use crate::metrics::{Snapshot, Sum, Usage};
use crate::workers::WorkerReply;

/// The properties of a process that stay.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The id of this start of the process.
    pub(in super::super) id: String,
    /// The name of the host.
    pub(in super::super) name: String,
    pub(in super::super) version: &'static str,
    pub(in super::super) started: SystemTime,
}

/// An instance in the result of `info`, and in the description of a node for other ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct InstanceInfo {
    uid: String,
    name: String,
    version: String,
    num_clients: usize,
    num_users: usize,
    num_channels: usize,
    num_subs: usize,
    uptime: u64,
    process: ProcessInfo,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessInfo {
    rss: u64,
}

impl InstanceInfo {
    /// Describes this process with the figures of its workers.
    pub(in super::super) fn new(node: &Node, sum: &Sum) -> Option<InstanceInfo> {
        let Instance { id, name, version, started } = node.instance()?;
        let channels = node.stats().channels;
        Some(InstanceInfo {
            uid: id.clone(),
            name: name.clone(),
            version: (*version).to_owned(),
            num_clients: sum.totals.connections,
            num_users: sum.users,
            num_channels: channels.occupied_channels,
            num_subs: channels.subscriptions,
            uptime: started.elapsed().unwrap_or_default().as_secs(),
            process: ProcessInfo { rss: Usage::now().resident.unwrap_or_default() },
        })
    }
}

/// Describes this process for other nodes, with the replies of its workers to
/// [`Totals`](postern_core::worker::AdminRequest::Totals).
pub(crate) fn describe(node: &Node, replies: &[WorkerReply]) -> Option<Vec<u8>> {
    let snapshots = replies.iter().enumerate().filter_map(|(worker, reply)| match reply {
        WorkerReply::Snapshot(snapshot) => Some((worker, &**snapshot)),
        WorkerReply::Alive
        | WorkerReply::Load(_)
        | WorkerReply::Connections(_)
        | WorkerReply::Affected(_)
        | WorkerReply::Batch(_) => None,
    });
    let sum = Snapshot::sum(snapshots);
    serde_json::to_vec(&InstanceInfo::new(node, &sum)?).ok()
}

/// Lists this instance, and then the others.
pub(in super::super) async fn info(node: &Node, own: &InstanceInfo) -> MethodResult {
    let Some(engine) = node.engine() else { return Ok(raw(&json!({ "nodes": [own] }))) };
    let Ok(ServerAnswer::Nodes(descriptions)) = engine.ask(ServerOperation::Nodes).recv().await else {
        return Ok(raw(&json!({ "nodes": [own], "unreachable": true })));
    };
    let nodes: Vec<InstanceInfo> = [own.clone()].into_iter().chain(others(own, &descriptions)).collect();
    Ok(raw(&json!({ "nodes": nodes })))
}

/// Returns the other instances by their names. Descriptions of other programs are left out, and older ones of the same instance.
fn others(own: &InstanceInfo, descriptions: &[Vec<u8>]) -> Vec<InstanceInfo> {
    let mut found: BTreeMap<String, InstanceInfo> = BTreeMap::new();
    for description in descriptions {
        let Ok(info) = serde_json::from_slice::<InstanceInfo>(description) else { continue };
        let is_newer = found.get(&info.uid).is_none_or(|known| known.uptime <= info.uptime);
        if info.uid != own.uid && is_newer {
            found.insert(info.uid.clone(), info);
        }
    }
    let mut others: Vec<InstanceInfo> = found.into_values().collect();
    others.sort_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(uid: &str, name: &str, uptime: u64) -> InstanceInfo {
        InstanceInfo {
            uid: uid.to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
            num_clients: 2,
            num_users: 1,
            num_channels: 3,
            num_subs: 4,
            uptime,
            process: ProcessInfo { rss: 5 },
        }
    }

    #[test]
    fn each_instance_is_listed_once_by_its_latest_description() {
        let described = |info: InstanceInfo| serde_json::to_vec(&info).unwrap();
        let descriptions = [
            described(instance("3", "c", 1)),
            described(instance("2", "b", 9)),
            b"junk".to_vec(),
            b"{\"uid\":\"9\"}".to_vec(),
            described(instance("2", "b", 4)),
            described(instance("1", "a", 7)),
            described(instance("3", "c", 6)),
        ];
        let others = others(&instance("1", "a", 8), &descriptions);
        assert_eq!(others, [instance("2", "b", 9), instance("3", "c", 6)]);
    }
}
