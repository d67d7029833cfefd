//! Sends lines to `echo`, and prints the answers.
//!
//! `cargo run -p postern-client --example echo -- ws://localhost:8000/ws 123`

use std::env;
use std::error::Error;
use std::io;

use postern_client::plain::{Config, Event, Message};
use smol::Unblock;
use smol::io::{AsyncBufReadExt, BufReader};
use smol::stream::StreamExt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(url), Some(user)) = (arguments.next(), arguments.next()) else {
        return Err("usage: echo URL USER".into());
    };
    // In production, the gateway adds this header.
    let (client, mut events, driver) = Config::new(url).header("User-ID", user).build()?;
    smol::spawn(driver.run()).detach();
    smol::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Message(Message::Text(text)) = event {
                println!("{text}");
            } else {
                println!("{event:?}");
            }
        }
    })
    .detach();
    smol::block_on(async {
        let mut lines = BufReader::new(Unblock::new(io::stdin())).lines();
        while let Some(line) = lines.next().await {
            client.send(Message::Text(line?)).await.map_err(|_| "the connection is closed")?;
        }
        Ok(())
    })
}
