/* The layers of a decoder. All functions are called by every thread of an OpenMP team, which shares rows,
 * blocks of rows and rows of weights; what one makes is there for all when it returns. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/clock.h"
#include "linear/attention.h"
#include "llm/context_internal.h"

/* What a thread knows while it runs. */
struct run {
    struct llm_context *context;
    const struct llm_config *config;
    int rows;
    float *scratch;
    double since; /* the part that runs began */
};

/* A part is done: its time is the first thread's. */
static void note(struct run *run, enum llm_part part) {
    if (omp_get_thread_num() != 0)
        return;
    double now = clock_ms();
    run->context->times[part] += (now - run->since) / 1000;
    run->since = now;
}

/* --- Products ------------------------------------------------------------------------------------------- */

static struct linear_product product(const struct llm_linear *linear, float *y) {
    return (struct linear_product){&linear->weights, linear->bias, y};
}

/* Products of the rows x, or of what they were prepared to. */
static void multiply(struct run *run, const struct linear_input *input, const float *x, int64_t rows,
                     const struct linear_product *products, int count) {
    if (input)
        linear_multiply_input(input, products, count, run->scratch);
    for (int i = 0; !input && i < count; i++)
        linear_multiply(products[i].weights, x, rows, products[i].bias, products[i].y, run->scratch);
}

static void prepare(const struct linear_input *input, int64_t row) {
    if (input)
        linear_input_prepare(input, row);
}

/* --- Rows ----------------------------------------------------------------------------------------------- */

/* x += what a branch gave (NULL: none yet), normed where the family does so; then the norm before the next
 * branch. */
static void join_and_norm(struct run *run, const float *added, const float *after, const float *scale) {
    struct llm_context *context = run->context;
    int64_t width = run->config->width;

#pragma omp for schedule(static)
    for (int row = 0; row < run->rows; row++) {
        float *x = context->x + row * width;
        if (added) {
            float *from = context->added + row * width;
            if (after)
                row_rms_norm(from, width, after, run->config->epsilon, from);
            for (int64_t i = 0; i < width; i++)
                x[i] += from[i];
        }
        if (scale) {
            row_rms_norm(x, width, scale, run->config->epsilon, context->normed + row * width);
            prepare(context->in, row);
        }
    }
    note(run, LLM_ROWS);
}

/* Turn the first components of a head by the row's angles (RoPE, Su et al. 2021). */
static void turn_head(float *head, const float *cosines, const float *sines, int size, bool halves) {
    for (int i = 0; i < size / 2; i++) {
        float *a = halves ? head + i : head + 2 * i, *b = halves ? head + i + size / 2 : head + 2 * i + 1;
        float x = *a, y = *b;

        *a = x * cosines[i] - y * sines[i];
        *b = x * sines[i] + y * cosines[i];
    }
}

/* A row's heads, normed (NULL: not) and turned. */
static void place_heads(const struct run *run, int layer, int64_t row, float *heads, int count,
                        const float *norm) {
    const struct llm_config *config = run->config;
    const struct llm_context *context = run->context;
    bool local = llm_config_is_local(config, layer);
    int64_t at = row * (config->rope_size / 2);

    for (int head = 0; head < count; head++) {
        float *from = heads + head * config->key_size;
        if (norm)
            row_rms_norm(from, config->key_size, norm, config->epsilon, from);
        if (llm_config_is_turned(config, layer))
            turn_head(from, (local ? context->local_cosines : context->cosines) + at,
                      (local ? context->local_sines : context->sines) + at, config->rope_size,
                      config->family->rope_halves);
    }
}

/* Queries and keys to their positions; keys and values to the cache. */
static void remember(struct run *run, int index) {
    struct llm_context *context = run->context;
    const struct llm_config *config = run->config;
    const struct llm_layer *layer = &context->model->weights.layers[index];

#pragma omp for schedule(static)
    for (int row = 0; row < run->rows; row++) {
        float *keys = context->key + (int64_t)row * config->kv_heads * config->key_size,
              *values = context->value + (int64_t)row * config->kv_heads * config->value_size;

        place_heads(run, index, row, context->query + (int64_t)row * config->heads * config->key_size,
                    config->heads, layer->query_norm);
        place_heads(run, index, row, keys, config->kv_heads, layer->key_norm);
        for (int head = 0; head < config->kv_heads; head++) {
            struct attention_pages pages =
                kv_cache_pages(context->cache, context->places[row].pages, index, head);
            kv_cache_store(context->cache, &pages, context->places[row].position,
                           keys + head * config->key_size, values + head * config->value_size);
        }
    }
    note(run, LLM_ROWS);
}

/* The queries of one block that look at one head of keys and values, ATTENTION_QUERIES at a time. */
static void attend_block(struct run *run, int layer, const struct row_block *block, int kv_head) {
    const struct llm_context *context = run->context;
    const struct llm_config *config = run->config;
    int64_t window = llm_config_is_local(config, layer) ? config->window : 0;
    int group = config->heads / config->kv_heads, count = 0;
    struct attention_pages pages =
        kv_cache_pages(context->cache, context->places[block->first].pages, layer, kv_head);
    struct attention_query queries[ATTENTION_QUERIES];

    for (int i = 0; i < block->count * group; i++) {
        int64_t row = block->first + i / group, head = kv_head * group + i % group,
                at = row * config->heads + head;
        int64_t position = context->places[row].position;

        queries[count++] = (struct attention_query){
            context->query + at * config->key_size, context->attended + at * config->value_size,
            window > 0 && position >= window ? position - window + 1 : 0, position};
        if (count == ATTENTION_QUERIES || i + 1 == block->count * group) {
            attention_run(kv_cache_shape(context->cache), &pages, queries, count, run->scratch);
            count = 0;
        }
    }
}

