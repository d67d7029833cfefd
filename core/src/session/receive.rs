//! Frames in, events out: the receiving half of a [`Session`].

use zeroize::Zeroize;

use super::incoming::{Message, PartialFrame};
use super::{Ending, Event, Session, State};
use crate::deflate::{InflateError, longest_compressed};
use crate::frame::{
    ControlKind, DataKind, FrameHeader, FrameKind, OpCode, ProtocolError, parse_close, unmask, write_close,
    write_frame,
};
use crate::input::{Input, Payload, Text};
use crate::policy::Verdict;
use crate::role::Role;
use crate::turn::{LARGE, Turn};
use crate::wipe;

impl<R: Role> Session<R> {
    /// Whether the next byte begins a message or a control frame. Only the deadline of a Close can be set then.
    #[inline]
    pub(crate) fn is_between_messages(&self) -> bool {
        self.state == State::Open && self.incoming.is_none() && self.partial_len == 0
    }

    /// Consumes a message that is a single complete frame of at most `longest` bytes, uncompressed and valid. Anything else is
    /// left for [`Session::next_event`]. `longest` is the result of `SessionConfig::longest_whole`. Call it only
    /// [between messages](Session::is_between_messages).
    // Inlined into the loops that call it: a call would add a third to its cost.
    #[inline(always)]
    pub(crate) fn take_whole_message<'b>(
        &mut self,
        longest: usize,
        input: &mut Input<'b>,
    ) -> Option<(DataKind, &'b mut [u8])> {
        let &[first, second] = input.peek().first_chunk::<2>()?;
        let kind = match first {
            WHOLE_TEXT => DataKind::Text,
            WHOLE_BINARY => DataKind::Binary,
            _ => return None,
        };
        let (len, start) = match second ^ if R::PEER_MASKS { 0x80 } else { 0 } {
            len @ 0..=125 => (usize::from(len), 2),
            126 => match input.peek().first_chunk::<4>() {
                Some(&[_, _, a, b]) if a > 0 || b > 125 => (usize::from(u16::from_be_bytes([a, b])), 4),
                Some(_) | None => return None,
            },
            // It is longer, or it is masked and must not be, or the reverse.
            _ => return None,
        };
        if len > longest {
            return None;
        }
        let start = start + if R::PEER_MASKS { 4 } else { 0 };
        let (head, payload) = input.peek_mut().get_mut(..start + len)?.split_at_mut_checked(start)?;
        if R::PEER_MASKS {
            unmask(payload, *head.last_chunk()?, 0);
        }
        if kind == DataKind::Text && !is_utf8(payload) {
            if R::PEER_MASKS {
                mask_again(payload, *head.last_chunk()?);
            }
            return None;
        }
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += len as u64;
        Some((kind, input.take(start + len).get_mut(start..)?))
    }

    /// Whether the next byte begins a control frame.
    pub(crate) fn begins_control_frame(&self, input: &Input<'_>) -> bool {
        let is_between_frames =
            self.partial_len == 0 && self.incoming.as_ref().is_none_or(|incoming| incoming.frame.is_none());
        is_between_frames && input.peek().first().is_some_and(|first| first & 0x08 != 0)
    }

    pub(super) fn advance<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        loop {
            let event = if self.incoming.as_ref().is_some_and(|incoming| incoming.frame.is_some()) {
                self.continue_frame(turn, input)?
            } else {
                match self.read_header(input)? {
                    Some(header) => self.begin_frame(turn, header, input)?,
                    None => break,
                }
            };
            self.rest_from_message();
            if event.is_some() {
                return Ok(event);
            }
            if input.is_empty() {
                break;
            }
        }
        if (self.incoming.is_some() || self.partial_len > 0) && self.deadline.is_none() {
            let timeout = self.config.message_timeout;
            if !timeout.is_zero() {
                self.deadline = Some(turn.now + timeout);
            }
        }
        Ok(None)
    }

    /// Frees memory and clears the deadline if no frame and no message is partial.
    fn rest_from_message(&mut self) {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.is_idle()) {
            self.incoming = None;
        }
        if self.incoming.is_none() && self.state == State::Open {
            self.deadline = None;
        }
    }

    /// Returns the next header, from the bytes in `partial` and from `input`.
    fn read_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
        if self.partial_len == 0
            && let Some((header, len)) = FrameHeader::parse::<R>(input.peek())?
        {
            input.take(len);
            return Ok(Some(header));
        }
        self.read_split_header(input)
    }

    #[cold]
    fn read_split_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
        // Byte by byte, because the second byte of a header determines its length. A header has at most fourteen bytes.
        while let Some(slot) = self.partial.get_mut(usize::from(self.partial_len)) {
            let [byte] = *input.take(1) else { return Ok(None) };
            *slot = byte;
            self.partial_len += 1;
            let bytes = self.partial.get(..usize::from(self.partial_len)).unwrap_or_default();
            if let Some((header, _)) = FrameHeader::parse::<R>(bytes)? {
                self.partial_len = 0;
                return Ok(Some(header));
            }
        }
        // Fourteen bytes are always a whole header, so the loop has returned.
        Ok(None)
    }

    /// Begins a frame, with as much of its payload as has arrived.
    fn begin_frame<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        header: FrameHeader,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        // RFC 7692 §6: the bit of a compressed message is set in its first frame only.
        if header.rsv1 && !(self.deflate.is_some() && matches!(header.kind, FrameKind::Data(_))) {
            return Err(ProtocolError::ReservedBits);
        }
        let is_whole = header.len <= input.len() as u64;
        match header.kind {
            FrameKind::Control(control) if is_whole => {
                let payload = take_unmasked::<R>(input, &header, 0);
                return self.receive_control(turn, control, Payload::Borrowed(payload));
            }
            FrameKind::Control(_) => {}
            FrameKind::Data(kind) if is_whole && header.fin && self.incoming.is_none() => {
                self.check_frame(&header, header.rsv1)?;
                if header.len > self.largest(self.config.max_message, header.rsv1) {
                    return Err(ProtocolError::MessageTooBig);
                }
                let payload = take_unmasked::<R>(input, &header, 0);
                if header.rsv1 {
                    return self.deliver_compressed(turn, kind, payload);
                }
                if kind == DataKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
                    return Err(ProtocolError::Utf8);
                }
                return Ok(self.deliver(kind, Payload::Borrowed(payload)));
            }
            FrameKind::Data(_) | FrameKind::Continuation => {
                self.begin_fragment(turn, &header)?;
            }
        }
        let incoming = self.incoming.get_or_insert_default();
        incoming.frame = Some(PartialFrame { header, received: 0 });
        self.continue_frame(turn, input)
    }

    fn check_frame(&self, header: &FrameHeader, is_compressed: bool) -> Result<(), ProtocolError> {
        if header.len > self.largest(self.config.max_frame, is_compressed) {
            // A frame that no message may contain either is refused by the limit that is better known.
            let is_longer_than_a_message = header.len > self.largest(self.config.max_message, is_compressed);
            return Err(match is_longer_than_a_message {
                true => ProtocolError::MessageTooBig,
                false => ProtocolError::FrameTooBig,
            });
        }
        Ok(())
    }

    /// Returns the limit of compressed bytes. Data that cannot be compressed gets a little longer.
    fn largest(&self, limit: usize, is_compressed: bool) -> u64 {
        (if is_compressed { longest_compressed(limit) } else { limit }) as u64
    }

    /// Opens or continues the message that a data frame belongs to.
    fn begin_fragment(&mut self, turn: &mut Turn<'_>, header: &FrameHeader) -> Result<(), ProtocolError> {
        let message = &mut self.incoming.get_or_insert_default().message;
        match (header.kind, &message) {
            (FrameKind::Data(kind), None) => {
                let is_large = header.len >= LARGE as u64;
                let buffer = if is_large { turn.codec.buffers.take() } else { Vec::new() };
                *message = Some(Message::new(kind, header.rsv1, buffer));
            }
            (FrameKind::Data(_), Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (FrameKind::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (FrameKind::Continuation, Some(_)) | (FrameKind::Control(_), _) => {}
        }
        let is_compressed = message.as_ref().is_some_and(|message| message.is_compressed);
        self.check_frame(header, is_compressed)?;
        let message = self.incoming.as_mut().and_then(|incoming| incoming.message.as_mut());
        message.map_or(Ok(()), |message| message.begin_frame(header.len, &self.config))
    }

    /// Consumes payload of the partial frame.
    fn continue_frame<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Some(incoming) = self.incoming.as_deref_mut() else { return Ok(None) };
        let Some(PartialFrame { header, received }) = incoming.frame else { return Ok(None) };
        match header.kind {
            FrameKind::Control(control) => {
                let payload = take_unmasked::<R>(input, &header, received);
                let received = received + payload.len() as u64;
                let is_whole = received == header.len;
                incoming.frame = (!is_whole).then_some(PartialFrame { header, received });
                incoming.control.extend_from_slice(payload);
                if !is_whole {
                    return Ok(None);
                }
                let payload = Payload::Owned(std::mem::take(&mut incoming.control));
                self.receive_control(turn, control, payload)
            }
            FrameKind::Data(_) | FrameKind::Continuation => {
                let Some(message) = &mut incoming.message else { return Ok(None) };
                // Bytes that a runtime has read into the message's own buffer are first.
                let received = received + message.take_appended(header.mask, received)?;
                let payload = input.take(left_of(&header, received));
                message.append(payload, header.mask, received)?;
                let received = received + payload.len() as u64;
                let is_whole = received == header.len;
                incoming.frame = (!is_whole).then_some(PartialFrame { header, received });
                if !(is_whole && header.fin) {
                    return Ok(None);
                }
                let Some(message) = incoming.message.take() else { return Ok(None) };
                let (kind, is_compressed) = (message.kind, message.is_compressed);
                let mut bytes = message.finish()?;
                if is_compressed {
                    let delivered = self.deliver_compressed(turn, kind, &bytes);
                    if bytes.len() <= wipe::LONGEST {
                        bytes.zeroize();
                    }
                    return delivered;
                }
                Ok(self.deliver(kind, Payload::Owned(bytes)))
            }
        }
    }

    /// Returns the partial data frame, the number of its bytes that have arrived, and its message.
    fn arriving(&mut self) -> Option<(FrameHeader, u64, &mut Message)> {
        let incoming = self.incoming.as_deref_mut()?;
        let PartialFrame { header, received } = incoming.frame?;
        if matches!(header.kind, FrameKind::Control(_)) {
            return None;
        }
        Some((header, received, incoming.message.as_mut()?))
    }

    /// Returns the buffer of a large message that is arriving, for a read to append to. The next
    /// [`Session::next_event`] handles the appended bytes.
    pub(crate) fn spare_buffer(&mut self) -> Option<&mut Vec<u8>> {
        let (header, received, message) = self.arriving()?;
        message.spare_buffer(header.len - received)
    }

    /// Removes the bytes that a read has appended to that buffer after the end of the frame. They are the next input.
    pub(crate) fn take_excess(&mut self) -> Vec<u8> {
        self.arriving()
            .map_or_else(Vec::new, |(header, received, message)| message.take_excess(header.len - received))
    }

    /// Returns the event of a complete message, unless a Close was sent.
    #[inline]
    fn deliver<'b>(&mut self, kind: DataKind, payload: Payload<'b>) -> Option<Event<'b>> {
        if self.state != State::Open {
            return None;
        }
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += payload.len() as u64;
        Some(Event::message(kind, payload))
    }

    /// Inflates a complete message and returns its event. Its UTF-8 can only be checked now.
    fn deliver_compressed<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DataKind,
        compressed: &[u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if self.state != State::Open {
            return Ok(None);
        }
        let inflated = turn.codec.deflate.inflate(compressed, self.config.max_message);
        let bytes = inflated.map_err(|error| match error {
            InflateError::TooBig => ProtocolError::MessageTooBig,
            InflateError::Invalid => ProtocolError::Inflate,
        })?;
        if kind == DataKind::Text && simdutf8::basic::from_utf8(&bytes).is_err() {
            return Err(ProtocolError::Utf8);
        }
        Ok(self.deliver(kind, Payload::Owned(bytes)))
    }

    fn receive_control<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        control: ControlKind,
        payload: Payload<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let rate = self.config.control_rate;
        let is_asked_for = control == ControlKind::Pong && std::mem::take(&mut self.awaits_pong);
        // A Close ends the flood, so it is always handled.
        if control != ControlKind::Close
            && !is_asked_for
            && rate != 0
            && self.control.get_or_insert_default().check(turn.now, rate) == Verdict::Exceeded
        {
            return Err(ProtocolError::ControlRate);
        }
        match control {
            ControlKind::Ping => {
                self.answer_ping(turn, &payload);
                Ok(Some(Event::Ping(payload)))
            }
            ControlKind::Pong => Ok(Some(Event::Pong(payload))),
            ControlKind::Close => self.receive_close(turn, payload).map(Some),
        }
    }

    /// Answers a Ping. RFC 6455 §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response,
    /// unless it already received a Close frame." After our own Close, no Pong is sent.
    ///
    /// §5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous Ping
    /// frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame." So at
    /// most one Pong is kept for a peer that does not read (ws 8.23.0, curl CVE-2026-11586).
    fn answer_ping(&mut self, turn: &mut Turn<'_>, payload: &[u8]) {
        if self.state != State::Open {
            return;
        }
        if turn.is_backlogged {
            self.control.get_or_insert_default().delay_pong(payload);
        } else {
            // A pending pong is for an earlier ping, and would be sent after this one.
            self.control.as_mut().and_then(|control| control.take_pong());
            write_frame(turn.out, OpCode::Pong, payload, self.role.masking_key());
        }
    }

    /// Whether a pong must be sent when the backlog is empty.
    pub(crate) fn has_pong(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.has_pong())
    }

    /// Sends the pending pong. Call it when the backlog is empty.
    pub(crate) fn send_pong(&mut self, turn: &mut Turn<'_>) {
        if let Some(payload) = self.control.as_mut().and_then(|control| control.take_pong()) {
            self.answer_ping(turn, &payload);
        }
    }

    fn receive_close<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        payload: Payload<'b>,
    ) -> Result<Event<'b>, ProtocolError> {
        let (code, reason) = parse_close(&payload)?;
        let skip = payload.len() - reason.len();
        if self.state == State::Open {
            // RFC 6455 §5.5.1: "it SHOULD echo the status code it received."
            write_close(turn.out, code, "", self.role.masking_key());
        }
        self.end(State::Finished, Ending::PeerClosed(code));
        self.deadline = Some(turn.now + self.config.close_timeout);
        let reason = match payload {
            Payload::Borrowed(bytes) => Payload::Borrowed(bytes.get_mut(skip..).unwrap_or_default()),
            Payload::Owned(bytes) => Payload::Owned(bytes.get(skip..).unwrap_or_default().to_vec()),
        };
        Ok(Event::Close { code, reason: Text::from_checked(reason) })
    }
}

