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

#include "base/error.h"

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
/* Run `function(context)` soon on the loop's thread. Any thread. Out of memory ends in false and nothing is
 * run. */
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

/* Bytes shared by reference: what arrived in a request can be sent on, and an answer passed back, without a
 * copy. Counting is atomic; the bytes are immutable once somebody else holds a reference. */
struct http_body {
    size_t size;
    char *bytes; /* followed by a NUL that does not count */
    _Atomic int references;
    size_t capacity; /* private to body.c */
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

enum http_method {
    HTTP_GET,
    HTTP_HEAD, /* handlers answer it as GET; the body is left out for them */
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
    const char *query;                 /* behind the '?', not decoded; "" where there is none */
    const struct http_header *headers; /* as sent, in order, hop-by-hop ones included */
    int header_count;
    struct http_body *body; /* never NULL in a handler; size 0 where there is none */
    const char *peer;       /* numeric address of the client, without port: "127.0.0.1" */
    bool secure;            /* came over TLS */
    int minor_version;      /* 0 or 1 */
    int64_t started_ns;     /* clock_ns() of its first byte */
    int64_t received_ns;    /* … and of its last */
    struct http_loop *loop;
    void *user; /* the handler's own, NULL at first */
};

/* First header of that name (any case); NULL where there is none. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Value of a query parameter, decoded, into `value` (`size` bytes with the NUL). False where it is absent,
 * does not fit, or is badly escaped. */
bool http_request_query(const struct http_request *request, const char *name, char *value, size_t size);
/* The client has gone: nobody will read the reply. Any thread. The reply must still be made. */
bool http_request_is_gone(const struct http_request *request);
/* Call `function` on the loop's thread as soon as the client goes. Loop's thread only; once a reply was made
 * it is not called any more. One a request: a second call replaces the first, NULL removes it. */
void http_request_on_gone(struct http_request *request, void (*function)(void *context), void *context);

/* ---- Replies
 * ----------------------------------------------------------------------------------------------- */

/* Answer a request, exactly once, from any thread; the request is gone for the caller with this call. Takes
 * over one reference of `body` (NULL: empty). Headers are copied; Content-Length, Date and Connection are
 * added here and must not be among them. A header with a control character in it is left out. */
void http_reply(struct http_request *request, int status, const struct http_header *headers, int header_count,
                struct http_body *body);
/* The usual one: a content type and bytes, which are copied. */
void http_reply_bytes(struct http_request *request, int status, const char *content_type, const void *bytes,
                      size_t size);
/* {"error": "…"} with the status that stands for the error's code. 503 and 429 carry Retry-After: 1. */
void http_reply_error(struct http_request *request, const struct error *error);
/* 405 with Allow. `allow`: "GET, POST". */
void http_reply_method_not_allowed(struct http_request *request, const char *allow);

/* "OK" for 200 …; "Unknown" for what nobody names. */
const char *http_status_text(int status);

/* ---- Server
 * ------------------------------------------------------------------------------------------------ */

struct http_server;

/* Zero means the default in brackets, everywhere. */
struct http_server_options {
    /* A whole request is here; on its loop's thread. Must lead to http_reply. */
    void (*handle)(void *context, struct http_request *request);
    /* Optional. The head is here, the body is not (request->body is NULL): true to go on; false when it has
     * replied already (401, 404, 413 …), and the body is then never read. Requests that are malformed never
     * come this far. */
    bool (*admit)(void *context, struct http_request *request);
    /* Optional. A reply was handed to the kernel or given up: for access logs and metrics. `request` is valid
     * for reading during the call. Also called for refusals made here (400, 408, 413, 431 …) where a request
     * line was read; other malformed ones come with request == NULL. */
    void (*done)(void *context, const struct http_request *request, int status, size_t body_bytes, bool gone);
    void *context;

    size_t header_limit;     /* [LIMIT_HEADER_BYTES] request line and headers -> 431 */
    size_t body_limit;       /* [LIMIT_BODY_BYTES] -> 413, before it is read where Content-Length tells */
    size_t body_total_limit; /* [1 GiB] request bodies in memory at once, all connections -> 503 */
    int connection_limit;    /* [20000] beyond it new connections are closed at once */
    int header_timeout_ms;   /* [10000] from a request's first byte to its last header -> 408 */
    int body_stall_ms;       /* [10000] no byte of a body for so long -> 408 */
    int body_timeout_ms;     /* [120000] the whole of a body -> 408 */
    int idle_timeout_ms;     /* [75000] between requests: closed silently */
    int write_timeout_ms;    /* [30000] a client that takes no byte of its reply for so long is dropped */
    const char *tls_certificate, *tls_key; /* PEM files; both or none */
    const char *server_name;               /* value of Server: ["guichet"] */
};

/* The server does nothing before it listens. Strings are copied. */
struct http_server *http_server_create(struct http_loops *loops, const struct http_server_options *options,
                                       struct error *error);
/* address: numeric or a name ("127.0.0.1", "::", "localhost"), NULL: every address (IPv6 and IPv4). Port 0:
 * any free one. Several calls, several listeners. */
bool http_server_listen(struct http_server *server, const char *address, int port, struct error *error);
/* A listening socket from elsewhere (socket activation); the server closes it. */
bool http_server_listen_fd(struct http_server *server, int fd, struct error *error);
/* Listening sockets passed by systemd (LISTEN_FDS): how many there are, first is 3. 0 where there are none.
 */
int http_inherited_sockets(void);
/* Port of the first listener. */
int http_server_port(const struct http_server *server);
/* Read certificate and key again; new connections use them. Nothing changes on failure. Any thread. */
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
