//! tokio-websockets. Whoever polls for a message sends what is queued, so a `Gather` is between it and the socket;
//! its read buffer has a fixed size.

use futures_util::{SinkExt, StreamExt};
use peers::{Gather, MAX_MESSAGE};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};

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
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_binary() || message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
