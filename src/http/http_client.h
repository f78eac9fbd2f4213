/* HTTP/1.1 client for the tiers' own use: gateway to backends, frontend to gateway, health checks. (Photos at
 * strangers' addresses are fetch.h's.) Works on the event loops of http.h, keeps connections open, never
 * blocks.
 *
 * An upstream is one server's address. Each loop has its own pool of connections to it, so a call needs no
 * lock: it is made, answered and cancelled on one loop's thread. Answers are whole: an upstream that dies in
 * the middle of one is a failure that the caller may repeat elsewhere. */
#pragma once
#include "http/http.h"

struct http_upstream;
struct http_call;

/* Zero means the default in brackets. */
struct http_upstream_options {
    const char *url;     /* "http://host:port" or "https://host"; a path is a prefix of every call's target */
    const char *address; /* connect to this one, in numbers, and look no name up: the URL's host is then only
                            who answers there (the Host header, TLS); NULL: the URL's host */
    const char *ca_file; /* https: trust these (PEM) instead of the system's */
    int connect_timeout_ms; /* [1000] */
    int idle_timeout_ms; /* [30000] an idle connection is closed after so long (keep it under the server's) */
    int idle_limit;      /* [64] idle connections kept, a loop */
    size_t answer_limit; /* [64 MiB] bytes of an answer's body */
};

/* ERROR_INVALID for an address that is none. Never waits: a host in numbers is known at once, a name is
 * looked up beside, and calls made before it is known fail with HTTP_FAILED_CONNECT. */
struct http_upstream *http_upstream_create(struct http_loops *loops,
                                           const struct http_upstream_options *options, struct error *error);
/* Look the name up again, beside; new connections use what it says then. A look-up that is still under way is
 * not begun twice, and one that fails leaves what was known. Any thread. */
void http_upstream_resolve(struct http_upstream *upstream);
/* Whether an address is known. ERROR_UPSTREAM says why not. Any thread. */
bool http_upstream_known(struct http_upstream *upstream, struct error *error);
/* From any thread. Calls in flight go on and are answered; idle connections are closed. NULL is welcome. */
void http_upstream_free(struct http_upstream *upstream);

enum http_failure {
    HTTP_ANSWERED,         /* a whole answer is here, whatever its status */
    HTTP_FAILED_CONNECT,   /* refused, unreachable, TLS, connect timeout: the request was never sent */
    HTTP_FAILED_CLOSED,    /* the connection ended before the first byte of an answer */
    HTTP_FAILED_BROKEN,    /* … or in the middle of one */
    HTTP_FAILED_TIMEOUT,   /* the call's own deadline */
    HTTP_FAILED_PROTOCOL,  /* an answer that is no HTTP */
    HTTP_FAILED_TOO_LARGE, /* over answer_limit */
    HTTP_FAILED_MEMORY,
};

struct http_answer {
    enum http_failure failure;
    bool reused; /* sent on a connection that had served before: HTTP_FAILED_CLOSED is then no sign of ill
                    health */
    int status;  /* 0 unless answered */
    const struct http_header *headers; /* valid during the callback */
    int header_count;
    struct http_body
        *body; /* valid during the callback; take a reference to keep or pass it on; NULL unless answered */
    const char *reason; /* a few words for a log; "" when answered */
};

struct http_call_options {
    const char *method; /* "GET", "POST" … */
    const char *target; /* path and query, already escaped: "/predict?top=3" */
    const struct http_header
        *headers; /* copied. Host (unless among them), Content-Length and Connection are added; hop-by-hop
                     ones (see http_header_is_hop_by_hop) and Content-Length are left out if they are here */
    int header_count;
    struct http_body *body; /* the call takes its own reference; NULL: none */
    int timeout_ms;         /* from now to the last byte; 0: 60000 */
    void (*done)(void *context, const struct http_answer *answer); /* on the loop's thread, exactly once,
                                                                      never from within http_call_start */
    void *context;
};

/* Start a call on the loop whose thread this is. Never NULL: failures come to `done` (unless memory is out:
 * NULL, and no `done`). The call is gone after `done`. */
struct http_call *http_call_start(struct http_upstream *upstream, struct http_loop *loop,
                                  const struct http_call_options *options);
/* Give up, on the same loop's thread, before `done`, which will then not be called. NULL is welcome. */
void http_call_cancel(struct http_call *call);

/* Connection, Keep-Alive, TE, Trailer, Transfer-Encoding, Upgrade, Proxy-*, Expect: not to be passed on by a
 * proxy. Headers that Connection names must be left out besides. */
bool http_header_is_hop_by_hop(const char *name);
