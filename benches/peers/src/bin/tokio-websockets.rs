//! tokio-websockets. It sends queued frames when the next message is requested, so all available messages are
//! received before their echoes are queued. It sends up to 32 frames at once, so a `Gather` is between it and the
//! socket. Its read buffer has a fixed size.

use std::future::poll_fn;
use std::task::{Poll, ready};

use futures_util::{SinkExt, StreamExt};
use peers::{Gather, MAX_MESSAGE};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};

/// The largest number of messages that are received before their echoes are queued.
const MOST: usize = 256;

fn main() {
    let (port, _) = peers::arguments();
    peers::serve(port, connection);
}

async fn connection(stream: TcpStream) -> Result<(), Error> {
    let (_, mut socket) = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::default().max_payload_len(Some(MAX_MESSAGE)))
        .accept(Gather::new(stream))
        .await?;
    let (mut kept, mut is_flushed) = (Vec::new(), true);
    poll_fn(move |cx| {
        loop {
            let mut is_more = true;
            while is_more && kept.len() < MOST {
                match socket.poll_next_unpin(cx)? {
                    Poll::Ready(Some(message)) if message.is_binary() || message.is_text() => {
                        kept.push(message);
                    }
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => is_more = false,
                }
            }
            for message in kept.drain(..) {
                socket.start_send_unpin(message)?;
                is_flushed = false;
            }
            if !is_flushed {
                ready!(socket.poll_flush_unpin(cx))?;
                is_flushed = true;
            }
            if !is_more {
                return Poll::Pending;
            }
        }
    })
    .await
}
