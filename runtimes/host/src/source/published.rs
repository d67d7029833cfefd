//! Publications that the node has accepted, and their results.

use std::sync::Arc;

use postern_channels::exchange::Publish;
use postern_channels::relay::command::Failure;
use slog::{Logger, debug};

use super::Broker;
use crate::channels::{Batch, Publishing};
use crate::escape::Quoted;

/// A publication that the node has accepted.
pub(super) struct Published {
    channel: Arc<str>,
    bytes: usize,
    publishing: Publishing,
}

impl Published {
    pub(super) fn new(batch: &mut Batch<'_>, publication: Publish) -> Published {
        let (channel, bytes) = (publication.channel.clone(), publication.data.len());
        Published { channel, bytes, publishing: batch.publish(publication) }
    }

    /// Waits for the engine. Returns whether the publication was new.
    ///
    /// # Errors
    /// The engine does not accept it.
    pub(super) async fn result(self, broker: Broker, log: &Logger) -> Result<bool, Failure> {
        let receipt = self.publishing.result().await?;
        debug!(log, # "source_publish", "message published by {broker}";
            "channel" => %Quoted(&self.channel), "bytes" => self.bytes, "subscriptions" => receipt.subscriptions);
        Ok(receipt.is_new)
    }
}
