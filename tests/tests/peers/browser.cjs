// The WebSocket of browsers in Node: it fails a connection if it offered subprotocols and none of them was answered (WHATWG
// WebSockets). Arguments: the URL, then a JSON array of the subprotocols. Run with --experimental-websocket.
// Prints `open PROTOCOL` after an echo, or `failed`.
'use strict';

const [, , url, protocols] = process.argv;
const socket = new WebSocket(url, JSON.parse(protocols));
let told = false;
const tell = (text) => {
  if (!told) {
    told = true;
    console.log(text);
  }
};
socket.addEventListener('open', () => socket.send('hello'));
socket.addEventListener('message', (event) => {
  tell(event.data === 'hello' ? `open ${socket.protocol}` : `wrong ${event.data}`);
  socket.close(1000);
});
socket.addEventListener('error', () => tell('failed'));
socket.addEventListener('close', () => tell('failed'));
