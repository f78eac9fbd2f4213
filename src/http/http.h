/* HTTP/1.1 for every tier: event loops, the server, requests and replies. The client is http_client.h.
 *
 * Shape: `struct http_loops` is a set of threads, each with one event loop. A server spreads its connections
 * over them; a connection stays on one loop for its life, and so do its requests. A handler runs on the
 * loop's thread and must not block: it replies at once, or keeps the request and replies later, from any
 * thread. One request at a time is handled on a connection; pipelined ones wait in the connection's bounded
 * input.
 *
 * Strict on purpose: bare LF, folded headers, white space before a colon, duplicate or malformed
 * Content-Length, Transfer-Encoding beside Content-Length, bad chunks, a missing or repeated Host are all 400
 * and a closed connection. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <strings.h>

#include "base/error.h"
#include "base/memory_budget.h"

/* ---- Event loops
 * ------------------------------------------------------------------------------------------- */

struct http_loops;
struct http_loop;

/* Start `threads` (>= 1) event loops, one thread each. Ignores SIGPIPE for the process. */
struct http_loops *http_loops_create(int threads, struct error *error);
/* End the threads and free the loops: after every server and upstream on them was freed. NULL is welcome. */
void http_loops_free(struct http_loops *loops);
int http_loops_count(const struct http_loops *loops);
struct http_loop *http_loops_get(struct http_loops *loops, int index);

/* Index of a loop within its set: 0 … count - 1. For state kept per loop, which then needs no lock. */
int http_loop_index(const struct http_loop *loop);
/* The loop whose thread this is; NULL on other threads. */
struct http_loop *http_loop_current(void);
/* Run `function(context)` soon on the loop's thread. Any thread. False when memory is out: nothing is run. */
bool http_loop_post(struct http_loop *loop, void (*function)(void *context), void *context);

/* A timer runs its function once on the loop's thread, unless it is cancelled before. */
struct http_timer;
/* On the loop's thread only. NULL when memory is out. The timer is freed by firing and by cancelling. */
struct http_timer *http_timer_start(struct http_loop *loop, int milliseconds, void (*function)(void *context),
                                    void *context);
/* On the loop's thread only, and never after it fired. NULL is welcome. */
void http_timer_cancel(struct http_timer *timer);

/* ---- Bodies
 * ------------------------------------------------------------------------------------------------ */

/* Bytes shared by reference: the body of a request can be sent on, and that of a response passed back,
 * without a copy. Counting is atomic; the bytes are immutable once there is a second reference. */
struct http_body {
    size_t size;
    char *bytes; /* followed by a NUL that does not count */
    _Atomic int references;
    size_t capacity;             /* private to body.c */
    struct memory_charge charge; /* of the budget, until the last reference is released */
};

/* Reference count 1. `bytes` may be NULL: `size` bytes to be filled in by the caller. NULL when memory is
 * out. */
struct http_body *http_body_create(const void *bytes, size_t size);
/* Takes over malloc'ed bytes of `size` (+ 1 for the NUL, which must be there). Frees them when it fails. */
struct http_body *http_body_take(char *bytes, size_t size);
struct http_body *http_body_reference(struct http_body *body); /* NULL stays NULL */
void http_body_release(struct http_body *body);                /* NULL is welcome */

/* ---- Requests
 * ---------------------------------------------------------------------------------------------- */

struct http_header {
    const char *name, *value;
};

/* Whether two names of headers are the same, in any case. Most names differ in the first letter. */
static inline bool http_names_equal(const char *a, const char *b) {
    return ((*a ^ *b) & ~0x20) == 0 && strcasecmp(a, b) == 0;
}

/* `list` ("a, b") holds the token, in any case. */
bool http_list_contains(const char *list, const char *token);

enum http_method {
    HTTP_GET,
    HTTP_HEAD, /* handlers reply as to GET; the server leaves the body out */
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH,
    HTTP_OTHER,
};

/* What a handler reads. All strings live until the reply. */
struct http_request {
    enum http_method method;
    const char *method_name;
    const char *target;                /* as sent: "/model/cat%20s/predict?top=3" */
    const char *path;                  /* percent-decoded, without the query: "/model/cat s/predict" */
    const char *query;                 /* after the '?', not decoded; "" if there is none */
    const struct http_header *headers; /* as sent, in order, hop-by-hop ones included */
    int header_count;
    struct http_body *body; /* never NULL in a handler; size 0 if there is none, or it is read in pieces */
    int64_t content_length; /* of the body; 0: there is none; -1: not known before its end (chunked) */
    const char *peer;       /* numeric address of the client, without port: "127.0.0.1" */
    bool secure;            /* came over TLS */
    bool scarce;       /* there is no room for its connection, which closes after the reply: answer at once */
    int minor_version; /* 0 or 1 */
    int64_t started_ns;  /* clock_ns() of its first byte */
    int64_t received_ns; /* … and of its last */
    struct http_loop *loop;
    void *user; /* the handler's own, NULL at first */
};

