/* What every tier that stands for models tells of itself: greeting, health, listings, metrics. A tier fills
 * in a `struct service`; the handlers here answer from it, so that the same path gives the same body
 * everywhere. Handlers run on loops' threads; the functions of a service must not block. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buffer.h"
#include "http/http.h"
#include "model/name.h"

/* What a model's answers mean, and where that comes from: a file and field, or what is assumed. "": not
 * known, it was not loaded yet. */
struct model_meaning {
    char kind[12]; /* "classifier", "tensor" (any other network) or "language" */
    char preprocessing[128], labels[128];
    char head[128], head_source[128];  /* how scores become probabilities, or why there are none */
    bool independent;                  /* each label has a probability of its own */
    char title[128], description[400]; /* of its guichet.json */
};

/* What a listing says of a model. */
struct model_status {
    char name[MODEL_NAME_BYTES];
    char state[12];     /* "ready", "starting", "stopped", "failed", "unloaded" */
    char precision[16]; /* "" unknown */
    int64_t bytes;      /* of its files; 0: unknown */
    double typical_ms;  /* of a prediction; 0: none was made yet */
    char reason[480];   /* why it failed; "" else */
    struct model_meaning meaning;
};

/* The meaning out of an entry of /models?details=1; what is missing is "". */
void model_meaning_read(const json_t *entry, struct model_meaning *ret);

/* What a backend tells a gateway that checks it. */
struct service_load {
    const char *kind; /* of its model; "": not known yet */
    int64_t queued_tokens;
};

struct service {
    void *context;
    /* Optional. */
    void (*find_load)(void *context, struct service_load *ret);
    /* Requests can be answered now. */
    bool (*is_ready)(void *context);
    /* The models that the caller of `request` may use, the default one first: malloc'ed, *ret_count of them;
     * NULL when memory is out. `details`: more than the names is wanted. */
    struct model_status *(*list_models)(void *context, const struct http_request *request, bool details,
                                        size_t *ret_count);
    /* Prometheus text. False when memory is out. */
    bool (*write_metrics)(void *context, struct buffer *text);
};

void service_hello(const struct service *service, struct http_request *request);
void service_live(const struct service *service, struct http_request *request);
void service_ready(const struct service *service, struct http_request *request);
void service_metrics(const struct service *service, struct http_request *request);
void service_models(const struct service *service, struct http_request *request);
void service_openai_models(const struct service *service, struct http_request *request);
void service_v2(const struct service *service, struct http_request *request);
void service_v2_models(const struct service *service, struct http_request *request);
void service_v2_index(const struct service *service, struct http_request *request);
