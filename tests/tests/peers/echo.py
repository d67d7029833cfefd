"""A connection of John with the Python package `websockets`.

Arguments: the URL, and a JSON object of further headers. Prints `done` if all messages were echoed.
"""

import json
import sys

from websockets.sync.client import connect

url, headers = sys.argv[1], json.loads(sys.argv[2])

# By default this client offers permessage-deflate, and keeps it if the server agrees.
with connect(url, additional_headers=headers, proxy=None, open_timeout=10, close_timeout=10) as websocket:
    for message in ["Hello World", "Grüße, 你好", "", b"\x00\x01\xfe\xff", b"x" * 60_000]:
        websocket.send(message)
        answer = websocket.recv(timeout=10)
        assert answer == message, (message, answer)

    # Three frames of one message, with a ping between its sender and its end.
    websocket.send(["one ", "two ", "three"])
    assert websocket.recv(timeout=10) == "one two three"
    assert websocket.ping(b"still there?").wait(10), "no pong"

assert websocket.close_code == 1000, websocket.close_code
print("done")
