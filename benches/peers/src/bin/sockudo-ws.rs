//! sockudo-ws on tokio. It uses `Protocol` instead of the stream, so the answers to all messages of a read are sent
//! at once, long ones without a copy, and the size of the read buffer can be set.

use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use peers::MAX_MESSAGE;
use sockudo_ws::frame::encode_frame_header;
use sockudo_ws::protocol::Protocol;
use sockudo_ws::{Error, Message, OpCode, Result, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Payloads of at least this number of bytes are not copied.
const LARGE: usize = 16 << 10;

fn main() {
    let (port, message) = peers::arguments();
    let read_buffer = if message <= 1024 { 4 << 10 } else { 128 << 10 };
    peers::serve(port, move |stream| connection(stream, read_buffer));
}

async fn connection(mut stream: TcpStream, read_buffer: usize) -> Result<()> {
    peers::upgrade(&mut stream).await?;
    let mut protocol = Protocol::new(Role::Server, MAX_MESSAGE, MAX_MESSAGE);
    let (mut input, mut out) = (BytesMut::with_capacity(read_buffer), BytesMut::new());
    let mut messages = Vec::new();
    loop {
        if input.capacity() - input.len() < read_buffer / 2 {
            input.reserve(read_buffer);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        protocol.process_into(&mut input, &mut messages)?;
        for message in messages.drain(..) {
            match &message {
                Message::Text(payload) | Message::Binary(payload) if payload.len() >= LARGE => {
                    let kind = if message.is_text() { OpCode::Text } else { OpCode::Binary };
                    encode_frame_header(&mut out, kind, payload.len(), true, None);
                    write_both(&mut stream, &mut out, payload).await?;
                }
                Message::Text(_) | Message::Binary(_) => protocol.encode_message(&message, &mut out)?,
                Message::Ping(payload) => protocol.encode_pong(payload, &mut out),
                Message::Pong(_) => {}
                Message::Close(_) => return Err(Error::ConnectionClosed),
            }
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}

async fn write_both(stream: &mut TcpStream, out: &mut BytesMut, mut payload: &[u8]) -> io::Result<()> {
    while !out.is_empty() || !payload.is_empty() {
        let n = stream.write_vectored(&[IoSlice::new(out), IoSlice::new(payload)]).await?;
        payload = &payload[n.saturating_sub(out.len())..];
        out.advance(n.min(out.len()));
    }
    Ok(())
}
