/* The service of one language model: texts and conversations over HTTP, written by many sequences at once.
 *
 * A request's way: loop thread (http/) → workers (JSON, template, tokens) → scheduler (llm/) → its loop,
 * piece by piece. Handlers are called on loops' threads. */
#pragma once
#include "base/workers.h"
#include "http/http.h"
#include "llm/memory.h"
#include "llm/scheduler.h"
#include "server/edge/metrics.h"

struct language;

/* Zero means the default in brackets. Parts and the name are borrowed for the service's life. */
struct language_options {
    const char *path;       /* of the GGUF file */
    const char *name;       /* what the model is called */
    struct llm_sizes sizes; /* [llm/memory.h] */
    int threads;            /* of the model [all processors] */
    bool apart;             /* each client shares pages with itself alone */
    int waiting;            /* sequences that wait, beyond: 503 */
    int timeout_ms;         /* that a request waits for its turn */
    struct workers *workers;
    struct metrics *metrics;
};

/* Loads the model on a thread of its own; until that is done requests are answered with 503. */
struct language *language_create(const struct language_options *options, struct error *error);
bool language_wait_ready(struct language *language, struct error *error);
bool language_is_ready(const struct language *language);
/* After its server has stopped, and before the loops end. */
void language_free(struct language *language); /* takes NULL */
/* Of a loaded model: "stories, auto, 4 sequences of 512 tokens, loaded in 120 ms". */
const char *language_description(const struct language *language);
const char *language_precision_name(const struct language *language);
/* Of prompts that are not computed yet. */
int64_t language_queued_tokens(struct language *language);
/* Set the gauges. */
void language_update_metrics(struct language *language);

void language_chat(struct language *language, struct http_request *request);
void language_complete(struct language *language, struct http_request *request);
void language_embed(struct language *language, struct http_request *request);
void language_tokenize(struct language *language, struct http_request *request);
void language_detokenize(struct language *language, struct http_request *request);
void language_apply_template(struct language *language, struct http_request *request);
