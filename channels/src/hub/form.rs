//! The form in which a subscriber receives publications.

use std::ops::BitOr;

use crate::protocol::{Encoding, Message};

/// The properties of a subscription, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Form(u16);

impl Form {
    /// Messages are in Protobuf, otherwise in JSON.
    pub const PROTOBUF: Form = Form(1);
    /// Pushes contain the number of the channel in place of its name.
    pub const COMPACT: Form = Form(1 << 1);
    /// Publications are sent as deltas.
    pub const DELTA: Form = Form(1 << 2);
    /// The subscriber has the publication that precedes the next one, so it can apply a delta.
    pub const DELTA_BASE: Form = Form(1 << 3);
    /// The client sends no commands, and gets pushes without replies around them.
    pub const BARE: Form = Form(1 << 4);
    /// The subscriber gets joins and leaves.
    pub const JOIN_LEAVE: Form = Form(1 << 5);
    /// The server has subscribed the connection.
    pub const SERVER_SIDE: Form = Form(1 << 6);
    /// The subscriber is notified of gaps.
    pub const POSITIONED: Form = Form(1 << 7);
    /// The subscriber can recover.
    pub const RECOVERABLE: Form = Form(1 << 8);
    /// The subscriber has a filter.
    pub const FILTERED: Form = Form(1 << 9);
    /// The client is in the presence of the channel.
    pub const PRESENT: Form = Form(1 << 10);
    /// The subscriber has asked for a recovery.
    pub const WAS_RECOVERING: Form = Form(1 << 11);
    /// The subscriber gets nothing before the reply to `connect`.
    pub const HELD: Form = Form(1 << 12);

    /// The properties with which a delivery depends on more than the frame.
    const SPECIAL: Form = Form(Form::DELTA.0 | Form::FILTERED.0 | Form::HELD.0);

    /// The number of different frames of a publication.
    pub const FRAMES: usize = 32;

    /// Returns the form with the properties that are `true`.
    pub fn of(properties: impl IntoIterator<Item = (bool, Form)>) -> Form {
        let set = properties.into_iter().filter(|&(is_set, _)| is_set);
        set.fold(Form::default(), |form, (_, property)| form | property)
    }

    /// Returns whether all properties of `other` are set.
    #[inline]
    pub fn has(self, other: Form) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the properties that `other` does not have.
    #[must_use]
    #[inline]
    pub fn without(self, other: Form) -> Form {
        Form(self.0 & !other.0)
    }

    /// Returns the form that [`frame`](Form::frame) has made this number of.
    pub(crate) fn of_frame(number: usize) -> Form {
        Form(number as u16)
    }

    /// Returns the encoding of messages.
    pub(crate) fn encoding(self) -> Encoding {
        if self.has(Form::PROTOBUF) { Encoding::Protobuf } else { Encoding::Json }
    }

    /// Starts a message in this form at the end of `out`.
    pub(crate) fn message(self, out: &mut Vec<u8>) -> Message<'_> {
        if self.has(Form::BARE) { Message::bare(out) } else { Message::new(self.encoding(), out) }
    }

    /// Returns a number below [`FRAMES`](Form::FRAMES). Subscribers with the same number receive the same frame of a publication.
    #[inline]
    pub fn frame(self) -> usize {
        usize::from(self.0) % Form::FRAMES
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn from_bits(bits: u16) -> Form {
        Form(bits)
    }
}

/// The properties of the subscribers of a channel together, so that most deliveries need not look at each subscriber. A property that
/// no subscriber has any more may be among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forms {
    /// The properties that any subscriber has.
    any: Form,
    /// The numbers of their frames, one bit each.
    frames: u32,
}

impl Forms {
    /// Adds the form of a subscriber.
    #[inline]
    pub(crate) fn insert(&mut self, form: Form) {
        self.any = self.any | form;
        self.frames |= 1 << form.frame();
    }

    /// Returns whether the same publication is sent to all subscribers with the same frame.
    pub(crate) fn are_plain(self) -> bool {
        self.any.0 & Form::SPECIAL.0 == 0
    }

    /// Returns the numbers of the frames.
    pub(crate) fn frames(self) -> impl Iterator<Item = usize> {
        (0..Form::FRAMES).filter(move |number| self.frames & 1 << number != 0)
    }

    /// Removes the number of a frame that no subscriber has.
    pub(crate) fn remove_frame(&mut self, number: usize) {
        self.frames &= !(1 << number);
    }
}

impl BitOr for Form {
    type Output = Form;

    fn bitor(self, other: Form) -> Form {
        Form(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_depends_on_encoding_name_and_delta_only() {
        let form = Form::PROTOBUF | Form::DELTA;
        let rest = Form::JOIN_LEAVE
            | Form::SERVER_SIDE
            | Form::POSITIONED
            | Form::RECOVERABLE
            | Form::FILTERED
            | Form::PRESENT
            | Form::WAS_RECOVERING
            | Form::HELD;
        assert_eq!((form | rest).frame(), form.frame());
        for other in
            [Form::PROTOBUF, Form::DELTA, form | Form::COMPACT, form | Form::DELTA_BASE, form | Form::BARE]
        {
            assert_ne!(other.frame(), form.frame());
        }
        assert!(form.has(Form::DELTA) && !form.has(Form::DELTA | Form::COMPACT));
        assert_eq!(form.without(Form::DELTA | Form::COMPACT), Form::PROTOBUF);
    }
}
