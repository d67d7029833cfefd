//! fastwebsockets on tokio. It writes each frame at once, so a `Gather` is between it and the socket; its read buffer
//! has a fixed size.

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use peers::{Gather, MAX_MESSAGE};
use tokio::net::TcpStream;

fn main() {
    let (port, _) = peers::arguments();
    peers::serve(port, connection);
}

async fn connection(mut stream: TcpStream) -> Result<(), WebSocketError> {
    peers::upgrade(&mut stream).await?;
    let mut socket = WebSocket::after_handshake(Gather::new(stream), Role::Server);
    socket.set_max_message_size(MAX_MESSAGE);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Close => return Ok(()),
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}
