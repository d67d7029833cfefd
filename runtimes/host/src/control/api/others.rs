//! The share of other nodes in a result.

use std::sync::Arc;

use postern_channels::relay::{ServerAnswer, ServerOperation};
use serde_json::json;
use serde_json::value::RawValue;
use smol::channel::Receiver;

use super::result::raw;
use crate::channels::Node;

/// The result of a command at other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Others {
    /// They have performed the command.
    Done {
        /// The number of connections that were affected.
        affected: usize,
        /// The number of nodes.
        nodes: usize,
        /// The number of nodes without an answer.
        silent: usize,
    },
    /// The engine cannot be reached, so they have not got the command.
    Unreachable,
    /// The engine cannot be reached. They get the revocation when it can.
    Pending,
}

/// A command that was sent to other nodes.
#[derive(Debug)]
pub(in super::super) struct PendingOthers {
    answer: Receiver<ServerAnswer>,
    is_revocation: bool,
}

impl Others {
    /// Sends a command to other nodes, if there may be some.
    pub(in super::super) fn ask(
        node: &Node,
        command: Arc<[u8]>,
        revocation: Option<Arc<[u8]>>,
    ) -> Option<PendingOthers> {
        let engine = node.engine()?;
        let is_revocation = revocation.is_some();
        let answer = engine.ask(ServerOperation::Command { command, revocation });
        Some(PendingOthers { answer, is_revocation })
    }

    /// Returns `{NAME:…}` with the number of connections of all nodes, and the number of nodes if there may be several.
    pub(in super::super) fn add(others: Option<&Others>, name: &str, count: usize) -> Box<RawValue> {
        match others {
            None => raw(&json!({ name: count })),
            Some(Others::Done { affected, nodes, silent }) => {
                raw(&json!({ name: count + affected, "nodes": nodes + 1, "silent_nodes": silent }))
            }
            Some(Others::Unreachable) => raw(&json!({ name: count, "unreachable": true })),
            Some(Others::Pending) => raw(&json!({ name: count, "pending": true })),
        }
    }
}

impl PendingOthers {
    /// Returns the answers of other nodes, of which each has 2 s.
    pub(in super::super) async fn answers(self) -> Others {
        self.contents().await.0
    }

    /// Returns the answers of other nodes, and what they contain.
    pub(super) async fn contents(self) -> (Others, Vec<Box<[u8]>>) {
        match self.answer.recv().await {
            Ok(ServerAnswer::Command { affected, nodes, silent, contents }) => {
                (Others::Done { affected, nodes, silent }, contents)
            }
            Ok(_) | Err(_) if self.is_revocation => (Others::Pending, Vec::new()),
            Ok(_) | Err(_) => (Others::Unreachable, Vec::new()),
        }
    }
}
