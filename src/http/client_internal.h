/* The inside of the client: client.c has calls, client_connection.c connections and responses, upstream.c
 * addresses and pools. */
#pragma once
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/url.h"
#include "http/http_client.h"
#include "http/internal.h"
#include "http/response_reader.h"

#define UPSTREAM_ADDRESSES 16
#define CLIENT_SWEEP_MS 50

struct client_connection;

/* One upstream's connections on one loop; only that loop's thread touches it. */
struct upstream_pool {
    struct http_upstream *upstream;
    struct http_loop *loop;
    struct client_connection *first;  /* all of them */
    struct client_connection *cursor; /* of the sweep */
    struct client_connection *idle;   /* the last used first */
    int idle_count;
    int quick_responses; /* in a row: they began within POLL_NS */
    struct event sweep;
};

struct upstream_address {
    struct sockaddr_storage address;
    socklen_t size;
    int family;
};

struct http_upstream {
    struct http_upstream_options options;
    atomic_int references; /* the creator's, and one for every connection and posted task */
    atomic_bool closed;
    char *ca_file;
    char *address; /* to connect to instead of the URL's host; NULL: the host */
    struct url url;
    char host_header[URL_HOST_BYTES];
    SSL_CTX *tls;
    struct http_loops *loops;
    pthread_mutex_t mutex; /* guards what follows, up to next_address */
    bool looking;          /* a look-up is under way, with a reference of its own */
    char failure[80];      /* of the last look-up; "" if it succeeded */
    struct upstream_address addresses[UPSTREAM_ADDRESSES];
    int address_count;
    atomic_uint next_address;
    struct upstream_pool pools[]; /* one a loop */
};

void upstream_reference(struct http_upstream *upstream);
void upstream_release(struct http_upstream *upstream);
/* Address number `attempt` counted from `start`; false after the last. */
bool upstream_address(struct http_upstream *upstream, unsigned start, int attempt,
                      struct upstream_address *ret);

enum client_state {
    CLIENT_CONNECTING,
    CLIENT_BUSY, /* with a call */
    CLIENT_IDLE, /* kept for the next one */
    CLIENT_CLOSED,
};

struct client_connection {
    struct http_stream stream;
    struct upstream_pool *pool;
    struct client_connection *previous, *next, *next_idle;
    enum client_state state;
    int busy;            /* functions of this connection on the stack; a closed one is freed by the last */
    int64_t deadline_ns; /* of connecting, or of idling */
    int64_t sent_ns;     /* when the call's request was sent */
    struct http_call *call;
    struct buffer input; /* read but not consumed: the call is paused */
    bool keep_alive;
    bool write_broken; /* perhaps a response was sent before: reading will tell */
    bool got_bytes;    /* of the response */
};

struct http_call {
    struct upstream_pool *pool;
    struct client_connection *connection; /* NULL between attempts and when it failed */
    void (*head)(void *context, const struct http_response *response);
    void (*piece)(void *context, const void *bytes, size_t size);
    void (*writable)(void *context);
    void (*done)(void *context, const struct http_response *response);
    void *context;

    int first_byte_timeout_ms, silence_timeout_ms;
    int64_t deadline_ns;          /* of the whole; INT64_MAX: none, as below */
    int64_t progress_deadline_ns; /* of the head, then of the next byte */
    bool paused;

    struct buffer unsent;   /* the request, as long as it may have to be sent to another address */
    struct http_body *body; /* likewise */
    bool in_pieces, chunked;
    bool finished;     /* all of the request was given */
    bool above_high;   /* pending bytes were over the high-water mark */
    int64_t body_left; /* of the announced length; -1: none was announced */
    unsigned start_address;
    int attempt;

    struct http_timer *failing; /* a failure found within a function of the call, told soon */
    struct http_response_reader reader;
    struct http_response response;
};

/* client.c: the end of a call, which is gone afterwards. Its connection has been taken from it. */
void http_call_complete(struct http_call *call);
void http_call_fail(struct http_call *call, enum http_failure failure, const char *reason);
/* The request is on its way, or some more of it left: the deadline of the response's head begins again. */
void http_call_note_sent(struct http_call *call);

/* client_connection.c */

/* Take an idle connection for a call; NULL where there is none. */
struct client_connection *client_connection_reuse(struct http_call *call);
/* Connect to the next address that takes a socket; false after the last. */
bool client_connection_open(struct http_call *call);
/* Send a request's head, with its body if it is given whole. */
void client_connection_send(struct client_connection *connection, const struct buffer *text,
                            struct http_body *body);
/* Take the call from the connection. */
struct http_call *client_connection_detach(struct client_connection *connection);
/* The call was taken from it. `reset`: before its response was complete. */
void client_connection_close(struct client_connection *connection, bool reset);
/* Read from the socket exactly while the call wants bytes. */
void client_connection_update_reading(struct client_connection *connection);
void client_connection_check(struct client_connection *connection, int64_t now);
void client_pool_close_idle(struct upstream_pool *pool);
