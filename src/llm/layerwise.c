#include "llm/layerwise.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "llm/context_internal.h"

/* Places and embeddings for a text by itself. */
static bool begin(struct llm_context *context, const int32_t *tokens, int count,
                  struct llm_sequence *sequence, struct error *error) {
    size_t wanted;
    cleanup(freep) struct llm_row *rows = calloc(count > 0 ? (size_t)count : 1, sizeof *rows);
    if (!rows)
        return error_set(error, ERROR_MEMORY, "not enough memory to run %d tokens", count);

    for (int i = 0; i < count; i++)
        rows[i] = (struct llm_row){sequence, tokens ? tokens[i] : 0, .is_prompt = true};
    return llm_context_begin(context, rows, count, &wanted, error);
}

static size_t bytes_of(const struct llm_context *context, int count) {
    return (size_t)count * (size_t)llm_model_config(context->model)->width * sizeof(float);
}

bool llm_context_embed(struct llm_context *context, const int32_t *tokens, int count, float *ret,
                       struct error *error) {
    struct llm_sequence sequence = {0};
    bool done = begin(context, tokens, count, &sequence, error);
    if (done)
        memcpy(ret, context->x, bytes_of(context, count));
    llm_sequence_release(context, &sequence);
    return done;
}

bool llm_context_run_layer(struct llm_context *context, int layer, float *x, int count,
                           const struct llm_tap *tap, struct error *error) {
    struct llm_sequence sequence = {0};
    bool done = begin(context, NULL, count, &sequence, error);
    if (done) {
        memcpy(context->x, x, bytes_of(context, count));
        context->tap = tap;
#pragma omp parallel num_threads(context->threads)
        llm_layer_run(context, layer, count, context->scratch[omp_get_thread_num()]);
        context->tap = NULL;
        memcpy(x, context->x, bytes_of(context, count));
    }
    llm_sequence_release(context, &sequence);
    return done;
}

int llm_tensor_layer(const struct gguf_tensor *tensor) {
    const char *name = tensor->name.bytes;
    if (tensor->name.size < 6 || memcmp(name, "blk.", 4) != 0)
        return -1;

    int layer = 0;
    for (size_t i = 4; i < tensor->name.size && name[i] >= '0' && name[i] <= '9' && layer < 100000; i++)
        layer = 10 * layer + name[i] - '0';
    return layer;
}
