/* HTTP/1.1 client for servers that the operator named: gateway to backends, frontend to gateway, health
 * checks. (URLs that strangers give are for fetch.h.) Works on the event loops of http.h, keeps connections
 * open, never blocks.
 *
 * An upstream is one server. Each loop has its own pool of connections to it, so a call needs no lock: it is
 * started and cancelled on one loop's thread, and calls back there.
 *
 * Responses come whole (`done` gets the body), or in pieces (`head`, then `piece` for every run of bytes,
 * then `done`). Request bodies are given whole, or in pieces with http_call_write. A response may arrive
 * before the request's body is finished; interim responses (1xx) are skipped. */
#pragma once
#include "base/url.h"
#include "http/http.h"

struct http_upstream;
struct http_call;

/* Zero means the default in brackets. */
struct http_upstream_options {
    const struct url *url; /* as url_parse_base has it; copied; its path is a prefix of every call's target */
    const char *address;   /* connect to this numeric address and look no name up: the URL's host is then used
                              only for the Host header and TLS; NULL: the URL's host */
    const char *ca_file;   /* https: trust these (PEM) instead of the system's */
    int connect_timeout_ms; /* [1000] */
    int idle_timeout_ms; /* [30000] an idle connection is closed after so long (keep it under the server's) */
    int idle_limit;      /* [64] idle connections kept for each loop */
    size_t response_limit; /* [64 MiB] bytes of a whole response's body; no limit for one in pieces */
};

/* Never waits: a host in numbers is known at once, a name is looked up on another thread, and calls made
 * before it is known fail with HTTP_FAILED_CONNECT. Errors: ERROR_MEMORY; ERROR_IO for the certificates. */
struct http_upstream *http_upstream_create(struct http_loops *loops,
                                           const struct http_upstream_options *options, struct error *error);
/* Look the name up again, on another thread; later connections use the result. Does nothing while a look-up
 * is under way; one that fails leaves what was known. Any thread. */
void http_upstream_resolve(struct http_upstream *upstream);
/* Whether an address is known. If not: ERROR_UNAVAILABLE while the look-up is under way, ERROR_UPSTREAM with
 * the reason when it failed. Any thread. */
bool http_upstream_known(struct http_upstream *upstream, struct error *error);
/* Any thread. Calls in flight are completed; idle connections are closed. NULL is welcome. */
void http_upstream_free(struct http_upstream *upstream);

enum http_failure {
    HTTP_COMPLETE,         /* the whole response is here, whatever its status */
    HTTP_FAILED_CONNECT,   /* refused, unreachable, TLS, connect timeout: the request was never sent */
    HTTP_FAILED_CLOSED,    /* the connection ended before the first byte of a response */
    HTTP_FAILED_BROKEN,    /* … or in the middle of one */
    HTTP_FAILED_TIMEOUT,   /* one of the call's own deadlines */
    HTTP_FAILED_PROTOCOL,  /* a response that is malformed */
    HTTP_FAILED_TOO_LARGE, /* over response_limit */
    HTTP_FAILED_MEMORY,
};

struct http_response {
    enum http_failure failure;
    bool reused; /* sent on a connection that had served before: HTTP_FAILED_CLOSED is then no sign of ill
                    health */
    int status;  /* 0 without a response (in pieces: without its head) */
    const struct http_header *headers; /* valid during the callback */
    int header_count;
    int64_t content_length; /* what Content-Length says, for HEAD and 304 too; -1: it is not there */
    struct http_body *body; /* valid during the callback; take a reference to keep or pass it on; NULL unless
                               the response is whole */
    const char *reason;     /* a few words for a log; "" for HTTP_COMPLETE */
};

struct http_call_options {
    const char *method; /* "GET", "POST" … */
    const char *target; /* path and query, already escaped: "/predict?top=3" */
    const struct http_header
        *headers; /* copied. Host (unless among them), Content-Length and Connection are added; hop-by-hop
                     ones (see http_header_is_hop_by_hop) and Content-Length are left out if they are here */
    int header_count;
    struct http_body *body; /* the call takes its own reference; NULL: none */
    bool body_in_pieces;    /* the body comes by http_call_write and http_call_finish instead */
    int64_t body_length;    /* … and is so long; -1: not known, it is sent chunked */

    int timeout_ms; /* from now to the last byte; 0: 60000 for a whole response, none for one in pieces */
    int first_byte_timeout_ms; /* from now, or the last byte of the request that the upstream took, to the
                                  response's head; 0: none. Not counted while it waits for http_call_write */
    int silence_timeout_ms;    /* between bytes after the head; 0: none */

    /* All on the loop's thread, and never from within a function of a call: always from the loop.
     * http_call_cancel may be called from within any but `done`. */
    void (*head)(void *context, const struct http_response *response); /* NULL: the response comes whole */
    void (*piece)(void *context, const void *bytes, size_t size);      /* size > 0; valid during the call */
    void (*writable)(void *context); /* optional: http_call_pending fell under LIMIT_OUTPUT_LOW_BYTES after it
                                        was over LIMIT_OUTPUT_HIGH_BYTES */
    /* Exactly once, at the end. In pieces: HTTP_COMPLETE, or what broke the response. One that ends before
     * its last chunk or its Content-Length is HTTP_FAILED_BROKEN; without either it ends when the connection
     * closes. */
    void (*done)(void *context, const struct http_response *response);
    void *context;
};

/* Start a call on the loop whose thread this is. Never NULL: failures come to `done` (unless memory is out:
 * NULL, and no `done`). The call is gone after `done`. */
struct http_call *http_call_start(struct http_upstream *upstream, struct http_loop *loop,
                                  const struct http_call_options *options);
/* Give up, on the same loop's thread, before `done`, which will then not be called. The connection is reset,
 * so that the upstream notices at once. NULL is welcome. */
void http_call_cancel(struct http_call *call);

/* Stop and resume reading the response. A paused call has no first-byte and silence timeouts. An upstream
 * that dies meanwhile is noticed when reading resumes. Same thread. */
void http_call_pause(struct http_call *call, bool paused);

/* Send bytes of a body in pieces; they are copied as far as they cannot be sent now. Same thread. False: they
 * were not taken, because the connection has failed (`done` will say so, or bring a response that came
 * first) or they are more than body_length. */
bool http_call_write(struct http_call *call, const void *bytes, size_t size);
/* Bytes of the request that the socket has not taken yet. */
size_t http_call_pending(const struct http_call *call);
/* The body is complete. With less than body_length the call fails with HTTP_FAILED_CLOSED. */
void http_call_finish(struct http_call *call);

/* Connection, Keep-Alive, TE, Trailer, Transfer-Encoding, Upgrade, Proxy-*, Expect: not to be passed on by a
 * proxy. Headers that Connection names must be left out besides. */
bool http_header_is_hop_by_hop(const char *name);
