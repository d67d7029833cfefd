"""Calls every method of the server API with the SDK cent, and checks the results.

Arguments: the base URL, a key, the ids of two clients of user 123, both subscribed to news:1, and the number of these clients on
the node that answers: 2 or 0. Prints "done".
"""

import asyncio
import sys
import time

from cent import (
    AsyncClient,
    BatchRequest,
    BoolValue,
    BroadcastRequest,
    CentApiResponseError,
    CentTransportError,
    CentUnauthorizedError,
    ChannelOptionsOverride,
    ChannelsRequest,
    Client,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)

URL, KEY, FIRST, SECOND = sys.argv[1:5]
LOCAL = int(sys.argv[5])


def main():
    client = Client(URL, KEY)

    published = client.publish(
        PublishRequest(channel="news:1", data={"text": "é"}, tags={"a": "b"}, idempotency_key="1")
    )
    assert (published.offset, len(published.epoch), published.delivered) == (1, 8, LOCAL), published
    again = client.publish(PublishRequest(channel="news:1", data={"text": "é"}, idempotency_key="1"))
    assert (again.offset, again.epoch) == (1, published.epoch), again
    client.publish(PublishRequest(channel="binary:1", data=None, b64data="AP8="))
    sent = client.broadcast(BroadcastRequest(channels=["news:1", "nosuch:1"], data=[1], skip_history=True))
    assert sent.responses[0].result.delivered == LOCAL and sent.responses[1].error.code == 102, sent

    history = client.history(HistoryRequest(channel="news:1", limit=10))
    assert (history.offset, history.epoch) == (1, published.epoch), history
    [publication] = history.publications
    assert (publication.data, publication.offset, publication.tags) == ({"text": "é"}, 1, {"a": "b"}), history
    since = StreamPosition(offset=1, epoch=published.epoch)
    assert client.history(HistoryRequest(channel="news:1", limit=1, since=since)).publications == []
    client.history_remove(HistoryRemoveRequest(channel="news:1"))
    assert client.history(HistoryRequest(channel="news:1", limit=10, reverse=True)).publications == []

    presence = client.presence(PresenceRequest(channel="news:1")).presence
    assert set(presence) == {FIRST, SECOND}, presence
    assert (presence[FIRST].user, presence[FIRST].conn_info) == ("123", {"name": "John Doe"}), presence
    stats = client.presence_stats(PresenceStatsRequest(channel="news:1"))
    assert (stats.num_clients, stats.num_users) == (2, 1), stats
    channels = client.channels(ChannelsRequest(pattern="news:*")).channels
    assert {name: found.num_clients for name, found in channels.items()} == {"news:1": 2}, channels
    # The node that answers is the first one.
    [node, *_] = client.info(InfoRequest()).nodes
    numbers = (node.num_clients, node.num_users, node.num_subs)
    assert numbers == (LOCAL, LOCAL // 2, 2 * LOCAL) and node.uid and node.name, node

    client.subscribe(
        SubscribeRequest(
            user="123",
            channel="news:2",
            client=FIRST,
            info={"seat": 7},
            data={"hello": 1},
            override=ChannelOptionsOverride(presence=BoolValue(value=True)),
        )
    )
    [subscribed] = presence_of(client, 1).values()
    assert (subscribed.client, subscribed.chan_info) == (FIRST, {"seat": 7}), subscribed
    client.unsubscribe(UnsubscribeRequest(user="123", channel="news:2"))
    assert presence_of(client, 0) == {}
    client.refresh(RefreshRequest(user="123", client=FIRST, expire_at=4102444800))

    requests = [PublishRequest(channel="news:1", data=number) for number in range(3)]
    batch = client.batch(BatchRequest(requests=[*requests, InfoRequest()], parallel=True))
    assert [reply.offset for reply in batch.replies[:3]] == [2, 3, 4] and batch.replies[3].nodes, batch

    for code, call, request in [
        (102, client.publish, PublishRequest(channel="nosuch:1", data=1)),
        (107, client.publish, PublishRequest(channel="", data=1)),
        (108, client.history, HistoryRequest(channel="plain")),
        (112, client.history, HistoryRequest(channel="news:1", since=StreamPosition(offset=1, epoch="other"))),
    ]:
        try:
            call(request)
        except CentApiResponseError as error:
            assert error.code == code and error.message, error
        else:
            raise AssertionError(f"{request} succeeds")
    for other, expected in [(Client(URL, "wrong"), CentUnauthorizedError), (Client(URL + "/x", KEY), CentTransportError)]:
        try:
            other.info(InfoRequest())
        except expected:
            pass
        else:
            raise AssertionError(f"{expected} is expected")

    asyncio.run(asynchronous())
    client.disconnect(DisconnectRequest(user="123", whitelist=[SECOND]))
    client.disconnect(DisconnectRequest(user="123", disconnect=Disconnect(code=4000, reason="logged out")))
    client.disconnect(DisconnectRequest(user="9"))
    print("done")


def presence_of(client, expected):
    """Returns the presence of news:2 when it has this many clients. Another node may still be writing it."""
    deadline = time.monotonic() + 5
    while True:
        presence = client.presence(PresenceRequest(channel="news:2")).presence
        if len(presence) == expected or time.monotonic() > deadline:
            return presence
        time.sleep(0.01)


async def asynchronous():
    client = AsyncClient(URL, KEY)
    published = await client.publish(PublishRequest(channel="news:1", data=3))
    assert published.offset == 5, published
    assert (await client.info(InfoRequest())).nodes
    await client.close()


main()
