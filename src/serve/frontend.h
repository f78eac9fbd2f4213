/* The front: the page, and each person's session. Everything else is passed on to the gateway, the only thing
 * that it knows of what lies behind. It keeps no state of its own, so any number of it may run side by side.
 *
 * All functions may be called from any thread but those of the event loops. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "http/http.h"
#include "serve/access_log.h"
#include "serve/session.h"

struct frontend;

/* Strings are borrowed for the frontend's life. */
struct frontend_options {
    const char *const *addresses; /* NULL-terminated; NULL: every address */
    int port;                     /* 0: any free one */
    const char *gateway;          /* http://host:port of the gateway, or of a single backend */
    const char *ca_file;          /* trust these for an https gateway instead of the system's */
    const char *api_key;          /* sent to the gateway for callers that bring none; NULL: none */
    bool google_identity;         /* add Google ID tokens to what goes to the gateway */
    const char *tls_certificate, *tls_key;
    enum access_log access_log;
    size_t body_limit;    /* 0: LIMIT_BODY_BYTES */
    int timeout_ms;       /* 0: 65000, a little more than the gateway's own */
    bool gateway_metrics; /* /metrics holds the gateway's, too: the one entry of a machine. Else each tier is
                             watched for itself, as what is read through several replicas goes up and down */
    struct session_keys keys;
};

/* Listening when it returns. A gateway whose name is not known yet is looked for again and again; until then
 * 502. Free before the loops. */
struct frontend *frontend_create(struct http_loops *loops, const struct frontend_options *options,
                                 struct error *error);
int frontend_port(const struct frontend *frontend);
/* Other session keys, and the TLS files read again. On failure nothing changed. */
bool frontend_reload(struct frontend *frontend, const struct session_keys *keys, struct error *error);
bool frontend_stop(struct frontend *frontend, int grace_ms);
void frontend_free(struct frontend *frontend); /* NULL is welcome */
