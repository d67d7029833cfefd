//! Runs the tasks of the client library on the thread of the source.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor};
use async_rs::util::{RuntimeParts, Task, TaskImpl};
use async_rs::{AsyncIO, Runtime};
use smol::io::{AsyncRead, AsyncWrite};

use crate::tls::Stream;

/// Everything that the client library needs to run.
pub(super) type SourceRuntime = Runtime<RuntimeParts<SourceExecutor, SourceReactor>>;

/// The executor that the thread of the source runs. Otherwise the library would start a global one, with its own thread.
#[derive(Clone, Default)]
pub(super) struct SourceExecutor(Arc<smol::Executor<'static>>);

impl SourceExecutor {
    /// Returns the runtime whose tasks this executor runs.
    pub(super) fn runtime(&self) -> SourceRuntime {
        Runtime::new(RuntimeParts::new(self.clone(), SourceReactor))
    }

    /// Runs `future` and the tasks, until `future` is complete.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        smol::block_on(self.0.run(future))
    }
}

impl Executor for SourceExecutor {
    type Task<T: Send + 'static> = SourceTask<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        smol::block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<SourceTask<T>> {
        SourceTask(Some(self.0.spawn(future))).into()
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        function: F,
    ) -> Task<SourceTask<T>> {
        SourceTask(Some(smol::unblock(function))).into()
    }
}

impl fmt::Debug for SourceExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceExecutor")
    }
}

/// The reactor of smol, with connections that may be by TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceReactor;

impl Reactor for SourceReactor {
    type TcpStream = Stream;
    type Sleep = smol::Timer;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        AsyncIO.register(socket)
    }

    fn sleep(&self, time: Duration) -> smol::Timer {
        AsyncIO.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl smol::stream::Stream<Item = Instant> + Send + 'static {
        AsyncIO.interval(time)
    }

    #[expect(clippy::manual_async_fn, reason = "the future must not borrow the reactor")]
    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Stream>> + Send + 'static {
        async move {
            let socket = smol::net::TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Stream::Plain(socket))
        }
    }
}

/// A task of the executor. It continues when this is dropped. `None`: nothing waits for it.
pub(super) struct SourceTask<T>(Option<smol::Task<T>>);

impl<T: Send + 'static> TaskImpl for SourceTask<T> {
    fn detach(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> Future for SourceTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Some(task) => Pin::new(task).poll(context),
            None => Poll::Pending,
        }
    }
}
