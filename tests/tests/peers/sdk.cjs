// The JavaScript SDK in Node, with the package `ws`.
//
// Arguments: the URL, `json` or `protobuf`, the number of publications that will be missed, and the Cookie header of each
// client. Prints `connected` when the clients may lose their connections, then what they have seen, as JSON.

const WebSocket = require('ws');
require('./sdk.js');

const [url, build, missed, ...cookies] = process.argv.slice(2);
const isBinary = build === 'protobuf';
const { Centrifuge } = require(isBinary ? 'centrifuge/build/protobuf' : 'centrifuge');

async function visit() {
  const clients = cookies.map((cookie) => {
    // The SDK passes no headers.
    class WithCookie extends WebSocket {
      constructor(address, protocols) {
        super(address, protocols, { headers: { cookie } });
      }
    }
    return new Centrifuge(url, { websocket: WithCookie, minReconnectDelay: 100, maxReconnectDelay: 500 });
  });
  const conversation = await converse(clients, isBinary);
  console.log('connected');
  console.log(JSON.stringify(await conversation.recover(Number(missed))));
}

visit().catch((error) => {
  console.error(error);
  process.exit(1);
});
