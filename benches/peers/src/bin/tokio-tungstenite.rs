//! tokio-tungstenite. Its write buffer has the default size of 128 KiB and is flushed when no more messages are
//! available. Its read buffer is filled with zeros before each read, so it is as small as the messages allow.

use peers::MAX_MESSAGE;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

fn main() {
    let (port, message) = peers::arguments();
    // One frame, unless filling that much memory takes too long.
    let read_buffer = (message + 16).clamp(4 << 10, 64 << 10);
    peers::serve(port, move |stream| connection(stream, read_buffer));
}

async fn connection(stream: TcpStream, read_buffer: usize) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    peers::echo(socket, |message| matches!(message, Message::Text(_) | Message::Binary(_))).await
}