/* First header of that name (any case); NULL if there is none. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Value of a query parameter, decoded, into `value` (`size` bytes with the NUL). False if it is absent, does
 * not fit, or is badly escaped. */
bool http_request_query(const struct http_request *request, const char *name, char *value, size_t size);
/* The client has gone: the reply must still be made, and goes nowhere. Any thread. */
bool http_request_is_gone(const struct http_request *request);
/* Call `function` on the loop's thread as soon as the client closes its connection (one that only shut down
 * its sending side still gets its reply). Loop's thread only. Not called once a whole reply was made or
 * http_respond_end or http_respond_abort was called. A second call replaces the first, NULL removes it. A
 * reader of the body hears of it first, by end(false).
 *
 * TCP tells the two apart only when something is sent. Where nothing harmless can be (HTTP/1.0 clients, and
 * replies in pieces that are not chunked), the next write does it. */
void http_request_on_gone(struct http_request *request, void (*function)(void *context), void *context);

/* ---- Bodies of requests in pieces: for requests that `admit` let in with HTTP_ADMIT_STREAM
 * ----------------------------------------------------------------------------------------------- */

/* Called on the loop's thread, and never from within http_request_read_body or http_request_pause_body. */
struct http_body_reader {
    /* The next bytes, size > 0; valid during the call. */
    void (*piece)(void *context, const void *bytes, size_t size);
    /* Once, at the end. False: the client has gone, stalled for body_stall_ms, or sent something malformed; a
     * client that is still there is owed a reply. */
    void (*end)(void *context, bool complete);
    void *context;
};

/* Begin to read the body. Loop's thread only, at most once for a request, before its reply. A client that
 * sent Expect: 100-continue is told to go on with this call. Once a reply was made or begun the reader is not
 * called any more: what is left of the body is not read, and the connection closes after the reply. */
void http_request_read_body(struct http_request *request, const struct http_body_reader *reader);
/* Stop and resume the reader, and with it the client, which has no deadline meanwhile. Loop's thread only. */
void http_request_pause_body(struct http_request *request, bool paused);

/* ---- Replies
 * ----------------------------------------------------------------------------------------------- */

/* Reply to a request, exactly once, from any thread; the request is gone for the caller with this call. Takes
 * over one reference of `body` (NULL: empty). Headers are copied; Content-Length, Date and Connection are
 * added here and must not be among them. A header with a control character in it is left out. */
void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  int header_count, struct http_body *body);
/* The usual one: a content type and bytes, which are copied. */
void http_respond_bytes(struct http_request *request, int status, const char *content_type, const void *bytes,
                        size_t size);
/* {"error":"…"} with the status of the error's code. 503 and 429 carry Retry-After: 1. */
void http_respond_error(struct http_request *request, const struct error *error);

/* ---- Replies in pieces: all of it on the loop's thread of the request
 *
 * http_respond_begin, then http_respond_write as often as there is something to send, then http_respond_end
 * or http_respond_abort, with which the request is gone for the caller. None of these calls the handler back.
 *
 * The socket is written to before the loop waits for events again, so pieces leave at once, and pieces of the
 * same moment together. What the socket does not take is copied and waits in memory: a handler that can
 * produce faster than clients read looks at http_respond_pending, stops above LIMIT_OUTPUT_HIGH_BYTES, and
 * goes on when on_writable is called. A client that takes no byte of what is pending for write_timeout_ms is
 * dropped, and so is one that takes less than LIMIT_REPLY_RATE; while nothing is pending there is no
 * deadline. */

/* Send the head. Headers as for http_respond. `length`: bytes of the body that will follow; -1: not known,
 * the body is then chunked, or for HTTP/1.0 lasts until the connection closes. HEAD, 204 and 304 have no
 * body: what is written for them is left out. False: the client has gone; end or abort must still be called.
 */
bool http_respond_begin(struct http_request *request, int status, const struct http_header *headers,
                        int header_count, int64_t length);
/* Send bytes of the body; they are copied as far as they cannot be sent now. False: the client has gone, or
 * these are more than the announced length; nothing is sent then, and end or abort must still be called. */
bool http_respond_write(struct http_request *request, const void *bytes, size_t size);
/* Bytes that the socket has not taken yet. */
size_t http_respond_pending(const struct http_request *request);
/* Call `function` each time that pending bytes fall under LIMIT_OUTPUT_LOW_BYTES after they were over
 * LIMIT_OUTPUT_HIGH_BYTES. NULL removes it. */
