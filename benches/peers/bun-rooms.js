// Bun's own server, which is based on uWebSockets. The message `sROOM` subscribes, and `pROOM DATA` publishes.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(Bun.argv[2]),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response(null, { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 64 << 20,
    backpressureLimit: 64 << 20,
    idleTimeout: 0,
    sendPings: false,
    message(socket, message) {
      if (message[0] === "s") {
        socket.subscribe(message.slice(1));
        socket.send("subscribed");
        return;
      }
      const space = message.indexOf(" ");
      server.publish(message.slice(1, space), message.slice(space + 1));
    },
  },
});
