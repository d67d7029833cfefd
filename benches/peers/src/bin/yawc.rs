//! yawc on tokio, with UTF-8 checked as in all others.

use futures_util::StreamExt;
use peers::MAX_MESSAGE;
use tokio::net::TcpStream;
use yawc::{OpCode, Options, Result, Role, WebSocket};

fn main() {
    let (port, message) = peers::arguments();
    let read_buffer = if message <= 1024 { 4 << 10 } else { 32 << 10 };
    peers::serve(port, move |stream| connection(stream, read_buffer));
}

async fn connection(mut stream: TcpStream, read_buffer: usize) -> Result<()> {
    peers::upgrade(&mut stream).await?;
    let options = Options::default()
        .without_compression()
        .with_utf8()
        .with_limits(MAX_MESSAGE, 2 * MAX_MESSAGE)
        .with_read_buffer_capacity(read_buffer)
        .with_backpressure_boundary(64 << 10);
    let socket = WebSocket::from_stream(stream, Role::Server, options)?;
    peers::echo(socket.map(Ok), |frame| matches!(frame.opcode(), OpCode::Text | OpCode::Binary)).await
}
