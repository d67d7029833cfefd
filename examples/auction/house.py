#!/usr/bin/env python3
"""The auction house, a backend of the example: it bids for a caller on the telephone.

    house.py              watches the lot, and outbids each user after a few seconds, up to the limit of the caller
    house.py --bid 500    makes one bid, and ends

It reads the bids by the server API of Postern at HOUSE_API, with the key in POSTERN_API_KEY. It publishes its own bids by
RabbitMQ if AMQP_URL is set, which needs the package pika, and otherwise by the server API.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

LOT = 'auction:42'
START, STEP, LIMIT = 100, 10, 400
CALLER = 'Telephone bidder'
# The time after which the caller bids.
DELAY = float(os.environ.get('HOUSE_DELAY', '3'))


def call(method, parameters):
    """Calls the server API, and returns the result."""
    request = urllib.request.Request(
        f'{os.environ["HOUSE_API"]}/{method}',
        json.dumps(parameters).encode(),
        {'Content-Type': 'application/json', 'X-API-Key': os.environ['POSTERN_API_KEY']},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
    if 'error' in answer:
        raise OSError(answer['error']['message'])
    return answer['result']


def publish_by_api(target, name, data, key):
    call('publish', {target: name, 'data': data, 'idempotency_key': key})


def publish_by_rabbitmq(target, name, data, key):
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(os.environ['AMQP_URL']))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(
            content_type='application/json',
            delivery_mode=pika.DeliveryMode.Persistent,
            message_id=key,
        )
        channel.basic_publish('postern', f'{target}.{name}', json.dumps(data), properties, mandatory=True)
    finally:
        connection.close()


publish = publish_by_rabbitmq if os.environ.get('AMQP_URL') else publish_by_api


def highest(publications):
    """Returns the publication of the highest bid, by the rules of book.js, or None."""
    best, price = None, START
    for publication in publications:
        data = publication['data']
        bid = data.get('bid') if isinstance(data, dict) else None
        if type(bid) is int and price + STEP <= bid <= 1_000_000:
            best, price = publication, bid
    return best


def bid(amount, key):
    publish('channel', LOT, {'bid': amount, 'by': CALLER}, key)
    print(f'The caller bids {amount}.', flush=True)


def outbid():
    """Bids if a user leads. Bids of backends have no `info`."""
    history = call('history', {'channel': LOT, 'limit': -1})
    best = highest(history['publications'])
    if best is None or 'info' not in best or best['data']['bid'] + STEP > LIMIT:
        return
    time.sleep(DELAY)
    # With the position in the keys, a repetition after an error has no effect.
    position = f'{history["epoch"]}-{best["offset"]}'
    amount = best['data']['bid'] + STEP
    bid(amount, f'bid-{position}')
    text = f'You have been outbid: the highest bid is €{amount}.'
    publish('user', best['info']['user'], {'text': text}, f'outbid-{position}')


def watch():
    while True:
        try:
            outbid()
        # Postern or RabbitMQ is not available at the moment. The errors of pika have no common class of Python.
        except Exception as error:
            print(f'{type(error).__name__}: {error}', file=sys.stderr, flush=True)
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bid', type=int, metavar='AMOUNT', help='make one bid of this amount, and end')
    arguments = parser.parse_args()
    if arguments.bid is None:
        watch()
    else:
        bid(arguments.bid, f'bid-{time.time_ns()}')


if __name__ == '__main__':
    main()