void http_respond_on_writable(struct http_request *request, void (*function)(void *context), void *context);
/* The body is complete. With less than the announced length it is http_respond_abort. */
void http_respond_end(struct http_request *request);
/* End the reply so that the client sees that it is not complete: what is pending is sent, then the connection
 * closes without the last chunk, or is reset where the framing could not tell. Before http_respond_begin:
 * close the connection without a reply. */
void http_respond_abort(struct http_request *request);

/* "OK" for 200 …; "Unknown" for a status without a name here. */
const char *http_status_text(int status);

/* ---- Server
 * ------------------------------------------------------------------------------------------------ */

struct http_server;

enum http_admission {
    HTTP_ADMIT_WHOLE,    /* `handle` is called when the whole body is here, within body_limit */
    HTTP_ADMIT_STREAM,   /* `handle` is called at once and reads the body itself (http_request_read_body);
                            body_limit and body_timeout_ms do not apply */
    HTTP_ADMIT_ANSWERED, /* a reply was made (401, 404, 413 …); the body is never read */
};

/* Zero means the default in brackets, everywhere. */
struct http_server_options {
    /* Handle a request; on its loop's thread. Must lead to a reply: http_respond, or http_respond_begin and
     * http_respond_end. */
    void (*handle)(void *context, struct http_request *request);
    /* Optional; without it every request is HTTP_ADMIT_WHOLE. The head is here, the body is not
     * (request->body is NULL). Malformed requests do not come this far. */
    enum http_admission (*admit)(void *context, struct http_request *request);
    /* Optional. A request that came as far as `admit` cannot be handled because of its body (400, 408, 413,
     * 503): it must be replied to at once. Without it, and for malformed heads, the server replies itself. */
    void (*refuse)(void *context, struct http_request *request, int status, const char *reason);
    /* Optional. A reply was handed to the kernel or given up: for access logs and metrics. `request` is valid
     * for reading during the call. `body_bytes` of the reply's body were sent; `cut`: not the whole reply was
     * (http_request_is_gone tells whether the client left). Also called for refusals made here (400, 408,
     * 413, 431 …) where a request line was read; other malformed requests come as NULL. */
    void (*done)(void *context, const struct http_request *request, int status, size_t body_bytes, bool cut);
    void *context;

    size_t header_limit;   /* [LIMIT_HEADER_BYTES] request line and headers -> 431 */
    int header_lines;      /* [LIMIT_HEADER_LINES] … of so many lines -> 431 */
    size_t body_limit;     /* [LIMIT_BODY_BYTES] -> 413, before the body is read if Content-Length tells */
    int connection_limit;  /* [20000] beyond it new connections are closed at once */
    int header_timeout_ms; /* [10000] from a request's first byte to its last header -> 408 */
    int body_stall_ms;     /* [10000] between bytes of a body -> 408; in pieces: the reader's end(false) */
    int body_timeout_ms;   /* [120000] the whole of a body -> 408 */
    int idle_timeout_ms;   /* [75000] between requests: closed silently */
    int write_timeout_ms;  /* [30000] a client that takes no pending byte of its reply, or with this
                                much patience less than LIMIT_REPLY_RATE, is dropped */
    const char *tls_certificate, *tls_key; /* PEM files; both or none */
    const char *server_name;               /* value of Server: ["guichet"] */
};

/* The server does nothing before it listens. Strings are copied. Unless said otherwise, the functions of a
 * server are for the one thread that sets it up. */
struct http_server *http_server_create(struct http_loops *loops, const struct http_server_options *options,
                                       struct error *error);
/* address: numeric or a name ("127.0.0.1", "::", "localhost"), NULL: every address (IPv6 and IPv4). Port 0:
 * any free one. Several calls, several listeners. */
bool http_server_listen(struct http_server *server, const char *address, int port, struct error *error);
/* A listening socket from elsewhere (socket activation); the server closes it. */
bool http_server_listen_fd(struct http_server *server, int fd, struct error *error);
/* Listening sockets passed by systemd (LISTEN_FDS): how many there are; the first is 3. */
int http_inherited_sockets(void);
/* Whether every listener has an address of loopback, so that only this machine can connect. */
bool http_server_is_loopback(const struct http_server *server);
/* Port of the first listener. */
int http_server_port(const struct http_server *server);
/* Read certificate and key again, for later connections. Nothing changes on failure. Any thread. */
bool http_server_reload_tls(struct http_server *server, struct error *error);
/* Connections that are open now. Any thread. */
int http_server_connections(const struct http_server *server);
/* Stop accepting, close idle connections, finish every request that has begun to arrive, wait for that at
 * most `grace_ms`, then drop the rest. Returns when no connection is left. Not from a loop's thread. True
 * when nothing was dropped. Replies still owed afterwards may be made late: they go nowhere. */
bool http_server_stop(struct http_server *server, int grace_ms);
/* Stops (at once, when it was not yet stopped) and frees. Every request must have been replied to. NULL is
 * welcome. */
void http_server_free(struct http_server *server);
