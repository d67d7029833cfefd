//! The pending output of a connection between turns.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::frame_table::{Change, FrameId, FrameTable};

/// The output of a connection that is not written to its socket.
#[derive(Debug, Default)]
pub(crate) enum Output {
    /// No output.
    #[default]
    Empty,
    /// One shared frame or several joined ones, no byte of which has been offered to the socket yet. It allocates nothing.
    Frame(FrameId),
    /// Output that the socket has not accepted.
    Queue(Box<OutputQueue>),
}

/// Output that the socket has not accepted, and when it last accepted some.
///
/// ```text
///   front  [ owned | shared | owned | shared ]   tail [ owned ]
///            ^ the first `sent` bytes are sent (of the tail, if the front is empty)
/// ```
#[derive(Debug)]
pub(crate) struct OutputQueue {
    /// The older output.
    front: VecDeque<Segment>,
    /// The bytes of the older output, including those that are sent.
    front_len: usize,
    /// The memory of the buffers among the older output. It may have thousands of segments, which a sum would visit for each message.
    front_memory: usize,
    /// The latest output, to which turns append.
    tail: Vec<u8>,
    /// The number of bytes of the first segment that are sent.
    sent: usize,
    /// When the socket last accepted output.
    progress: Instant,
    /// Whether the socket has been offered it, and has not accepted all of it.
    is_offered: bool,
}

/// Connections that stop reading have a few of these each, so the variants are small.
#[derive(Debug)]
enum Segment {
    Owned(Box<[u8]>),
    Shared(FrameId),
}

const _: () = assert!(size_of::<Segment>() == 16);

impl Segment {
    fn bytes<'s>(&'s self, frames: &'s FrameTable) -> &'s [u8] {
        match self {
            Segment::Owned(bytes) => bytes,
            Segment::Shared(id) => frames.get(*id),
        }
    }
}

/// The pieces of one write. Further output is left to the next one.
pub(crate) type Pieces<'s> = ArrayVec<IoSlice<'s>, MAX_PIECES>;

/// The number of segments for which memory is allocated at first. Growth by one segment would leave the allocator a small free
/// block for each connection, if thousands of clients stop reading at the same message.
const FEW_SEGMENTS: usize = 3;

/// The most pieces of one write.
const MAX_PIECES: usize = 16;

