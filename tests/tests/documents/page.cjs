// Adds to Node a WebSocket that sends the origin of a page and the cookies that `fetch` has received. Runs the first file until
// its message has been echoed, and closes the connection like a browser that leaves the page. Then runs the second file, without
// cookies.
const { readFileSync } = require('node:fs');
const { once } = require('node:events');
const Ws = require('ws');

const cookies = new Map();
const sockets = [];

const fetchOfNode = globalThis.fetch;
globalThis.fetch = async (url, options) => {
  const response = await fetchOfNode(url, options);
  for (const line of response.headers.getSetCookie()) {
    const [name, value] = line.split(';')[0].split('=');
    cookies.set(name, value);
  }
  return response;
};

globalThis.WebSocket = class extends Ws {
  constructor(url, protocols = []) {
    const headers = { Origin: `http://${new URL(url).host}` };
    if (cookies.size > 0) {
      headers.Cookie = [...cookies].map((cookie) => cookie.join('=')).join('; ');
    }
    super(url, protocols, { headers });
    sockets.push(this);
  }
};

const Script = Object.getPrototypeOf(async () => {}).constructor;
const [withCookie, without] = process.argv.slice(2).map((path) => readFileSync(path, 'utf8'));
const script = new Script('page', `${withCookie}\nawait page.leave(ws);\n${without}\nreturn { bySubprotocol, byQuery };`);

const page = {
  async leave(ws) {
    await once(ws, 'message');
    ws.close(1000);
    await once(ws, 'close');
    cookies.clear();
  },
};

script(page)
  .then(async (others) => {
    for (const [name, ws] of Object.entries(others)) {
      if (ws.readyState !== Ws.OPEN) {
        await once(ws, 'open');
      }
      console.log(`${name}: open, ${ws.protocol}`);
    }
    others.bySubprotocol.close();
    others.byQuery.close();
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
