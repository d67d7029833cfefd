// A refused connection with the Node package `ws`: it opens, and is closed.
//
// Arguments: the URL, and a JSON object of further headers. Prints the code and the reason of the Close frame.

const { once } = require('node:events');
const WebSocket = require('ws');

const [url, headers] = [process.argv[2], JSON.parse(process.argv[3])];

async function visit() {
  // Like a browser, it fails the connection if none of its subprotocols is selected.
  const socket = new WebSocket(url, ['bearer', 'a.b.c'], { headers, handshakeTimeout: 10_000 });
  const closed = once(socket, 'close');
  await once(socket, 'open');
  const [code, reason] = await closed;
  console.log(`${code} ${reason}`);
}

visit().catch((error) => {
  console.error(error);
  process.exit(1);
});
