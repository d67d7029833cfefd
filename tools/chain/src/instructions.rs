//! The commands that are printed once the chain runs.

use std::net::SocketAddr;
use std::path::Path;

use crate::example::Example;
use crate::{Failure, provision};

/// Returns the text for an example. `amqp` is the URL of RabbitMQ, if it runs.
pub(crate) fn of_example(
    example: Example,
    gateway: SocketAddr,
    amqp: Option<&str>,
) -> Result<String, Failure> {
    let port = gateway.port();
    let mut text = format!(
        "
The example is ready. Open http://localhost:{port}/example/ in several tabs, and log in as another user in each.
Its files are in {}; reload the page after a change.
",
        example.folder().display()
    );
    if let (Example::Auction, Some(url)) = (example, amqp) {
        text += &format!(
            "
  # Bid by RabbitMQ:
  AMQP_URL='{url}' PYTHONPATH='{}' python3 '{}' --bid 500
",
            provision::pika()?.display(),
            example.folder().join("house.py").display(),
        );
    }
    Ok(text)
}

/// Returns the commands for a chain whose gateway listens on `gateway`. `websockets` is a folder for `PYTHONPATH`.
///
/// Each command is one line, so that a copied line is a whole command. `tests/tests/chain.rs` runs them.
pub(crate) fn text(gateway: SocketAddr, websockets: &Path) -> String {
    let port = gateway.port();
    let websockets = websockets.display();
    format!(
        r#"
Everything is ready. Open http://localhost:{port}/ in a browser: the page logs in, connects and sends messages.

Or run these commands in another terminal:

  # Log in. There are john@example.com, ann@example.com and rene@example.com, all with password123.
  TOKEN=$(curl -s http://{gateway}/identity/login -H 'Content-Type: application/json' -d '{{"email":"john@example.com","password":"password123"}}' | sed 's/.*"accessToken":"\([^"]*\)".*/\1/')

  # Upgrade. The answer is 101, and the connection stays open until Ctrl-C.
  curl -i -N -H "Connection: Upgrade" -H "Upgrade: websocket" -H "Sec-WebSocket-Version: 13" -H "Sec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==" -H "Authorization: Bearer $TOKEN" http://{gateway}/ws

  # Send messages: Postern sends each line back. Ctrl-D ends it.
  PYTHONPATH='{websockets}' python3 -m websockets "ws://{gateway}/ws?token=$TOKEN"

  # Log in for 20 s, and connect: the connection is closed up to 35 s after that, unless a newer token refreshes it, every 15 s.
  TOKEN=$(curl -s http://{gateway}/identity/login -H 'Content-Type: application/json' -d '{{"email":"john@example.com","password":"password123","ttl":20}}' | sed 's/.*"accessToken":"\([^"]*\)".*/\1/')
  TOKEN=$(curl -s -X POST http://{gateway}/identity/refresh -H "Authorization: Bearer $TOKEN" | sed 's/.*"accessToken":"\([^"]*\)".*/\1/'); curl -i -X POST http://{gateway}/ws/refresh -H "Authorization: Bearer $TOKEN"

  # Log out: the connections of the session are closed at once, with 4403.
  curl -i -X POST http://{gateway}/identity/logout -H "Authorization: Bearer $TOKEN"

Or paste these lines into the console of that page:

  // Log in. The answer also sets a cookie, which the browser sends with every handshake.
  var {{ accessToken }} = await (await fetch('/identity/login', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, body: JSON.stringify({{ email: 'john@example.com', password: 'password123' }}) }})).json();

  // With the cookie:
  var ws = new WebSocket(`ws://${{location.host}}/ws`); ws.onmessage = (event) => console.log('Received:', event.data); ws.onopen = () => ws.send('Hello World');

  // With the token as a subprotocol:
  var ws = new WebSocket(`ws://${{location.host}}/ws`, ['bearer', accessToken]); ws.onmessage = (event) => console.log('Received:', event.data); ws.onopen = () => ws.send('Hello World');

Ctrl-C ends everything.

"#
    )
}
