//! Sends lines to a channel, and prints what is published there.
//!
//! `cargo run -p postern-client --example chat -- ws://localhost:8000/connection/websocket 123 [CHANNEL]`

use std::env;
use std::error::Error;
use std::io;

use postern_client::{Client, Config, Event, Events, SubscribeOptions};
use smol::Unblock;
use smol::io::{AsyncBufReadExt, BufReader};
use smol::stream::StreamExt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(url), Some(user)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat URL USER [CHANNEL]".into());
    };
    let channel = arguments.next().unwrap_or_else(|| "chat".into());
    // In production, the gateway adds this header.
    let (client, events, driver) = Config::new(url).header("User-ID", user).build()?;
    smol::spawn(driver.run()).detach();
    smol::block_on(async {
        let options = SubscribeOptions { recoverable: true, ..SubscribeOptions::default() };
        client.subscribe(&channel, options).await?;
        smol::future::try_zip(send(&client, &channel), print(events)).await?;
        Ok(())
    })
}

async fn send(client: &Client, channel: &str) -> Result<(), Box<dyn Error>> {
    let mut lines = BufReader::new(Unblock::new(io::stdin())).lines();
    while let Some(line) = lines.next().await {
        if let Err(error) = client.publish(channel, &line?).await {
            eprintln!("not sent: {error}");
        }
    }
    client.disconnect().await?;
    Ok(())
}

async fn print(mut events: Events) -> Result<(), Box<dyn Error>> {
    while let Some(event) = events.next().await {
        if let Event::Publication { channel, publication } = event {
            let user = publication.info.map_or_else(|| "a backend".into(), |info| info.user);
            println!("{channel}, {user}: {}", publication.data);
        } else if let Event::Disconnected { code, reason } = event {
            return if code == 0 { Ok(()) } else { Err(format!("{reason} (code {code})").into()) };
        } else {
            println!("{event:?}");
        }
    }
    Ok(())
}