static void attend(struct run *run, int layer) {
    struct llm_context *context = run->context;

#pragma omp for schedule(dynamic) collapse(2)
    for (int block = 0; block < context->block_count; block++)
        for (int head = 0; head < run->config->kv_heads; head++)
            attend_block(run, layer, &context->blocks[block], head);
    note(run, LLM_ATTENTION);

    if (context->between) {
#pragma omp for schedule(static)
        for (int row = 0; row < run->rows; row++)
            prepare(context->between, row);
        note(run, LLM_ROWS);
    }
}

static void apply_gate(struct run *run) {
    struct llm_context *context = run->context;
    int64_t inner = run->config->inner;

#pragma omp for schedule(static)
    for (int row = 0; row < run->rows; row++) {
        row_gate(context->gate + row * inner, context->up + row * inner, inner, run->config->family->gelu);
        prepare(context->down, row);
    }
    note(run, LLM_ROWS);
}

/* --- Layers --------------------------------------------------------------------------------------------- */

static void show(const struct run *run, enum llm_input input, const float *x, int64_t inputs) {
    const struct llm_tap *tap = run->context->tap;
    if (!tap)
        return;
#pragma omp single
    tap->see(tap->data, input, x, run->rows, inputs);
}

static void run_layer(struct run *run, int index) {
    struct llm_context *context = run->context;
    const struct llm_layer *layer = &context->model->weights.layers[index];
    const struct linear_product in[] = {product(&layer->query, context->query),
                                        product(&layer->key, context->key),
                                        product(&layer->value, context->value)},
                                out = product(&layer->output, context->added),
                                up[] = {product(&layer->gate, context->gate),
                                        product(&layer->up, context->up)},
                                down = product(&layer->down, context->added);

    show(run, LLM_INPUT_ATTENTION, context->normed, run->config->width);
    multiply(run, context->in, context->normed, run->rows, in, 3);
    note(run, LLM_PRODUCTS);
    remember(run, index);
    attend(run, index);
    show(run, LLM_INPUT_OUTPUT, context->attended, (int64_t)run->config->heads * run->config->value_size);
    multiply(run, context->between, context->attended, run->rows, &out, 1);
    note(run, LLM_PRODUCTS);
    join_and_norm(run, context->added, layer->after_attention_norm, layer->mlp_norm);

    show(run, LLM_INPUT_MLP, context->normed, run->config->width);
    multiply(run, context->in, context->normed, run->rows, up, 2);
    note(run, LLM_PRODUCTS);
    apply_gate(run);
    show(run, LLM_INPUT_DOWN, context->gate, run->config->inner);
    multiply(run, context->down, context->gate, run->rows, &down, 1);
    note(run, LLM_PRODUCTS);

    bool is_last = index + 1 == run->config->layers;
    join_and_norm(run, context->added, layer->after_mlp_norm, is_last ? NULL : layer[1].attention_norm);
}

/* The rows that want logits, one after the other, normed. */
static void gather_last(struct run *run, const struct llm_row *rows) {
    struct llm_context *context = run->context;
    int64_t width = run->config->width, to = 0;

    for (int row = 0; row < run->rows; row++)
        if (rows[row].wants_logits) {
            row_rms_norm(context->x + context->slots[row] * width, width, context->model->weights.output_norm,
                         run->config->epsilon, context->last + to * width);
            prepare(context->last_in, to++);
        }
}

static void find_logits(struct run *run, int64_t wanted) {
    struct llm_context *context = run->context;
    const struct linear *output = &context->model->weights.output;
    const struct linear_product out = {output, NULL, context->logits};
    float cap = run->config->logit_cap;

    multiply(run, context->last_in, context->last, wanted, &out, 1);
    if (cap > 0) {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < wanted * output->outputs; i++)
            context->logits[i] = cap * tanhf(context->logits[i] / cap);
    }
    note(run, LLM_LOGITS);
}

void llm_layer_run(struct llm_context *context, int layer, int count, float *scratch) {
    struct run run = {context, &context->model->config, count, scratch, clock_ms()};

    join_and_norm(&run, NULL, NULL, context->model->weights.layers[layer].attention_norm);
    run_layer(&run, layer);
}

void llm_layers_run(struct llm_context *context, const struct llm_row *rows, int count, int64_t wanted,
                    float *scratch) {
    struct run run = {context, &context->model->config, count, scratch, clock_ms()};

    join_and_norm(&run, NULL, NULL, context->model->weights.layers[0].attention_norm);
    for (int layer = 0; layer < run.config->layers; layer++)
        run_layer(&run, layer);
#pragma omp single
    gather_last(&run, rows);
    if (wanted)
        find_logits(&run, wanted);
}

void llm_context_norm_last(const struct llm_context *context, float *x, int count) {
    const struct llm_config *config = &context->model->config;
    for (int i = 0; i < count; i++)
        row_rms_norm(x + i * config->width, config->width, context->model->weights.output_norm,
                     config->epsilon, x + i * config->width);
}
