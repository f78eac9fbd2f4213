/* The options of a model's process. `guichet backend` has them for itself; `guichet serve` has the same, and
 * passes them on to the process of each model. One thread. */
#pragma once
#include "cli/cli.h"
#include "server/backend/backend.h"

/* As they were typed; zero: not given. */
struct prediction_arguments {
    const char *precision, *body_limit, *memory_budget, *kv, *prefix_sharing;
    int max_batch, queue, context, parallel;
    double max_wait_ms, timeout_s;
    bool private_urls;
};

/* Their rows of an option table. (--body-limit and --memory-budget are a server's, too, and each verb has
 * rows of its own.) */
#define PREDICTION_SPECS(arguments)                                          \
    {"precision", OPTION_TEXT, &(arguments)->precision, 0, 0},               \
        {"max-batch", OPTION_INT, &(arguments)->max_batch, 1, 256},          \
        {"context", OPTION_INT, &(arguments)->context, 1, 1 << 24},          \
        {"parallel", OPTION_INT, &(arguments)->parallel, 1, 1024},           \
        {"kv", OPTION_TEXT, &(arguments)->kv, 0, 0},                         \
        {"prefix-sharing", OPTION_TEXT, &(arguments)->prefix_sharing, 0, 0}, \
        {"max-wait", OPTION_REAL, &(arguments)->max_wait_ms, 0, 10000},      \
        {"queue", OPTION_INT, &(arguments)->queue, 1, 100000},               \
        {"timeout", OPTION_REAL, &(arguments)->timeout_s, 0.01, 86400}, {    \
        "allow-private-urls", OPTION_FLAG, &(arguments)->private_urls, 0, 0  \
    }

/* … and their lines of help. */
#define PREDICTION_HELP                                                                                      \
    "  --precision P         auto, f32 or bf16 (auto)\n"                                                     \
    "  --max-batch N         most photos, or rows of tensors, per run of the network (8)\n"                  \
    "  --max-wait MS         longest time a request waits for others to share its run (0)\n"                 \
    "  --queue N             most predictions under way; more get 503 with Retry-After (256)\n"              \
    "  --timeout SECONDS     time limit of a prediction, queueing included (60)\n"                           \
    "  --allow-private-urls  fetch photos from private addresses, too\n"                                     \
    "  --context N           of a language model: tokens of a text with its answer (the model's own,\n"      \
    "                        at most 4096)\n"                                                                \
    "  --parallel N          … texts that are written at once; more wait (4)\n"                            \
    "  --kv TYPE             … how keys and values are kept: f16, bf16 or q8_0 (f16)\n"                    \
    "  --prefix-sharing P    … shared: what one prompt has computed serves all that begin alike; apart:\n" \
    "                        only those of the same caller and user (shared)\n"

/* Interpret them, into the fields of *ret that they are about; any error is a usage error. */
bool prediction_finish(const struct prediction_arguments *arguments, struct backend_options *ret,
                       struct error *error);
/* The words that give `guichet backend` the same options: each name, and its value as a word of its own. */
#define PREDICTION_OPTIONS 12
struct prediction_words {
    const char *words[2 * PREDICTION_OPTIONS + 1]; /* NULL-terminated */
    char names[PREDICTION_OPTIONS][24], values[PREDICTION_OPTIONS][32];
};
void prediction_write_words(const struct prediction_arguments *arguments, struct prediction_words *ret);
