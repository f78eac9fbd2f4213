/* One model's service over HTTP: photos and tensors to a network, or texts and conversations to a language
 * model (language/language.h), which is loaded once.
 *
 * A request's way to a network: loop thread (http/) → fetcher (a URL only) → workers (decode, resize,
 * normalise) → batcher (the model's thread) → reply. docs/api.md has the routes. */
#pragma once
#include <stdbool.h>

#include "engine/engine.h"
#include "http/http.h"
#include "server/edge/access_log.h"
#include "server/edge/server.h"

/* Zero means the default in brackets. Strings are copied. */
struct backend_options {
    const char *model; /* what model_find takes: a name or a path, with ":variant"; NULL: the default model */
    const char *name;  /* what the model is called here [its folder's name] */
    const char *address; /* to listen on [every one] */
    int port;            /* 0: any free one */
    enum precision precision;
    int threads;           /* of the model [all processors] */
    int decode_threads;    /* [all processors, at most 16] */
    int context, parallel; /* of a language model [guichet.json, else see language/language.h] */
    const char *kv;        /* type of its cache: "bf16" or "q8_0" [guichet.json, else bf16] */
    bool prefixes_apart;   /* its clients share no computed prompts */
    int max_batch;         /* [8] */
    int max_wait_us;       /* [0] */
    int queue_limit;       /* predictions under way at once, beyond: 503 [256] */
    int timeout_ms;        /* of a request that names none in X-Request-Timeout-Ms [60000] */
    size_t body_limit;     /* [LIMIT_BODY_BYTES] */
    const char *const
        *host_names;    /* NULL-terminated: names beside those of loopback, on loopback; NULL: none */
    bool allow_private; /* photos may be fetched from private addresses */
    enum access_log log;
};

struct backend;
/* Listens at once (on sockets passed by systemd where there are any) and loads the model on its own thread.
 * Until that is done /readyz and predictions answer 503. */
struct backend *backend_create(struct http_loops *loops, const struct backend_options *options,
                               struct error *error);
/* Wait until the model has answered a first time, or could not. */
bool backend_wait_ready(struct backend *backend, struct error *error);
int backend_port(const struct backend *backend);
/* The model's name and precision and how it was loaded, for a log line: "animals, bf16, 2 threads, loaded in
 * 120 ms from its baked file", or why that file was refused and whether it was made again. */
const char *backend_description(const struct backend *backend);
/* Take nothing more, finish what began within `grace_ms`. True when nothing was dropped. */
bool backend_stop(struct backend *backend, int grace_ms);
void backend_free(struct backend *backend); /* NULL is welcome; stops first */

/* ---- For handlers; any thread ---- */

const char *backend_name(const struct backend *backend);
/* The network. NULL before it is loaded; immutable from then on. NULL, too, where there is a language model.
 */
struct model *backend_model(const struct backend *backend);
/* NULL: there is a network. */
struct language *backend_language(const struct backend *backend);
bool backend_is_ready(const struct backend *backend);
const struct service *backend_service(const struct backend *backend);