/// The first byte of a text message in a single frame: FIN, and no reserved bits.
const WHOLE_TEXT: u8 = 0x81;

/// The first byte of a binary message in a single frame.
const WHOLE_BINARY: u8 = 0x82;

/// Whether a payload is text.
#[inline(never)]
fn is_utf8(payload: &[u8]) -> bool {
    simdutf8::basic::from_utf8(payload).is_ok()
}

/// Restores the masked bytes, so that the checks of the frame can report its fault.
#[cold]
fn mask_again(payload: &mut [u8], mask: [u8; 4]) {
    unmask(payload, mask, 0);
}

/// Returns the unmasked payload of a frame from its byte `at` on, as far as it has arrived.
#[inline]
fn take_unmasked<'b, R: Role>(input: &mut Input<'b>, header: &FrameHeader, at: u64) -> &'b mut [u8] {
    let payload = input.take(left_of(header, at));
    if R::PEER_MASKS {
        unmask(payload, header.mask, at);
    }
    payload
}

/// Returns the number of bytes of a frame's payload that are still missing. It may not fit into a usize on a small
/// host; then all received bytes belong to the frame.
#[inline]
fn left_of(header: &FrameHeader, received: u64) -> usize {
    usize::try_from(header.len - received).unwrap_or(usize::MAX)
}
