// Socket.IO with its own engine `ws`. The event `subscribe` joins a room, and `publish` sends to all clients in one.
const { createServer } = require("http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: false,
  maxHttpBufferSize: 64 << 20,
  // No client answers pings while it is measured.
  pingInterval: 3_600_000,
  pingTimeout: 3_600_000,
});
// The manual of Socket.IO advises this, to save memory.
io.engine.on("connection", (raw) => {
  raw.request = null;
});
io.on("connection", (socket) => {
  socket.on("subscribe", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("publish", (room, data) => {
    io.to(room).emit("message", data);
  });
});
http.listen(Number(process.argv[2]), "127.0.0.1");
