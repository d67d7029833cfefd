"""The Python SDK with tokens that expire, through a gateway with the identity in headers.

Arguments: the address of the gateway. With `get_token`, a client asks Identity for newer connection tokens; without, it is closed
when the token of the gateway has expired, logs in again, and connects again. Prints `ok` if both are connected after ten seconds.
"""

import asyncio
import json
import sys
import urllib.request

from centrifuge import Client, ClientEventHandler, ClientState

GATEWAY = sys.argv[1]
URL = f"ws://{GATEWAY}/connection/websocket"


def login() -> str:
    body = {"email": "john@example.com", "password": "password123", "ttl": 5}
    request = urllib.request.Request(
        f"http://{GATEWAY}/identity/login",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["accessToken"]


async def newer() -> str:
    return await asyncio.get_running_loop().run_in_executor(None, login)


class Events(ClientEventHandler):
    """Counts connections, and logs in again if the token of the gateway has expired."""

    def __init__(self, headers):
        self.headers = headers
        self.codes = []
        self.connections = 0
        self.errors = []

    async def on_connecting(self, context):
        self.codes.append(context.code)
        if context.code == 3005:
            # The SDK sends these headers with each connection.
            self.headers["Authorization"] = f"Bearer {await newer()}"

    async def on_connected(self, context):
        self.connections += 1

    async def on_error(self, context):
        self.errors.append(str(context))


async def main():
    tokens = []

    async def get_token():
        tokens.append(await newer())
        return tokens[-1]

    async def client(options):
        headers = {"Authorization": f"Bearer {await newer()}"}
        events = Events(headers)
        client = Client(URL, events=events, headers=headers, proxy=None, min_reconnect_delay=0.1, max_reconnect_delay=0.3, **options)
        await client.connect()
        await client.ready(timeout=10)
        return client, events

    kept, with_tokens = await client({"get_token": get_token})
    returning, without = await client({})
    await asyncio.sleep(10)

    print(vars(with_tokens)["codes"], len(tokens), vars(without)["codes"], with_tokens.errors, without.errors, flush=True)
    # The first of the codes is the one of the first connection.
    assert kept.state == ClientState.CONNECTED and with_tokens.connections == 1 and len(tokens) >= 2
    assert returning.state == ClientState.CONNECTED and without.connections >= 2
    assert without.codes[1:] and all(code == 3005 for code in without.codes[1:])
    await kept.disconnect()
    await returning.disconnect()
    print("ok")


asyncio.run(main())
