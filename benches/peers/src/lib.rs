//! The shared parts of the peers: their arguments, the answer to an upgrade, a socket that collects writes, and the
//! loop for libraries with a stream and a sink.

use std::env;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The largest message of all peers that have a limit.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Writes of at least this number of bytes are not copied to be sent together with others.
const LARGE: usize = 16 << 10;

/// Parses `PORT [MESSAGE]`: the port to listen on, and the size of the messages, for peers that can be tuned for a
/// size.
pub fn arguments() -> (SocketAddr, usize) {
    let mut numbers = env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let port = numbers.next().expect("usage: PORT [MESSAGE]") as u16;
    (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), numbers.next().unwrap_or(0))
}

/// Returns the length of the head of a request and the 101, if the head is complete.
pub fn answer(request: &[u8]) -> Option<(usize, String)> {
    let len = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&request[..len]).expect("a request in ASCII");
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, key) = headers.find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Key")).expect("a key");
    let accept = derive_accept_key(key.trim().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((len, answer))
}

/// Serves connections on one thread of tokio.
pub fn serve<F: Future + Send + 'static>(port: SocketAddr, connection: impl Fn(TcpStream) -> F)
where
    F::Output: Send,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = TcpListener::bind(port).await.expect("the port");
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            tokio::spawn(tokio::task::unconstrained(connection(stream)));
        }
    });
}

/// Answers an upgrade for a library without a handshake. The client sends no more bytes before it has received the
/// answer.
pub async fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((_, answer)) = answer(&request) {
            return stream.write_all(answer.as_bytes()).await;
        }
    }
}

/// Echoes all messages for which `is_data` returns true. Passes each echo to the sink at once, and flushes when no
/// more messages are available.
pub async fn echo<M, E>(
    mut socket: impl Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    is_data: impl Fn(&M) -> bool,
) -> Result<(), E> {
    let mut is_flushed = true;
    poll_fn(move |cx| {
        loop {
            ready!(socket.poll_ready_unpin(cx))?;
            match socket.poll_next_unpin(cx)? {
                Poll::Ready(Some(message)) if is_data(&message) => {
                    socket.start_send_unpin(message)?;
                    is_flushed = false;
                }
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    if !is_flushed {
                        ready!(socket.poll_flush_unpin(cx))?;
                        is_flushed = true;
                    }
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// A socket for libraries that write each frame at once. It buffers their writes, and sends them before a read or a
/// flush.
pub struct Gather {
    stream: TcpStream,
    kept: Vec<u8>,
    sent: usize,
}

impl Gather {
    pub fn new(stream: TcpStream) -> Gather {
        Gather { stream, kept: Vec::new(), sent: 0 }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            self.sent += ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept[self.sent..]))?;
        }
        self.kept.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gather {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Gather {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = parts.iter().map(|part| part.len()).sum();
        if len >= LARGE || self.kept.len() + len > 4 * LARGE {
            ready!(self.poll_send(cx))?;
        }
        if len >= LARGE {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        }
        parts.iter().for_each(|part| self.kept.extend_from_slice(part));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
