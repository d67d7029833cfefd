//! async-tungstenite on smol, with the buffers of tokio-tungstenite.

use std::net::SocketAddr;

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{Error, Message};
use peers::MAX_MESSAGE;
use smol::LocalExecutor;
use smol::net::{TcpListener, TcpStream};

fn main() {
    let (port, message) = peers::arguments();
    let read_buffer = (message + 16).clamp(4 << 10, 64 << 10);
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(accept(&executor, port, read_buffer)));
}

async fn accept(executor: &LocalExecutor<'_>, port: SocketAddr, read_buffer: usize) {
    let listener = TcpListener::bind(port).await.expect("the port");
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        executor.spawn(connection(stream, read_buffer)).detach();
    }
}

async fn connection(stream: TcpStream, read_buffer: usize) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = async_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    peers::echo(socket, |message| matches!(message, Message::Text(_) | Message::Binary(_))).await
}
