//! What an application sees of a channel, by the events of its client, and what must hold for it.

use postern_client::Recovery;
use postern_client::protocol::{Position, Publication};

use crate::channels::node::{Node, number};

/// A channel, as an application sees it.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Whether publications may arrive.
    pub(crate) is_active: bool,
    /// The position of the last publication, if the channel recovers.
    last: Option<Position>,
    /// The number of publications of the channel up to the last one that has arrived.
    cursor: usize,
    /// Whether a publication has arrived since the subscription.
    has_received: bool,
}

impl View {
    /// Handles that the client is subscribed.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn subscribe(
        &mut self,
        recovery: Recovery,
        position: Option<Position>,
        node: &mut Node,
    ) -> Result<(), &'static str> {
        if self.is_active {
            return Err("a subscription begins twice");
        }
        self.is_active = true;
        self.has_received = false;
        match (recovery, &self.last, position) {
            (Recovery::Complete, None, _) => return Err("a recovery was not asked for"),
            (Recovery::Complete, Some(_), None) => return Err("a recovery has no position"),
            // The missed publications follow.
            (Recovery::Complete, Some(last), Some(position)) if last.epoch == position.epoch => {
                node.mail.marks.insert("a subscription recovers");
            }
            (Recovery::Complete, Some(_), Some(_)) => return Err("another stream is recovered"),
            (Recovery::Incomplete, _, position) => {
                node.mail.marks.insert("a subscription does not recover");
                self.last = position;
            }
            (Recovery::None, Some(last), position) if position.as_ref() != Some(last) => {
                return Err("publications may be missing, and the application is not told");
            }
            (Recovery::None, _, position) => self.last = position,
        }
        Ok(())
    }

    /// Handles a publication.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn receive(
        &mut self,
        publication: &Publication,
        channel: usize,
        node: &Node,
    ) -> Result<(), &'static str> {
        if !self.is_active {
            return Err("a publication arrives without a subscription");
        }
        let found = number(publication.data.get().as_bytes()).ok_or("a publication has other data")?;
        let stream = &node.truth.streams[channel];
        let at = stream.iter().position(|entry| entry.number == found);
        let at = at.ok_or("a publication arrives that was not published")?;
        if let Some(last) = &mut self.last {
            if publication.offset <= last.offset {
                return Err("a publication comes twice, or too late");
            }
            if publication.offset != last.offset + 1 {
                return Err("publications are missing without a notification");
            }
            if node.truth.find(channel, &last.epoch, publication.offset) != Some(found) {
                return Err("a publication has another position");
            }
            last.offset = publication.offset;
        } else {
            if at < self.cursor {
                return Err("a publication comes twice, or too late");
            }
            if at > self.cursor && self.has_received && !is_lossy(channel, node) {
                return Err("publications are missing without a notification");
            }
        }
        self.cursor = at + 1;
        self.has_received = true;
        Ok(())
    }

    /// Handles the end of the connection, or of the subscription: it is made again.
    pub(crate) fn interrupt(&mut self) {
        self.is_active = false;
    }

    /// Whether nothing is missing when nothing is on its way.
    pub(crate) fn is_complete(&self, channel: usize, node: &Node) -> bool {
        let stream = &node.truth.streams[channel];
        match &self.last {
            Some(last) => node.truth.after(channel, &last.epoch, last.offset, stream.len()).is_empty(),
            None => !self.has_received || self.cursor == stream.len() || is_lossy(channel, node),
        }
    }
}

/// Whether a worker has missed an event of a channel because its inbox was full.
fn is_lossy(channel: usize, node: &Node) -> bool {
    node.mail.lossy.iter().any(|(_, lossy)| *lossy == channel)
}
