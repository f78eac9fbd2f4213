/* The inside of the server. server.c accepts and stops; server_connection.c has the life of a connection, its
 * events and deadlines; server_input.c reads requests; server_response.c writes replies; server_request.c has
 * what the two share. All of it on the loop's thread unless said otherwise. */
#pragma once
#include <stdatomic.h>

#include "http/internal.h"
#include "http/parser.h"

#define SERVER_LISTENERS 8
#define SERVER_SPARES 8         /* connections that get an answer although there is no room for them */
#define SERVER_SCARCE_MS 1000   /* … and how long they have for their request */
#define SERVER_SWEEP_MS 100     /* how finely deadlines are kept */
#define SERVER_SWEEP_LIMIT 2000 /* connections checked in one sweep, which bounds how long it takes */

struct server_connection;

/* The part of a server that lives on one loop; only that loop's thread touches it, except for `count`. */
struct server_part {
    struct http_server *server;
    struct http_loop *loop;
    struct server_connection *first;
    struct server_connection *cursor; /* where the sweep goes on; NULL: at the start */
    atomic_int count;
    struct event sweep;
    bool draining; /* finish what began, accept no more */
};

struct server_listener {
    int fd;
    struct event event;
    bool added;
};

struct http_server {
    struct http_server_options options;
    char *certificate, *key, *name;
    struct http_loops *loops;
    struct server_part *parts; /* one for each loop */
    int listener_count;
    struct server_listener listeners[SERVER_LISTENERS];
    int port;
    int spare_fds[SERVER_SPARES]; /* closed in order to accept when no file is left; -1: is closed */
    atomic_int scarce;            /* connections beyond the limits, which get one answer */
    pthread_mutex_t mutex;        /* guards tls, and waiting for the last connection */
    pthread_cond_t emptied;
    SSL_CTX *tls;
    atomic_int connections;
    bool stopped;
};

/* Numeric address of a client. */
struct peer_name {
    char text[48];
};

/* A request's body, as far as the handler reads it itself (HTTP_ADMIT_STREAM). */
enum body_phase {
    BODY_COMPLETE,  /* nothing is left to read: there is none, or all of it was handed over */
    BODY_UNREAD,    /* the handler has not asked for it */
    BODY_READING,   /* pieces go to the handler's reader */
    BODY_ABANDONED, /* malformed, late, or a reply came first: what still comes is thrown away */
};

/* A reply in pieces, from http_respond_begin on. */
struct reply_progress {
    bool begun;
    bool bare;           /* HEAD, 204, 304: no body */
    bool chunked;        /* else by length, or until the connection closes */
    bool aborted;        /* the handler gave up */
    bool above_high;     /* pending bytes were over the high-water mark */
    bool probed;         /* a leading zero of the next chunk's size has been sent (server_connection_probe) */
    int64_t length_left; /* of the announced length; -1: none was announced */
    size_t written;      /* bytes of the body taken from the handler */
    void (*on_writable)(void *context);
    void *context;
};

/* A request and its reply, from the arrival of the head until the reply has left. While it is handled it
 * belongs to the handler; before and after, to its connection. */
struct server_request {
    struct http_request request; /* first, so that each can be cast to the other */
    struct http_server *server;
    struct server_connection *connection; /* loop's thread only; NULL once the client has gone */
    atomic_bool gone;
    bool malformed; /* there is no request line */
    void (*on_gone)(void *context);
    void *on_gone_context;

    enum body_phase body_phase;
    bool body_paused;
    bool expect_continue; /* the client waits for an interim response before it sends the body */
    bool end_owed;        /* the client had gone before the reader was set: `body_task` tells it */
    struct http_body_reader reader;

    struct http_task body_task, reply_task;
    int holds;     /* functions and tasks that still look at it; the last one frees it … */
    bool finished; /* … once this is set */

    int status;
    bool close;                  /* the handler asked for it, with a header Connection: close */
    struct buffer reply_headers; /* "Name: value\r\n" … */
    struct http_body *reply_body;
    struct memory_charge reply_charge; /* what waits for the client to read it */
    struct reply_progress reply;
    size_t sent; /* bytes of the reply's body that left */

    struct peer_name peer;
    char *text; /* the head, cut into strings */
    char *path;
    struct http_header *headers;
};

enum connection_state {
    CONNECTION_IDLE,      /* between requests; no byte of the next is here */
    CONNECTION_HEAD,      /* a head is arriving */
    CONNECTION_BODY,      /* a body is arriving, to be handed over whole */
    CONNECTION_HANDLING,  /* the handler has the request */
    CONNECTION_STREAMING, /* … and has begun its reply */
    CONNECTION_REPLYING,  /* the rest of the reply is being written */
    CONNECTION_LINGER,    /* the last reply left: what still comes is thrown away, because closing a socket
                             with unread bytes resets it and the client may lose the reply */
    CONNECTION_CLOSED,    /* freed when none of its functions is on the stack */
};

