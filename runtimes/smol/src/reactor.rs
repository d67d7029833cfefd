//! The waits of the tasks of one thread: for sockets, and for times.
//!
//! smol's own reactor serves all threads of a process. It has its own thread, locks, and registers interest again after
//! each event. A small host has one thread to wait in, and here it is the only one: a socket whose task waits for the
//! same again costs no system call, and a connection one small entry of a table.
//!
//! Only the events that a task waits for are registered ([`Watched::ready`]), and epoll reports them as long as they hold. A
//! socket without a waiting task is not reported.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use slab::Slab;

/// Waits for all that the tasks of its thread wait for.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    sources: RefCell<Slab<Source>>,
    /// By their time, and by a number where that is the same.
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_timer: Cell<u64>,
    thread_waker: Arc<ThreadWaker>,
    events: RefCell<Vec<Event>>,
}

/// A descriptor that is watched.
#[derive(Debug)]
struct Source {
    /// The task that waits for it.
    waker: Option<Waker>,
    /// The events that the kernel reports.
    watched: EventFlags,
    /// The events that it has reported.
    ready: EventFlags,
}

impl Reactor {
    /// Creates a reactor without descriptors and timers.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn new() -> io::Result<Rc<Reactor>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let thread_waker = ThreadWaker {
            state: AtomicU8::new(AWAKE),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        epoll::add(&epoll, &thread_waker.event, EventData::new_u64(WAKER_KEY), EventFlags::IN)?;
        Ok(Rc::new(Reactor {
            epoll,
            sources: RefCell::default(),
            timers: RefCell::default(),
            next_timer: Cell::new(0),
            thread_waker: Arc::new(thread_waker),
            events: RefCell::new(Vec::with_capacity(MOST_EVENTS)),
        }))
    }

    /// Runs a future to its end, and waits whenever it does.
    ///
    /// # Errors
    /// The kernel's, of which none is expected.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let waker = Waker::from(self.thread_waker.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Ok(value);
            }
            // If it was woken since, it only collects the events that have occurred.
            let patience =
                if self.thread_waker.begin_wait() { self.until_next() } else { Some(Duration::ZERO) };
            self.turn(patience)?;
        }
    }

    /// Waits until a time; without one, forever.
    pub(crate) async fn until(&self, at: impl Into<Option<Instant>>) {
        let Some(at) = at.into() else { return pending().await };
        let timer = ArmedTimer { reactor: self, key: (at, self.next_timer.get()) };
        self.next_timer.set(timer.key.1 + 1);
        poll_fn(|context| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().insert(timer.key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until the events that have occurred are collected, and wakes after the tasks that wait for them.
    pub(crate) async fn next_turn(&self) {
        let timer = ArmedTimer { reactor: self, key: (Instant::now(), self.next_timer.get()) };
        self.next_timer.set(timer.key.1 + 1);
        let mut is_armed = false;
        poll_fn(|context| {
            let mut timers = self.timers.borrow_mut();
            if is_armed && !timers.contains_key(&timer.key) {
                return Poll::Ready(());
            }
            is_armed = true;
            timers.insert(timer.key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The time until the next timer; `None` without timers.
    fn until_next(&self) -> Option<Duration> {
        let timers = self.timers.borrow();
        timers.first_key_value().map(|((at, _), _)| at.saturating_duration_since(Instant::now()))
    }

    /// Waits once, and wakes the tasks whose event has occurred or whose time has passed.
    fn turn(&self, patience: Option<Duration>) -> io::Result<()> {
        let mut events = self.events.borrow_mut();
        events.clear();
        // A time that does not fit means no timeout.
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref());
        self.thread_waker.end_wait();
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for Event { flags, data, .. } in events.iter().copied() {
            match data.u64() {
                WAKER_KEY => self.thread_waker.clear(),
                key => self.note(key, flags),
            }
        }
        self.fire();
        Ok(())
    }

    /// Records the events that were reported of a source.
    fn note(&self, key: u64, flags: EventFlags) {
        let waker = {
            let mut sources = self.sources.borrow_mut();
            let source = usize::try_from(key).ok().and_then(|key| sources.get_mut(key));
            let Some(source) = source else { return };
            // The next system call on the socket reports an end or an error.
            let ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let ready = if ended { EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP } else { flags };
            source.ready |= ready & source.watched;
            source.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn fire(&self) {
        loop {
            let due = {
                let mut timers = self.timers.borrow_mut();
                timers
                    .first_entry()
                    .filter(|first| first.key().0 <= Instant::now())
                    .map(|first| first.remove())
            };
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// Removes a timer when its future is dropped.
struct ArmedTimer<'r> {
    reactor: &'r Reactor,
    key: (Instant, u64),
}

impl Drop for ArmedTimer<'_> {
    fn drop(&mut self) {
        self.reactor.timers.borrow_mut().remove(&self.key);
    }
}

/// The events that a task waits for at a descriptor, or that have occurred.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// The peer has ended its side, or the connection broke. Only for a socket that is not read now; otherwise a read
    /// reports it.
    pub(crate) end: bool,
}

impl Readiness {
    /// To read alone.
    pub(crate) const READ: Readiness = Readiness { read: true, write: false, end: false };

    /// Neither.
    pub(crate) const NONE: Readiness = Readiness { read: false, write: false, end: false };

    fn flags(self) -> EventFlags {
        match self {
            // The kernel reports the end of a connection in any case; like this it reports it once.
            Readiness { read: false, write: false, end: false } => EventFlags::ET,
            Readiness { read: true, write: false, end: _ } => EventFlags::IN,
            Readiness { read: true, write: true, end: _ } => EventFlags::IN | EventFlags::OUT,
            Readiness { read: false, write: true, end: false } => EventFlags::OUT,
            Readiness { read: false, write: true, end: true } => EventFlags::OUT | EventFlags::RDHUP,
            Readiness { read: false, write: false, end: true } => EventFlags::RDHUP,
        }
    }
}

/// A descriptor that does not block, and the reactor that watches it until this is dropped.
pub(crate) struct Watched<T: AsFd> {
    inner: T,
    key: usize,
    reactor: Rc<Reactor>,
}

impl<T: AsFd> Watched<T> {
    /// Has it watched.
    ///
    /// # Errors
    /// The kernel cannot watch it.
    pub(crate) fn new(reactor: &Rc<Reactor>, inner: T) -> io::Result<Watched<T>> {
        let watched = Readiness::READ.flags();
        let source = Source { waker: None, watched, ready: EventFlags::empty() };
        let key = reactor.sources.borrow_mut().insert(source);
        if let Err(error) = epoll::add(&reactor.epoll, &inner, EventData::new_u64(key as u64), watched) {
            reactor.sources.borrow_mut().remove(key);
            return Err(error.into());
        }
        Ok(Watched { inner, key, reactor: reactor.clone() })
    }

    /// Returns the watched descriptor.
    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Whether the last wait was, or still is, for these events.
    pub(crate) fn is_watched_for(&self, wanted: Readiness) -> bool {
        self.reactor.sources.borrow().get(self.key).is_some_and(|source| source.watched == wanted.flags())
    }

    /// Waits until some of it is possible, and says which. One task at a time.
    ///
    /// # Errors
    /// The kernel cannot watch it any more.
    pub(crate) async fn ready(&self, wanted: Readiness) -> io::Result<Readiness> {
        let mut has_asked = false;
        poll_fn(|context| self.poll_ready(wanted, &mut has_asked, context)).await
    }

    /// The same as [`ready`](Watched::ready), for a future that is written by hand. `has_asked` is whether this wait has been
    /// polled before.
    ///
    /// # Errors
    /// The kernel cannot watch it any more.
    pub(crate) fn poll_ready(
        &self,
        wanted: Readiness,
        has_asked: &mut bool,
        context: &Context<'_>,
    ) -> Poll<io::Result<Readiness>> {
        let mut sources = self.reactor.sources.borrow_mut();
        // It is there as long as this is.
        let Some(source) = sources.get_mut(self.key) else { return Poll::Pending };
        // What was reported to an earlier wait may be over, and is reported again if it is not.
        let ready = mem::replace(&mut source.ready, EventFlags::empty());
        if *has_asked && !ready.is_empty() {
            return Poll::Ready(Ok(Readiness {
                read: ready.contains(EventFlags::IN),
                write: ready.contains(EventFlags::OUT),
                end: ready.contains(EventFlags::RDHUP),
            }));
        }
        *has_asked = true;
        let flags = wanted.flags();
        if source.watched != flags {
            epoll::modify(&self.reactor.epoll, &self.inner, EventData::new_u64(self.key as u64), flags)?;
            source.watched = flags;
        }
        match &mut source.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T: AsFd> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        // Not left to its closing: another process may have it open still.
        let _ = epoll::delete(&self.reactor.epoll, &self.inner);
        let source = self.reactor.sources.borrow_mut().try_remove(self.key);
        drop(source);
    }
}

/// Wakes the thread, from any thread.
struct ThreadWaker {
    state: AtomicU8,
    /// The eventfd that wakes the reactor.
    event: OwnedFd,
}

impl ThreadWaker {
    /// Records that the thread is about to wait. False if it was woken since it last woke up, and so may not.
    fn begin_wait(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends the wait: earlier wake-ups are covered, because the future is polled next.
    fn end_wait(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    fn clear(&self) {
        // It is not blocking, and empty afterwards either way.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<ThreadWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<ThreadWaker>) {
        // Mostly its own tasks wake it, and then it does not sleep.
        if self.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            // It fails only if it is notified already.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

/// The key of the waker's descriptor. No table has 2^64 entries.
const WAKER_KEY: u64 = u64::MAX;

/// Events taken at once. The rest is taken by the next wait.
const MOST_EVENTS: usize = 256;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use smol::LocalExecutor;
    use smol::future::FutureExt;

    use super::*;

    const BOTH: Readiness = Readiness { read: true, write: true, end: false };
    const NEITHER: Readiness = Readiness { read: false, write: false, end: false };
    const WRITE: Readiness = Readiness { read: false, write: true, end: false };

    fn pair(reactor: &Rc<Reactor>) -> (Watched<UnixStream>, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        (Watched::new(reactor, here).unwrap(), there)
    }

    /// Returns the events that are reported now, which may be none.
    fn look(reactor: &Reactor, watched: &Watched<UnixStream>, wanted: Readiness) -> Readiness {
        let ready = async { watched.ready(wanted).await.unwrap() };
        let nothing = async {
            reactor.until(Instant::now() + Duration::from_millis(20)).await;
            Readiness::default()
        };
        reactor.block_on(ready.or(nothing)).unwrap()
    }

    #[test]
    fn what_is_possible_is_reported_for_as_long_as_it_is() {
        let reactor = Reactor::new().unwrap();
        let (here, mut there) = pair(&reactor);
        assert_eq!(look(&reactor, &here, Readiness::READ), NEITHER);
        assert_eq!(look(&reactor, &here, BOTH), WRITE);
        there.write_all(b"ab").unwrap();
        for _ in 0..3 {
            assert_eq!(look(&reactor, &here, Readiness::READ), Readiness::READ);
            assert_eq!(look(&reactor, &here, BOTH), BOTH);
            assert_eq!(look(&reactor, &here, WRITE), WRITE);
        }
        assert_eq!(here.get_ref().read(&mut [0; 8]).unwrap(), 2);
        assert_eq!(look(&reactor, &here, Readiness::READ), NEITHER);
    }

    #[test]
    fn an_end_is_reported_to_whoever_waits_and_to_nobody_else() {
        let reactor = Reactor::new().unwrap();
        let (here, there) = pair(&reactor);
        drop(there);
        assert_eq!(look(&reactor, &here, WRITE), WRITE);
        assert_eq!(look(&reactor, &here, Readiness::READ), Readiness::READ);
        let before = Instant::now();
        assert_eq!(look(&reactor, &here, NEITHER), NEITHER);
        assert!(before.elapsed() >= Duration::from_millis(20), "no task is woken for it");
    }

    #[test]
    fn the_end_of_the_peers_side_is_reported_to_a_task_that_does_not_read() {
        const END: Readiness = Readiness { read: false, write: false, end: true };
        let reactor = Reactor::new().unwrap();
        let (here, mut there) = pair(&reactor);
        there.write_all(b"x").unwrap();
        assert_eq!(look(&reactor, &here, END), NEITHER, "bytes are not the end");
        there.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(look(&reactor, &here, END), END);
        drop(there);
        assert_eq!(look(&reactor, &here, END), END);
    }

    #[test]
    fn tasks_wake_each_other_and_are_woken_by_other_threads() {
        let reactor = Reactor::new().unwrap();
        let executor = LocalExecutor::new();
        let (sender, receiver) = smol::channel::bounded(1);
        let (to, from) = smol::channel::bounded(1);
        executor
            .spawn(async move {
                let number: u32 = receiver.recv().await.unwrap();
                to.send(number + 1).await.unwrap();
            })
            .detach();
        let other = thread::spawn(move || {
            // Long enough for the reactor to wait, mostly. If it does not yet, this has to work as well.
            thread::sleep(Duration::from_millis(20));
            sender.send_blocking(41).unwrap();
        });
        let number = reactor.block_on(executor.run(async { from.recv().await.unwrap() })).unwrap();
        assert_eq!(number, 42);
        other.join().unwrap();
    }

    #[test]
    fn times_come_in_their_order_and_are_forgotten_with_who_waits() {
        let reactor = Reactor::new().unwrap();
        let start = Instant::now();
        let [late, soon] = [40, 10].map(|millis| start + Duration::from_millis(millis));
        let first = reactor
            .block_on(
                async {
                    reactor.until(late).await;
                    "late"
                }
                .or(async {
                    reactor.until(soon).await;
                    "soon"
                }),
            )
            .unwrap();
        assert_eq!(first, "soon");
        assert!(Instant::now() >= soon);
        assert_eq!(reactor.until_next(), None, "a dropped timer is removed");
    }

    #[test]
    fn nothing_is_left_of_what_is_not_watched_any_more() {
        let reactor = Reactor::new().unwrap();
        let (here, mut there) = pair(&reactor);
        let copy = here.get_ref().try_clone().unwrap();
        drop(here);
        assert!(reactor.sources.borrow().is_empty());
        there.write_all(b"x").unwrap();
        // The same socket through another descriptor: the entry belongs to the new one.
        let copy = Watched::new(&reactor, copy).unwrap();
        assert_eq!(look(&reactor, &copy, Readiness::READ), Readiness::READ);
        assert_eq!(reactor.sources.borrow().len(), 1);
    }
}
