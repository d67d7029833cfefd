//! What a client may receive of a channel, and what it knows of it.

use std::collections::BTreeSet;
use std::time::Duration;

use centrifuge_client_core::proto;

use super::session::View;
use super::truth::{Place, number};
use crate::sdk::Known;

/// A channel, as one connection of a client uses it.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// The subscription, between the reply to `subscribe` and the reply to `unsubscribe` or a notification of a gap.
    pub(crate) active: Option<Active>,
    /// Whether the last command for the channel was `subscribe`.
    pub(crate) is_wanted: bool,
}

/// A subscription that receives publications.
#[derive(Debug)]
pub(crate) struct Active {
    /// Its position. `None` in a channel without history. It has no epoch while the engine cannot be reached.
    pub(crate) known: Option<Known>,
    /// In a channel without history: the numbers that it has received.
    pub(crate) received: BTreeSet<u64>,
    /// The place of the last one of them among those that were executed.
    last: Option<Place>,
    /// When the reply to the subscription arrived.
    pub(crate) begun: Duration,
}

impl Active {
    /// Begins with the reply to a subscription.
    ///
    /// # Errors
    /// The promise that the reply breaks.
    pub(crate) fn new(
        result: &proto::SubscribeResult,
        asked: Option<&Known>,
        channel: usize,
        view: &mut View<'_>,
    ) -> Result<Active, &'static str> {
        let mut active = Active { known: None, received: BTreeSet::new(), last: None, begun: view.trace.now };
        let truth = &mut *view.truth;
        if result.recovered {
            let asked = asked.ok_or("a recovery was not asked for")?;
            if result.epoch != asked.epoch && !asked.epoch.is_empty() {
                return Err("a recovery from another stream claims to be complete");
            }
            let mut offset = asked.offset;
            for publication in &result.publications {
                offset += 1;
                if publication.offset != offset {
                    return Err("a recovery claims to be complete, and is not");
                }
                if number(&publication.data) != truth.at(channel, &result.epoch, offset) {
                    return Err("a recovery has other publications");
                }
            }
            if result.publications.is_empty() && result.offset != offset {
                return Err("a recovery claims to be complete, and is not");
            }
            truth.mark(if result.publications.is_empty() {
                "a subscription recovers nothing"
            } else {
                "a subscription recovers"
            });
        } else if !result.publications.is_empty() {
            return Err("publications come without a recovery");
        }
        if !truth.has_history(channel) {
            return Ok(active);
        }
        if result.epoch.is_empty() {
            // An SDK remembers this as a position.
            truth.mark("a subscription begins without a position");
            active.known = Some(Known { epoch: String::new(), offset: result.offset });
            return Ok(active);
        }
        let offset = result.publications.last().map_or(result.offset, |last| last.offset);
        if !truth.has_position(channel, &result.epoch, offset) {
            return Err("a subscription starts at a position that no server has returned");
        }
        active.known = Some(Known { epoch: result.epoch.clone(), offset });
        Ok(active)
    }

    /// Receives a publication, which must be the next one.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub(crate) fn receive(
        &mut self,
        publication: &proto::Publication,
        channel: usize,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        let found = number(&publication.data).ok_or("a publication has other data")?;
        if !view.truth.is_of(found, channel) {
            return Err("a publication is of another channel");
        }
        if view.truth.has_history(channel) {
            let known = self.known.as_mut().filter(|known| !known.epoch.is_empty());
            let known = known.ok_or("a subscription without a position gets a publication")?;
            if publication.offset <= known.offset {
                return Err("a publication comes twice, or too early");
            }
            if publication.offset != known.offset + 1 {
                return Err("publications are missing without a notification");
            }
            if view.truth.at(channel, &known.epoch, publication.offset) != Some(found) {
                return Err("a publication has another position than at the server");
            }
            known.offset = publication.offset;
            return Ok(());
        }
        if !self.received.insert(found) && !view.truth.is_repeated(channel, found) {
            return Err("a publication comes twice");
        }
        let Some(place) = view.truth.place(channel, found) else {
            // It may arrive after its node has been connected again, or has ended.
            return if view.may_be_local || view.truth.is_local(found) {
                Ok(())
            } else {
                Err("a publication comes that no server has executed")
            };
        };
        if view.truth.is_repeated(channel, found) {
            // After a failover it has two places, and this may be either.
            self.last = None;
            return Ok(());
        }
        if let Some(last) = self.last
            && last.time > view.lost_at
            && (place.server, place.index) != (last.server, last.index + 1)
        {
            return Err("a publication without a position is missing, or has another order");
        }
        self.last = Some(place);
        Ok(())
    }
}
