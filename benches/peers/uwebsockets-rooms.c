// uWebSockets by its interface for C. The message `sROOM` subscribes, and `pROOM DATA` publishes.
//
// The library is the one in the Python package `socketify`, without Python. It has libuv as its event loop, and no header: the
// declarations here are the ones of that package.

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct uws_app uws_app;
typedef struct uws_websocket uws_websocket;
typedef enum { TEXT = 1 } uws_opcode;

// The options of TLS, which is off.
typedef struct {
  const char *key_file, *certificate_file, *passphrase, *dh_params_file, *ca_file, *ciphers;
  int prefer_low_memory_usage;
} us_options;

typedef struct {
  int port;
  const char *host;
  int options;
} uws_listen_config;

typedef struct {
  int compression;
  unsigned int max_payload_length;
  unsigned short idle_timeout;
  unsigned int max_backpressure;
  bool close_on_backpressure_limit;
  bool reset_idle_timeout_on_send;
  bool send_pings_automatically;
  unsigned short max_lifetime;
  void *upgrade;
  void *open;
  void (*message)(uws_websocket *, const char *, size_t, uws_opcode, void *);
  void *drain, *ping, *pong, *close, *subscription;
} uws_behavior;

uws_app *uws_create_app(int ssl, us_options options);
void uws_ws(int ssl, uws_app *app, const char *pattern, uws_behavior behavior, void *data);
void uws_app_listen_with_config(int ssl, uws_app *app, uws_listen_config config,
                                void (*handler)(void *, uws_listen_config, void *), void *data);
void uws_app_run(int ssl, uws_app *app);
bool uws_ws_subscribe(int ssl, uws_websocket *socket, const char *topic, size_t length);
int uws_ws_send(int ssl, uws_websocket *socket, const char *message, size_t length, uws_opcode opcode);
bool uws_publish(int ssl, uws_app *app, const char *topic, size_t topic_length, const char *message, size_t length,
                 uws_opcode opcode, bool compress);

static void on_message(uws_websocket *socket, const char *message, size_t length, uws_opcode opcode, void *app) {
  const char *space = length ? memchr(message, ' ', length) : NULL;
  if (length && message[0] == 's') {
    uws_ws_subscribe(0, socket, message + 1, length - 1);
    uws_ws_send(0, socket, "subscribed", 10, TEXT);
  } else if (space) {
    const char *data = space + 1;
    uws_publish(0, app, message + 1, space - message - 1, data, message + length - data, opcode, false);
  }
}

static void on_listen(void *listener, uws_listen_config config, void *data) {
  (void)data;
  if (!listener) {
    fprintf(stderr, "port %d is in use\n", config.port);
    exit(1);
  }
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: %s PORT\n", arguments[0]);
    return 2;
  }
  uws_app *app = uws_create_app(0, (us_options){0});
  uws_behavior behavior = {
      .max_payload_length = 64 << 20,
      .max_backpressure = 64 << 20,
      .message = on_message,
  };
  uws_ws(0, app, "/*", behavior, app);
  uws_app_listen_with_config(0, app, (uws_listen_config){.port = atoi(arguments[1]), .host = "127.0.0.1"}, on_listen, NULL);
  uws_app_run(0, app);
  return 0;
}
