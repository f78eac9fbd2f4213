/* The server's inside: server.c accepts and stops, connection.c reads requests, reply.c answers them. */
#pragma once
#include <stdatomic.h>

#include "http/internal.h"
#include "http/parser.h"

#define SERVER_LISTENERS 8
#define SERVER_SWEEP_MS 100     /* how finely deadlines are kept */
#define SERVER_SWEEP_LIMIT 2000 /* connections looked at in one sweep, so that it never takes long */

struct connection;

/* The part of a server that lives on one loop; only that loop's thread touches it, but for `count`. */
struct server_part {
    struct http_server *server;
    struct http_loop *loop;
    struct connection *first;
    struct connection *cursor; /* where the sweep goes on; NULL: at the start */
    atomic_int count;
    struct event sweep;
    bool draining; /* finish what began, take nothing more */
};

struct http_server {
    struct http_server_options options;
    char *certificate, *key, *name;
    struct http_loops *loops;
    struct server_part *parts; /* one a loop */
    int listener_count;
    struct {
        int fd;
        struct event event;
        bool added;
    } listeners[SERVER_LISTENERS];
    int port;
    int spare_fd;          /* closed to accept and refuse where no file is left */
    pthread_mutex_t mutex; /* guards tls, and waiting for the last connection */
    pthread_cond_t emptied;
    SSL_CTX *tls;
    atomic_int connections;
    atomic_size_t body_bytes;
    bool stopped;
};

/* A request and its reply, from the head's arrival until the reply has left. While it is handled it belongs
 * to the handler; before and after, to its connection. */
struct exchange {
    struct http_request request; /* first: a request is an exchange */
    struct http_server *server;
    struct connection *connection; /* loop's thread only; NULL once the client has gone */
    atomic_bool gone;
    bool malformed; /* there is no request line */
    void (*on_gone)(void *context);
    void *on_gone_context;
    size_t body_reserved; /* of the server's body_total_limit */
    struct http_task reply_task;
    int status;
    struct buffer reply_headers; /* "Name: value\r\n" … */
    struct http_body *reply_body;
    bool close; /* the handler asked for it, with a header Connection: close */
    char peer[48];
    char *text; /* the head, cut into strings */
    char *path;
    struct http_header *headers;
};

enum connection_state {
    CONNECTION_IDLE,     /* between requests; not a byte of the next is here */
    CONNECTION_HEAD,     /* a head is arriving */
    CONNECTION_BODY,     /* a body is arriving */
    CONNECTION_HANDLING, /* the handler has the request */
    CONNECTION_REPLYING, /* the reply is being written */
    CONNECTION_LINGER, /* the last reply left: what still comes is thrown away, so that no reset overtakes the
                          reply */
    CONNECTION_CLOSED, /* freed as soon as nobody is in its functions */
};

struct connection {
    struct http_stream stream;
    struct server_part *part;
    struct connection *previous, *next;
    enum connection_state state;
    int busy;            /* functions of this connection on the stack */
    int64_t deadline_ns; /* of the present state; INT64_MAX: none */
    int64_t body_deadline_ns;
    int64_t started_ns;     /* first byte of the present request */
    int64_t read_closed_ns; /* the client will send no more, since then; 0: it may */
    bool probed, keep_alive,
        unread;          /* unread: some of the request will never be read, so close after the reply */
    struct buffer input; /* what was read too early or is not complete */
    struct http_head_scanner scanner;
    struct http_chunk_decoder chunks;
    enum http_framing framing;
    uint64_t body_left;
    struct exchange *exchange;
    char peer[48];
};

/* connection.c */
void connection_start(struct server_part *part, int fd, SSL *ssl, const char *peer);
/* No more requests: idle ones close. */
void connection_drain(struct connection *connection);
void connection_drop(struct connection *connection);
/* Deadlines, and clients that went silently. */
void connection_check(struct connection *connection, int64_t now);
/* Bracket every entry into a connection: the last to leave frees a closed one. */
void connection_enter(struct connection *connection);
void connection_leave(struct connection *connection);
/* After a reply: read on. */
void connection_resume(struct connection *connection);

/* reply.c */
struct exchange *exchange_create(struct connection *connection, const char *head, size_t size, int lines);
void exchange_free(struct exchange *exchange);
/* The client went while the exchange was the handler's. */
void exchange_abandon(struct exchange *exchange);
/* The reply was written, or given up: tell, free. */
void exchange_finish(struct exchange *exchange, bool gone);
/* Write the reply of the connection's exchange. Within connection_enter. */
void connection_reply(struct connection *connection);
void connection_replied(struct connection *connection, enum stream_result result);
