"""Connects to the port SDK_PORT in place of port 8000, which the tests of the SDK contain.

Python imports a module of this name before it runs anything, so the tests are unchanged, and several can run at once.
"""

import asyncio
import os
import socket

PORT = int(os.environ["SDK_PORT"])

create_connection = socket.create_connection
create_connection_of_loop = asyncio.BaseEventLoop.create_connection


def connect(address, *arguments, **options):
    host, port = address
    return create_connection((host, PORT if port == 8000 else port), *arguments, **options)


async def connect_of_loop(loop, protocol_factory, host=None, port=None, **options):
    port = PORT if port == 8000 else port
    return await create_connection_of_loop(loop, protocol_factory, host, port, **options)


socket.create_connection = connect
asyncio.BaseEventLoop.create_connection = connect_of_loop
