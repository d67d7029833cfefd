//! Commands to other nodes, as messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::clients::ClientCall;
use super::listed::Listed;
use super::params::Params;
use super::{ClientMethod, Method, NodeMethod};
use crate::channels::Node;
use crate::revocations::{Entry, RevocationTable};
use crate::workers::{Command, RemoteRequest};

/// Returns the message of a command with these parameters.
pub(super) fn of_clients(method: ClientMethod, params: &Params<'_>) -> Arc<[u8]> {
    message(Method::Clients(method).name(), &params.to_raw())
}

/// Returns the message of a revocation.
pub(in super::super) fn of_revocation(entry: &Entry) -> Arc<[u8]> {
    message(REVOKE, &super::raw(&entry.to_line()))
}

/// Returns the message that asks for the channels whose names match a pattern.
pub(super) fn of_channels(params: &Params<'_>) -> Arc<[u8]> {
    message(Method::Node(NodeMethod::Channels).name(), &params.to_raw())
}

fn message(method: &str, params: &RawValue) -> Arc<[u8]> {
    super::raw(&Message { method: method.to_owned(), params }).get().as_bytes().into()
}

/// Parses a message of another node. A revocation is added to the table. An answer has about `most` bytes at most.
pub(crate) fn parse(
    message: &[u8],
    node: &Node,
    revocations: &RevocationTable,
    most: usize,
) -> Option<RemoteRequest> {
    let Message { method, params } = serde_json::from_slice(message).ok()?;
    if method == REVOKE {
        let line: String = serde_json::from_str(params.get()).ok()?;
        let entry = Entry::from_line(&line)?;
        // A full table has refused it at the node of the request, too.
        let _ = revocations.add(&entry);
        return Some(RemoteRequest::Perform(Command::Revoke(entry.revocation)));
    }
    let params = Params::parse(params.get().as_bytes()).ok()?;
    match Method::from_name(&method)? {
        Method::Clients(method) => {
            // The node of the request has checked the length of messages.
            let call = ClientCall::parse(method, &params, usize::MAX, &node.config().namespaces);
            Some(RemoteRequest::Perform(call.ok()?.to_worker()))
        }
        Method::Node(NodeMethod::Channels) => {
            Some(RemoteRequest::Answer(Listed::here(node, &params).ok()?.encode(most)))
        }
        Method::Node(_) => None,
    }
}

#[derive(Serialize, Deserialize)]
struct Message<'m> {
    method: String,
    #[serde(borrow)]
    params: &'m RawValue,
}

const REVOKE: &str = "revoke";
