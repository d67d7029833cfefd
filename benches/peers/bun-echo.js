// Bun's own server, which is based on uWebSockets. It collects the messages that a handler sends.
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(Bun.argv[2]),
  fetch(request, server) {
    const isOurs = new URL(request.url).pathname === "/ws";
    return isOurs && server.upgrade(request) ? undefined : new Response(null, { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 64 << 20,
    backpressureLimit: 64 << 20,
    idleTimeout: 0,
    sendPings: false,
    message(socket, message) {
      socket.send(message);
    },
  },
});
