// The connection: the WebSocket that the SDK opens, with a switch that simulates a network failure.

import { token } from './session.js';

let isCut = false;

/** The class for the option `websocket` of the SDK. A page cannot set headers, so the token is a subprotocol. */
export class Line extends WebSocket {
  constructor(url) {
    // While the line is cut, no attempt reaches the server.
    if (isCut) return unreachable();
    super(url, ['bearer', token()]);
  }
}

/** Cuts the line, as a browser that loses its network does, and restores it after a time in milliseconds. */
export async function cut(time) {
  isCut = true;
  window.dispatchEvent(new Event('offline'));
  await new Promise((resolve) => setTimeout(resolve, time));
  isCut = false;
  window.dispatchEvent(new Event('online'));
}

/** Returns a socket that is closed at once, without a Close frame. */
function unreachable() {
  const socket = { close() {}, send() {} };
  setTimeout(() => socket.onclose?.({ code: 1006, reason: '' }), 100);
  return socket;
}
