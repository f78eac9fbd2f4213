/* What a context holds. Used inside llm/ only: context.c makes it and brings rows in, layers.c runs
 * them, layerwise.c one layer at a time. */
#pragma once
#include "linear/linear.h"
#include "llm/context.h"
#include "llm/layerwise.h"
#include "llm/model_internal.h"

/* One row's place in its sequence. */
struct row_place {
    const int32_t *pages;
    int64_t position;
};

enum { LLM_BLOCK_ROWS = 8 };

/* Rows [first, first + count) are neighbours in one sequence: attention takes them together. */
struct row_block {
    int first, count;
};

struct llm_context {
    const struct llm_model *model;
    struct kv_cache *cache;
    struct kv_pool *pool; /* of its pages */
    struct arena *arena;  /* has all that follows */
    int rows, threads;
    int64_t positions, longest;
    /* Activations before products; NULL: products are exact. */
    struct linear_input *in, *between, *down, *last_in;
    int *slots;               /* [rows]: where a row of the run is below; prompts come first */
    int prompts;              /* of the run */
    struct row_place *places; /* [rows] */
    struct row_block *blocks; /* [block_count] */
    int block_count;
    /* [rows, …] */
    float *x, *normed, *query, *key, *value, *attended, *gate, *up, *added;
    float *cosines, *sines, *local_cosines, *local_sines;
    float *last;   /* [rows, width]: of those that want logits, as they came */
    float *logits; /* [logit_rows, vocabulary]; grows */
    size_t logit_rows;
    float **scratch; /* [threads] */
    double times[LLM_PARTS];
    const struct llm_tap *tap; /* gets the inputs of products; may be NULL */
};

/* Before the layers: places of the rows, their angles, and their embeddings in context->x. */
bool llm_context_begin(struct llm_context *context, const struct llm_row *rows, int count, size_t *ret_wanted,
                       struct error *error);
/* One layer, from context->x to context->x. As llm_layers_run. */
void llm_layer_run(struct llm_context *context, int layer, int count, float *scratch);

/* All layers, then the logits of `wanted` rows, which gather_rows has put into context->last. Called by every
 * thread of the team. */
void llm_layers_run(struct llm_context *context, const struct llm_row *rows, int count, int64_t wanted,
                    float *scratch);
