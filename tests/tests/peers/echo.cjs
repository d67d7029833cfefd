// A connection of John with the Node package `ws`.
//
// Arguments: the URL, and a JSON object of further headers. Prints `done` if all messages came back.

const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');

const [url, headers] = [process.argv[2], JSON.parse(process.argv[3])];

async function visit() {
  // By default this client offers permessage-deflate, and keeps it if the server agrees.
  const socket = new WebSocket(url, { headers, handshakeTimeout: 10_000 });
  await once(socket, 'open');

  for (const message of ['Hello World', 'Grüße, 你好', '', Buffer.from([0, 1, 0xfe, 0xff]), Buffer.alloc(60_000, 'x')]) {
    socket.send(message);
    const [data, isBinary] = await once(socket, 'message');
    assert.strictEqual(isBinary, Buffer.isBuffer(message));
    assert.deepStrictEqual(data, Buffer.from(message));
  }

  // Three frames of one message, with a ping between them.
  socket.send('one ', { fin: false });
  socket.ping('still there?');
  socket.send('two ', { fin: false });
  socket.send('three', { fin: true });
  const [[pong], [data]] = await Promise.all([once(socket, 'pong'), once(socket, 'message')]);
  assert.strictEqual(pong.toString(), 'still there?');
  assert.strictEqual(data.toString(), 'one two three');

  socket.close(1000);
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 1000);
  console.log('done');
}

visit().catch((error) => {
  console.error(error);
  process.exit(1);
});