struct server_connection {
    struct http_stream stream;
    struct server_part *part;
    struct server_connection *previous, *next;
    enum connection_state state;
    int busy;            /* functions of this connection on the stack */
    bool processing;     /* … among them the one that consumes input */
    bool broken;         /* a write failed within the handler's call: the next event drops the connection */
    bool reset;          /* close with a reset */
    int64_t deadline_ns; /* of the present state; INT64_MAX: none */
    int64_t read_closed_ns; /* when the client closed its sending side; 0: it did not */
    struct http_timer *presence;
    int presence_checks;
    bool probed; /* an interim response was sent to see whether the client is there */

    struct buffer input; /* read but not consumed: incomplete, or of a later request */
    int64_t started_ns;  /* first byte of the present request */
    int64_t body_deadline_ns;
    struct http_head_scanner scanner;
    struct http_body_decoder decoder;
    struct server_request *request;
    bool scarce; /* it has no room: one request, at once */
    bool keep_alive;
    bool unread; /* some of the request will never be read: close after the reply */
    struct peer_name peer;
};

static inline const struct http_server_options *server_connection_options(
    const struct server_connection *connection) {
    return &connection->part->server->options;
}

static inline struct http_server *server_connection_server(const struct server_connection *connection) {
    return connection->part->server;
}

static inline struct http_loop *server_connection_loop(const struct server_connection *connection) {
    return connection->part->loop;
}

static inline bool server_connection_is_draining(const struct server_connection *connection) {
    return connection->part->draining;
}

/* server.c */

/* A connection of the part has closed. */
void server_part_forget(struct server_part *part);

/* server_connection.c */
void server_connection_start(struct server_part *part, int fd, SSL *ssl, const struct peer_name *peer,
                             bool scarce);
void server_connection_drop(struct server_connection *connection);
/* Bracket every entry into a connection: the last to leave frees a closed one. */
void server_connection_enter(struct server_connection *connection);
void server_connection_leave(struct server_connection *connection);
/* Go on after a reply, or with a body that the handler now wants: consume the input, read on. */
void server_connection_resume(struct server_connection *connection);
/* Read from the socket exactly while the present state has a use for bytes. */
void server_connection_update_reading(struct server_connection *connection);
/* Check deadlines, and whether clients are still there. */
void server_part_sweep(struct server_part *part);
/* Take no more requests: close idle connections, or (`drop`) all. */
void server_part_drain(struct server_part *part, bool drop);

/* server_input.c; within server_connection_enter */

/* Read once. Returns bytes read (> 0), 0 at the end, STREAM_AGAIN, or STREAM_FAILED. *ret_more: there may be
 * more to read now. */
ssize_t server_connection_read(struct server_connection *connection, bool *ret_more);
/* How many bytes the present state has a use for. */
size_t server_connection_read_room(const struct server_connection *connection);
/* Consume what was kept, as far as the present state allows. */
void server_connection_process_input(struct server_connection *connection);
/* A body in pieces is wanted now. */
bool server_connection_is_reading_body(const struct server_connection *connection);
/* The rest of the body will not come, or is not wanted. `tell`: the reader hears of it. */
void server_connection_abandon_body(struct server_connection *connection, bool tell);
/* Refuse a request that cannot be handled; the connection closes after the reply. */
void server_connection_refuse(struct server_connection *connection, int status, const char *message);

/* server_request.c */

/* `head` (copied) is of `size` bytes and `lines` lines; NULL stands for a request that could not be read.
 * NULL when memory is out. */
struct server_request *server_request_create(struct http_server *server, const char *head, size_t size,
                                             int lines);
/* The connection ends, `sent` bytes of the reply's body after it began. `handling`: the handler has the
 * request, and is told. */
void server_request_drop(struct server_request *request, bool handling, size_t sent);
/* The reply was written, or (`cut`) not all of it: tell `done`, free. */
void server_request_finish(struct server_request *request, bool cut);
/* A function or task looks at the request until it releases it. */
void server_request_hold(struct server_request *request);
void server_request_release(struct server_request *request);

/* server_response.c; within server_connection_enter */

/* Write the whole reply of the connection's request. */
void server_connection_reply(struct server_connection *connection);
/* Offer what is pending to the socket again. */
void server_connection_flush(struct server_connection *connection);
/* Send an interim response (100 Continue). */
void server_connection_send_interim(struct server_connection *connection);
/* Send something harmless to a client that closed its sending side: one that is gone replies with a reset. */
void server_connection_probe(struct server_connection *connection);
/* Bytes of the reply's body that the socket took. */
size_t server_connection_bytes_sent(const struct server_connection *connection);