impl Output {
    /// Whether there is no output.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Output::Empty)
    }

    /// Returns the frame that has not been offered to the socket yet.
    #[inline]
    pub(crate) fn frame(&self) -> Option<FrameId> {
        if let Output::Frame(id) = self { Some(*id) } else { None }
    }

    /// Returns the output that the socket has not accepted.
    pub(crate) fn queue(&self) -> Option<&OutputQueue> {
        if let Output::Queue(queue) = self { Some(queue) } else { None }
    }

    /// Returns the number of bytes.
    #[inline]
    pub(crate) fn len(&self, frames: &FrameTable) -> usize {
        match self {
            Output::Empty => 0,
            Output::Frame(id) => frames.get(*id).len(),
            Output::Queue(queue) => queue.len(),
        }
    }

    /// Removes and returns the output as a queue, to which more is appended. `None` if there is no output.
    #[inline]
    pub(crate) fn take_queue(&mut self, frames: &FrameTable, now: Instant) -> Option<Box<OutputQueue>> {
        match mem::take(self) {
            Output::Empty => None,
            Output::Frame(id) => {
                let mut queue = OutputQueue::resume(Vec::new(), 0, now);
                queue.is_offered = false;
                queue.push_frame(id, frames.get(id).len());
                Some(Box::new(queue))
            }
            Output::Queue(queue) => Some(queue),
        }
    }

    /// Appends a shared frame. Returns the change of the bytes in the table.
    #[inline]
    pub(crate) fn push_frame(&mut self, id: FrameId, frames: &mut FrameTable, now: Instant) -> Change {
        match self {
            Output::Empty => {
                frames.retain(id);
                *self = Output::Frame(id);
                return Change::default();
            }
            Output::Frame(first) => {
                if let Some((joined, change)) = frames.join(*first, id) {
                    *first = joined;
                    return change;
                }
            }
            Output::Queue(_) => {}
        }
        self.queue_frame(id, frames, now);
        Change::default()
    }

    #[inline(never)]
    fn queue_frame(&mut self, id: FrameId, frames: &mut FrameTable, now: Instant) {
        frames.retain(id);
        match self.take_queue(frames, now) {
            None => *self = Output::Frame(id),
            Some(mut queue) => {
                queue.push_frame(id, frames.get(id).len());
                *self = Output::Queue(queue);
            }
        }
    }

    /// Returns the first contiguous part.
    pub(crate) fn first<'s>(&'s self, frames: &'s FrameTable) -> &'s [u8] {
        match self {
            Output::Empty => &[],
            Output::Frame(id) => frames.get(*id),
            Output::Queue(queue) => queue.first(frames),
        }
    }

    /// Returns the pieces of one write.
    pub(crate) fn pieces<'s>(&'s self, frames: &'s FrameTable) -> Pieces<'s> {
        let mut pieces = Pieces::new();
        match self {
            Output::Empty => {}
            Output::Frame(id) => pieces.push(IoSlice::new(frames.get(*id))),
            Output::Queue(queue) => queue.gather(frames, &mut pieces),
        }
        pieces
    }

    /// Removes `n` bytes that the socket accepted. Returns the number of bytes of shared frames that are freed, and the buffer
    /// of the queue if all its output is sent.
    pub(crate) fn advance(
        &mut self,
        n: usize,
        frames: &mut FrameTable,
        now: Instant,
    ) -> (usize, Option<Vec<u8>>) {
        if let Output::Frame(id) = *self {
            if n >= frames.get(id).len() {
                *self = Output::Empty;
                return (frames.release(id), None);
            }
            if let Some(queue) = self.take_queue(frames, now) {
                *self = Output::Queue(queue);
            }
        }
        let Output::Queue(queue) = self else { return (0, None) };
        let freed = queue.advance(n, frames, now);
        if queue.len() > 0 {
            return (freed, None);
        }
        let buffer = mem::take(&mut queue.tail);
        *self = Output::Empty;
        (freed, Some(buffer))
    }

    /// Drops the buffers of output that will not be sent. Call [`release`](Output::release) later for its shared frames.
    pub(crate) fn abandon(&mut self) {
        if let Output::Queue(queue) = self {
            queue.tail = Vec::new();
            queue.front.retain(|segment| matches!(segment, Segment::Shared(_)));
            queue.front_memory = 0;
            if queue.front.is_empty() {
                *self = Output::Empty;
            }
        }
    }

    /// Drops all output. Returns the number of bytes of shared frames that are freed.
    pub(crate) fn release(&mut self, frames: &mut FrameTable) -> usize {
        match mem::take(self) {
            Output::Empty => 0,
            Output::Frame(id) => frames.release(id),
            Output::Queue(queue) => queue.release(frames),
        }
    }
}

impl OutputQueue {
    /// Creates a queue of `bytes`, the first `sent` of which the socket accepted at `now`.
    pub(crate) fn resume(bytes: Vec<u8>, sent: usize, now: Instant) -> OutputQueue {
        let sent = sent.min(bytes.len());
        OutputQueue {
            front: VecDeque::new(),
            front_len: 0,
            front_memory: 0,
            tail: bytes,
            sent,
            progress: now,
            is_offered: true,
        }
    }

