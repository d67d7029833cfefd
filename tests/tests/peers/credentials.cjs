// The JavaScript SDK in Node, with tokens that expire.
//
// Arguments: the URL, the address of the Identity service, and the token of a user. With `getToken`, a client asks Identity for a newer token;
// without, it is closed when the token of the gateway has expired, and connects again. Prints `true` if both are connected in the end.

const WebSocket = require('ws');
const { Centrifuge } = require('centrifuge');

const [url, identity, first] = process.argv.slice(2);

async function newer() {
  // The SDK asks when the token has expired, so it cannot be refreshed any more.
  const answer = await fetch(`http://${identity}/identity/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email: 'john@example.com', password: 'password123', ttl: 5 }),
  });
  return (await answer.json()).accessToken;
}

// The gateway sends the identity, and the expiry of the token that the user has at this moment.
class ThroughGateway extends WebSocket {
  constructor(address, protocols) {
    const exp = Math.floor(Date.now() / 1000) + 3;
    super(address, protocols, { headers: { 'user-id': '123', 'user-token-exp': String(exp) } });
  }
}

function client(options) {
  const seen = { codes: [], connections: 0 };
  const client = new Centrifuge(url, { websocket: ThroughGateway, minReconnectDelay: 100, maxReconnectDelay: 300, ...options });
  client.on('connecting', ({ code }) => seen.codes.push(code));
  client.on('connected', () => (seen.connections += 1));
  client.on('disconnected', ({ code }) => seen.codes.push(-code));
  client.connect();
  return [client, seen];
}

const [kept, withToken] = client({ token: first, getToken: newer });
const [returning, without] = client({});
setTimeout(() => {
  const isKept = kept.state === 'connected' && withToken.connections === 1;
  // 0: the first connection; 3005: the token has expired.
  const hasReturned =
    returning.state === 'connected' && without.connections > 1 && without.codes.slice(1).every((code) => code === 3005);
  console.error(JSON.stringify({ withToken, without }));
  console.log(isKept && hasReturned);
  process.exit(0);
}, 11_000);
