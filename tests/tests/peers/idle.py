"""Opens a WebSocket with the Python package `websockets`, and answers pings until it is closed.

Arguments: the URL, and a JSON object of further headers. Prints `open`, and finally the code of the Close.
"""

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, headers = sys.argv[1], json.loads(sys.argv[2])

# It does not send pings.
with connect(url, additional_headers=headers, proxy=None, open_timeout=10, ping_interval=None) as websocket:
    print("open", flush=True)
    try:
        websocket.recv()
    except ConnectionClosed:
        pass
print(websocket.close_code)