    /// Returns the buffer to which further output is appended.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Returns the pending bytes of a queue without shared frames.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> &[u8] {
        self.tail.get(self.sent..).unwrap_or_default()
    }

    /// Returns the number of pending bytes.
    pub(crate) fn len(&self) -> usize {
        self.front_len + self.tail.len() - self.sent
    }

    /// Whether the socket has been offered it, and has not accepted all of it. A peer is slow only then.
    pub(crate) fn is_offered(&self) -> bool {
        self.is_offered
    }

    /// Whether more than `limit` bytes are pending.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        self.len() > limit
    }

    /// Returns the size of its buffers, in bytes. Shared frames are counted once for the worker.
    pub(crate) fn memory(&self) -> usize {
        size_of::<OutputQueue>()
            + self.front_memory
            + self.front.capacity() * size_of::<Segment>()
            + self.tail.capacity()
    }

    /// Returns the time at which the socket last accepted output.
    pub(crate) fn progress(&self) -> Instant {
        self.progress
    }

    /// Returns the time at which the peer will have accepted no output for `timeout`. `None` if that is zero.
    pub(crate) fn stalls_at(&self, timeout: Duration) -> Option<Instant> {
        (!timeout.is_zero()).then(|| self.progress + timeout)
    }

    /// Drops the output. Returns the number of bytes of shared frames that are freed.
    pub(crate) fn release(self, frames: &mut FrameTable) -> usize {
        let mut freed = 0;
        for segment in self.front {
            if let Segment::Shared(id) = segment {
                freed += frames.release(id);
            }
        }
        freed
    }

    fn push_frame(&mut self, id: FrameId, len: usize) {
        if self.front.capacity() == 0 {
            self.front.reserve_exact(FEW_SEGMENTS);
        }
        if !self.tail.is_empty() {
            let tail = mem::take(&mut self.tail).into_boxed_slice();
            self.front_len += tail.len();
            self.front_memory += tail.len();
            self.front.push_back(Segment::Owned(tail));
        }
        self.front_len += len;
        self.front.push_back(Segment::Shared(id));
    }

    fn first<'s>(&'s self, frames: &'s FrameTable) -> &'s [u8] {
        let bytes = self.front.front().map_or(&self.tail[..], |segment| segment.bytes(frames));
        bytes.get(self.sent..).unwrap_or_default()
    }

    fn gather<'s>(&'s self, frames: &'s FrameTable, pieces: &mut Pieces<'s>) {
        pieces.push(IoSlice::new(self.first(frames)));
        let rest = self.front.iter().skip(1).map(|segment| segment.bytes(frames));
        let tail = (!self.front.is_empty()).then_some(&self.tail[..]);
        for bytes in rest.chain(tail) {
            if pieces.is_full() {
                return;
            }
            if !bytes.is_empty() {
                pieces.push(IoSlice::new(bytes));
            }
        }
    }

    /// Removes `n` bytes. Returns the number of bytes of shared frames that are freed.
    fn advance(&mut self, n: usize, frames: &mut FrameTable, now: Instant) -> usize {
        if n > 0 {
            self.progress = now;
        }
        self.is_offered = true;
        self.sent += n;
        let mut freed = 0;
        while let Some(segment) = self.front.front() {
            let len = segment.bytes(frames).len();
            if len > self.sent {
                break;
            }
            match segment {
                Segment::Owned(_) => self.front_memory -= len,
                Segment::Shared(id) => freed += frames.release(*id),
            }
            self.front.pop_front();
            self.front_len -= len;
            self.sent -= len;
        }
        if self.front.is_empty() {
            self.sent = self.sent.min(self.tail.len());
            // Moving the rest to the front costs as much as it has bytes; done when at least as many are sent, so each byte
            // is moved once on average.
            if self.sent >= self.tail.len() - self.sent {
                self.tail.drain(..self.sent);
                self.sent = 0;
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &Output, frames: &FrameTable) -> Vec<u8> {
        output.pieces(frames).iter().flat_map(|piece| piece.to_vec()).collect()
    }

    fn append(output: &mut Output, frames: &FrameTable, bytes: &[u8], now: Instant) {
        let mut queue = output
            .take_queue(frames, now)
            .unwrap_or_else(|| Box::new(OutputQueue::resume(Vec::new(), 0, now)));
        queue.tail().extend_from_slice(bytes);
        *output = Output::Queue(queue);
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let now = Instant::now();
        for step in 1..=9 {
            let (mut frames, mut output) = (FrameTable::default(), Output::default());
            let [first, second] = [b"cdef".as_slice(), b"ij"].map(|bytes| frames.insert(bytes.to_vec()));
            append(&mut output, &frames, b"ab", now);
            for (id, after) in [(first, b"gh".as_slice()), (second, b"")] {
                output.push_frame(id, &mut frames, now);
                append(&mut output, &frames, after, now);
            }
            assert_eq!(frames.end_additions(), 0);
            let (mut seen, mut freed) = (Vec::new(), 0);
            while !output.is_empty() {
                let pieces = written(&output, &frames);
                assert!(pieces.starts_with(output.first(&frames)));
                let n = step.min(pieces.len());
                seen.extend_from_slice(&pieces[..n]);
                freed += output.advance(n, &mut frames, now).0;
            }
            assert_eq!((seen.as_slice(), freed), (&b"abcdefghij"[..], 6), "{step} at a time");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn memory_is_that_of_all_buffers_after_each_change() {
        let now = Instant::now();
        let (mut frames, mut output) = (FrameTable::default(), Output::default());
        let id = frames.insert(b"abc".to_vec());
        for length in 1..=5 {
            append(&mut output, &frames, &vec![7; length * 100], now);
            output.push_frame(id, &mut frames, now);
        }
        let fixed = |queue: &OutputQueue| {
            size_of::<OutputQueue>() + queue.front.capacity() * size_of::<Segment>() + queue.tail.capacity()
        };
        let buffers = |queue: &OutputQueue| queue.memory() - fixed(queue);
        assert_eq!(output.queue().map(buffers), Some(100 + 200 + 300 + 400 + 500));
        output.advance(103 + 200, &mut frames, now);
        assert_eq!(output.queue().map(buffers), Some(300 + 400 + 500));
        output.abandon();
        assert_eq!(output.queue().map(buffers), Some(0));
    }

    #[test]
    fn one_frame_allocates_no_queue_until_a_socket_accepts_a_part() {
        let now = Instant::now();
        let (mut frames, mut output) = (FrameTable::default(), Output::default());
        let id = frames.insert(b"abc".to_vec());
        output.push_frame(id, &mut frames, now);
        assert!(output.queue().is_none());
        assert_eq!(output.advance(3, &mut frames, now), (0, None));
        assert!(output.is_empty());
        output.push_frame(id, &mut frames, now);
        frames.end_additions();
        assert_eq!(output.advance(0, &mut frames, now), (0, None));
        assert_eq!(output.queue().map(OutputQueue::len), Some(3));
        assert_eq!(output.advance(2, &mut frames, now), (0, None));
        assert_eq!(output.first(&frames), b"c");
        assert_eq!(output.advance(1, &mut frames, now), (3, Some(Vec::new())));
    }

    #[test]
    fn several_frames_allocate_no_queue_unless_they_are_long() {
        let now = Instant::now();
        let (mut frames, mut output) = (FrameTable::default(), Output::default());
        let [first, second, long] =
            [b"abc".to_vec(), b"de".to_vec(), vec![7; 20_000]].map(|bytes| frames.insert(bytes));
        for id in [first, second, first] {
            output.push_frame(id, &mut frames, now);
        }
        assert!(output.queue().is_none());
        assert_eq!(written(&output, &frames), b"abcdeabc");
        output.push_frame(long, &mut frames, now);
        assert!(output.queue().is_some_and(|queue| queue.len() == 20_008 && !queue.is_offered()));
        assert_eq!(frames.end_additions(), 3 + 2);
        assert_eq!(output.advance(9, &mut frames, now).0, 8);
        assert!(output.queue().is_some_and(OutputQueue::is_offered));
        assert_eq!((output.release(&mut frames), frames.is_empty()), (20_000, true));
    }

    #[test]
    fn output_that_is_dropped_releases_its_frames() {
        let now = Instant::now();
        let mut frames = FrameTable::default();
        let id = frames.insert(b"abc".to_vec());
        let mut outputs = [(); 3].map(|()| Output::default());
        for (index, output) in outputs.iter_mut().enumerate() {
            if index > 0 {
                append(output, &frames, b"owned", now);
            }
            output.push_frame(id, &mut frames, now);
        }
        frames.end_additions();
        outputs[2].abandon();
        let freed: Vec<usize> = outputs.iter_mut().map(|output| output.release(&mut frames)).collect();
        assert_eq!(freed, [0, 0, 3]);
        let mut output = Output::default();
        append(&mut output, &frames, b"owned", now);
        output.abandon();
        assert!(output.is_empty() && frames.is_empty());
    }

    #[test]
    fn only_pending_bytes_count_towards_a_limit() {
        let now = Instant::now();
        let mut frames = FrameTable::default();
        let mut output = Output::Queue(Box::new(OutputQueue::resume(vec![0; 11], 0, now)));
        assert!(output.queue().is_some_and(|queue| queue.exceeds(10)));
        output.advance(1, &mut frames, now);
        assert!(output.queue().is_some_and(|queue| !queue.exceeds(10)));
    }

    #[test]
    fn only_progress_puts_the_stall_off() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut frames = FrameTable::default();
        let mut queue = OutputQueue::resume(b"abc".to_vec(), 0, start);
        assert_eq!(queue.stalls_at(10 * second), Some(start + 10 * second));
        queue.advance(0, &mut frames, start + second);
        assert_eq!(queue.stalls_at(10 * second), Some(start + 10 * second));
        queue.advance(1, &mut frames, start + 2 * second);
        assert_eq!(queue.stalls_at(10 * second), Some(start + 12 * second));
        assert_eq!(queue.stalls_at(Duration::ZERO), None);
    }
}
