//! wtx on tokio. It writes each frame at once, so a `Gather` is between it and the socket.

use std::io::IoSlice;

use peers::Gather;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wtx::collection::Vector;
use wtx::rng::{Xorshift64, simple_seed};
use wtx::stream::{StreamReader, StreamWriter};
use wtx::web_socket::{OpCode, WebSocketBuffer, WebSocketOwned, WebSocketPayloadOrigin};

fn main() {
    let (port, message) = peers::arguments();
    let read_buffer = if message <= 1024 { 4 << 10 } else { 128 << 10 };
    peers::serve(port, move |stream| connection(stream, read_buffer));
}

async fn connection(mut stream: TcpStream, read_buffer: usize) -> wtx::Result<()> {
    peers::upgrade(&mut stream).await?;
    let buffer = WebSocketBuffer::with_capacity(read_buffer, 0, 0)?;
    let random = Xorshift64::from(simple_seed());
    let mut socket =
        WebSocketOwned::<(), _, _, false>::new((), false, random, Socket(Gather::new(stream)), buffer);
    let (mut common, mut reader, mut writer) = socket.split_mut();
    let mut fragments = Vector::new();
    loop {
        let mut frame =
            reader.read_frame(&mut fragments, &mut common, WebSocketPayloadOrigin::Adaptive).await?;
        match frame.op_code() {
            OpCode::Text | OpCode::Binary => writer.write_frame(&mut common, &mut frame).await?,
            OpCode::Close => return Ok(()),
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

struct Socket(Gather);

impl StreamReader for Socket {
    async fn read(&mut self, bytes: &mut [u8]) -> wtx::Result<usize> {
        Ok(self.0.read(bytes).await?)
    }
}

impl StreamWriter for Socket {
    async fn write_all(&mut self, bytes: &[u8]) -> wtx::Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn write_all_vectored(&mut self, parts: &[&[u8]]) -> wtx::Result<()> {
        let mut slices = [IoSlice::new(&[]); 8];
        parts.iter().zip(&mut slices).for_each(|(part, slice)| *slice = IoSlice::new(part));
        let mut left = &mut slices[..parts.len()];
        while !left.is_empty() {
            let n = self.0.write_vectored(left).await?;
            IoSlice::advance_slices(&mut left, n);
        }
        Ok(())
    }
}
