/* The client's inside: client.c has calls and connections, upstream.c addresses and pools. */
#pragma once
#include <stdatomic.h>
#include <sys/socket.h>

#include "http/http_client.h"
#include "http/internal.h"
#include "http/parser.h"
#include "http/url.h"

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
    char *url_text, *ca_file, *place; /* place: whose address to connect to */
    struct url url;
    char host_header[300];
    SSL_CTX *tls;
    struct http_loops *loops;
    pthread_mutex_t mutex; /* guards what follows, up to next_address */
    bool looking;          /* a look-up is under way, with a reference of its own */
    char failure[80];      /* of the last look-up; "" where it went well */
    struct upstream_address addresses[UPSTREAM_ADDRESSES];
    int address_count;
    atomic_uint next_address;
    struct upstream_pool pools[]; /* one a loop */
};

void upstream_reference(struct http_upstream *upstream);
void upstream_release(struct http_upstream *upstream);
/* Address number `attempt` counted from `start`; false behind the last. */
bool upstream_address(struct http_upstream *upstream, unsigned start, int attempt,
                      struct upstream_address *ret);

/* client.c */
void client_connection_check(struct client_connection *connection, int64_t now);
void client_pool_close_idle(struct upstream_pool *pool);
struct client_connection *client_connection_next(struct client_connection *connection);
