// A conversation of two clients with the JavaScript SDK of the protocol, in Node and in a page.
//
// `clients` are not connected yet. `binary` tells that data are bytes, as in the Protobuf build of the SDK.

globalThis.converse = async function (clients, binary) {
  const encode = (value) => (binary ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const decode = (data) => (binary ? JSON.parse(new TextDecoder().decode(data)) : data);
  const check = (isTrue, what, value) => {
    if (!isTrue) throw new Error(`${what}: ${JSON.stringify(value)}`);
  };
  const until = async (condition, what) => {
    const deadline = Date.now() + 20_000;
    while (!condition()) {
      check(Date.now() < deadline, 'does not happen', what);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };

  const subscriptions = clients.map((client) => client.newSubscription('news', { joinLeave: true }));
  const seen = clients.map(() => []);
  const users = new Set();
  const recoveries = [];
  subscriptions.forEach((subscription, index) => {
    subscription.on('publication', (context) => {
      seen[index].push(decode(context.data).text);
      if (context.info) users.add(context.info.user);
    });
    subscription.on('subscribed', (context) => {
      if (context.wasRecovering) recoveries.push(context.recovered);
    });
    subscription.subscribe();
  });
  clients.forEach((client) => client.connect());
  await Promise.all(subscriptions.map((subscription) => subscription.ready(20_000)));

  const [first] = subscriptions;
  await first.publish(encode({ text: 'one' }));
  await until(() => seen.every((texts) => texts.length === 1), 'the first publication');
  check(users.has('123'), 'the user of a publication', [...users]);
  const presence = Object.values((await first.presence()).clients);
  check(presence.length === clients.length, 'presence', presence);
  const statistics = await first.presenceStats();
  check(statistics.numClients === clients.length, 'statistics', statistics);
  const history = await first.history({ limit: 10 });
  check(history.publications.length === 1 && history.publications[0].offset === 1, 'history', history);
  const refusal = await clients[0].rpc('unknown', encode({})).catch((error) => error);
  check(refusal.code === 108, 'the refusal of a procedure', refusal);

  return {
    /** Waits until the clients have recovered `count` further publications, which they missed. */
    async recover(count) {
      await until(() => recoveries.length === clients.length, 'a recovery of each client');
      check(recoveries.every(Boolean), 'recovered', recoveries);
      await until(() => seen.every((texts) => texts.length === 1 + count), 'the missed publications');
      clients.forEach((client) => client.disconnect());
      return seen;
    },
  };
};
