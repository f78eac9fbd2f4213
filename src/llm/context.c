#include "llm/context.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "llm/model_internal.h"
#include "llm/steps.h"

struct llm_context {
    const struct llm_model *model;
    struct kv_cache *cache;
    struct kv_pool *pool; /* of its pages */
    struct arena *arena;  /* has all that follows */
    int rows, threads;
    int64_t positions, longest;
    struct linear_input *input; /* activations before a product; NULL: products are exact */
    int *slots;                 /* [rows]: where a row of the run is below; prompts come first */
    int prompts;                /* of the run */
    struct row_place *places;   /* [rows] */
    /* [rows, …] */
    float *x, *normed, *query, *key, *value, *attended, *gate, *up, *added;
    float *cosines, *sines, *local_cosines, *local_sines;
    float *last;   /* [rows, width]: of those that want logits, as they came */
    float *logits; /* [logit_rows, vocabulary]; grows */
    size_t logit_rows;
    float **scratch; /* [threads] */
};

/* --- Creation ------------------------------------------------------------------------------------------- */

/* Floats of scratch that a thread needs: for unpacked rows of weights, or for scores. */
static size_t scratch_floats(const struct llm_context *context) {
    const struct llm_weights *weights = &context->model->weights;
    size_t most = (size_t)context->longest + 1, tile = linear_scratch(&weights->output);

    most = most < LINEAR_SCRATCH ? LINEAR_SCRATCH : most;
    most = tile > most ? tile : most;
    for (int i = 0; i < context->model->config.layers; i++) {
        const struct llm_layer *layer = &weights->layers[i];
        const struct llm_linear *all[] = {&layer->query, &layer->key, &layer->value, &layer->output,
                                          &layer->gate,  &layer->up,  &layer->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
            tile = linear_scratch(&all[j]->weights);
            most = tile > most ? tile : most;
        }
    }
    return most;
}

static bool allocate_scratch(struct llm_context *context) {
    context->scratch =
        arena_allocate_array(context->arena, (size_t)context->threads, sizeof *context->scratch);
    for (int i = 0; context->scratch && i < context->threads; i++) {
        context->scratch[i] = arena_allocate_array(context->arena, scratch_floats(context), sizeof(float));
        if (!context->scratch[i])
            return false;
    }
    return context->scratch;
}

static bool allocate_rows(struct llm_context *context) {
    const struct llm_config *config = &context->model->config;
    size_t half = (size_t)config->rope_size / 2;
    const struct {
        float **ret;
        size_t columns;
    } arrays[] = {
        {&context->x, (size_t)config->width},
        {&context->normed, (size_t)config->width},
        {&context->added, (size_t)config->width},
        {&context->last, (size_t)config->width},
        {&context->query, (size_t)config->heads * (size_t)config->key_size},
        {&context->key, (size_t)config->kv_heads * (size_t)config->key_size},
        {&context->value, (size_t)config->kv_heads * (size_t)config->value_size},
        {&context->attended, (size_t)config->heads * (size_t)config->value_size},
        {&context->gate, (size_t)config->inner},
        {&context->up, (size_t)config->inner},
        {&context->cosines, half},
        {&context->sines, half},
        {&context->local_cosines, half},
        {&context->local_sines, half},
    };

    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].ret =
            arena_allocate_array(context->arena, (size_t)context->rows * arrays[i].columns, sizeof(float));
        if (!*arrays[i].ret)
            return false;
    }
    context->places = arena_allocate_array(context->arena, (size_t)context->rows, sizeof *context->places);
    context->slots = arena_allocate_array(context->arena, (size_t)context->rows, sizeof *context->slots);
    return context->places && context->slots;
}

/* The widest input of a product. */
static int64_t widest(const struct llm_config *config) {
    int64_t attended = (int64_t)config->heads * config->value_size, most = config->width;
    most = config->inner > most ? config->inner : most;
    return attended > most ? attended : most;
}

static bool allocate_input(struct llm_context *context, enum llm_precision precision) {
    if (precision == LLM_F32)
        return true;
    context->input = linear_input_create(context->rows, widest(&context->model->config));
    return context->input;
}

struct llm_context *llm_context_create(const struct llm_model *model,
                                       const struct llm_context_options *options, struct error *error) {
    struct llm_context *context = calloc(1, sizeof *context);
    int64_t pages = (options->positions + KV_PAGE - 1) / KV_PAGE;

    if (context) {
        *context = (struct llm_context){
            .model = model, .rows = options->rows, .positions = options->positions, .arena = arena_create()};
        context->longest = options->longest > 0 ? options->longest : options->positions;
        context->threads = options->threads > 0 ? options->threads : omp_get_num_procs();
        if (pages > INT32_MAX)
            pages = INT32_MAX;
    }
    if (!context || !context->arena || !allocate_rows(context) || !allocate_scratch(context) ||
        !allocate_input(context, options->precision)) {
        llm_context_free(context);
        error_set(error, ERROR_MEMORY, "not enough memory to run the model on %d tokens at once",
                  options->rows);
        return NULL;
    }

    context->cache = kv_cache_create(&model->config, (int)pages, error);
    context->pool = context->cache ? kv_pool_create((int)pages) : NULL;
    if (context->pool)
        return context;
    if (context->cache)
        error_set(error, ERROR_MEMORY, "not enough memory for the keys and values of %lld positions",
                  (long long)options->positions);
    llm_context_free(context);
    return NULL;
}

void llm_context_free(struct llm_context *context) {
    if (!context)
        return;

    kv_cache_free(context->cache);
    kv_pool_free(context->pool);
    linear_input_free(context->input);
    free(context->logits);
    arena_free(context->arena);
    free(context);
}

int32_t llm_context_vocabulary(const struct llm_context *context) {
    return llm_model_vocabulary(context->model);
}

struct kv_pool *llm_context_pool(struct llm_context *context) {
    return context->pool;
}

void llm_sequence_release(struct llm_context *context, struct llm_sequence *sequence) {
    kv_pages_release(context->pool, &sequence->pages);
    sequence->length = 0;
}

/* --- Before a run --------------------------------------------------------------------------------------- */

static bool check_rows(const struct llm_context *context, const struct llm_row *rows, int count,
                       size_t *ret_wanted, struct error *error) {
    int64_t vocabulary = context->model->weights.embedding.outputs;
    if (count < 1 || count > context->rows)
        return error_set(error, ERROR_INTERNAL, "a run of %d rows, where 1 to %d are possible", count,
                         context->rows);

    *ret_wanted = 0;
    for (int i = 0; i < count; i++) {
        if (rows[i].token < 0 || rows[i].token >= vocabulary)
            return error_set(error, ERROR_INVALID, "token %d is not one of the vocabulary, which has %lld",
                             rows[i].token, (long long)vocabulary);
        *ret_wanted += rows[i].wants_logits;
    }
    return true;
}

/* Prompts in front, in the order in which they came. */
static void order_rows(struct llm_context *context, const struct llm_row *rows, int count) {
    int prompts = 0, steps = 0;
    for (int i = 0; i < count; i++)
        prompts += rows[i].is_prompt;

    context->prompts = prompts;
    for (int i = 0, prompt = 0; i < count; i++)
        context->slots[i] = rows[i].is_prompt ? prompt++ : prompts + steps++;
}

/* Give each row its place, and its sequence pages. */
static bool place_rows(struct llm_context *context, const struct llm_row *rows, int count,
                       struct error *error) {
    int placed = 0;
    bool room = true;

    order_rows(context, rows, count);
    for (; room && placed < count; placed++) {
        struct llm_sequence *sequence = rows[placed].sequence;
        room = kv_pages_reserve(context->pool, &sequence->pages, sequence->length + 1);
        if (!room)
            break;
        context->places[context->slots[placed]].position = sequence->length++;
    }
    if (room) {
        for (int i = 0; i < count; i++) /* pages may have moved */
            context->places[context->slots[i]].pages = rows[i].sequence->pages.pages;
        return true;
    }

    for (int i = 0; i < placed; i++)
        rows[i].sequence->length--;
    return error_set(error, ERROR_UNAVAILABLE,
                     "no room for the keys and values of another token: %lld positions are kept",
                     (long long)context->positions);
}

static bool reserve_logits(struct llm_context *context, size_t wanted, struct error *error) {
    size_t vocabulary = (size_t)context->model->weights.output.outputs;
    if (wanted <= context->logit_rows)
        return true;

    float *grown = realloc(context->logits, wanted * vocabulary * sizeof *grown);
    if (!grown)
        return error_set(error, ERROR_MEMORY, "not enough memory for the logits of %zu tokens", wanted);
    context->logits = grown;
    context->logit_rows = wanted;
    return true;
}

/* cos and sin of position / scale x base^(-2i/n) / factor_i, times the magnitude. */
static void turn_angles(const struct llm_context *context, int count, double base, double scale,
                        const float *factors, float *cosines, float *sines) {
    const struct llm_config *config = &context->model->config;
    int half = config->rope_size / 2;

    for (int i = 0; i < half; i++) {
        double frequency =
            pow(base, -2.0 * i / config->rope_size) / scale / (factors ? (double)factors[i] : 1);
        for (int row = 0; row < count; row++) {
            double angle = (double)context->places[row].position * frequency;
            cosines[row * half + i] = (float)(cos(angle) * (double)config->rope_magnitude);
            sines[row * half + i] = (float)(sin(angle) * (double)config->rope_magnitude);
        }
    }
}

static void find_angles(const struct llm_context *context, int count) {
    const struct llm_config *config = &context->model->config;
    const struct llm_weights *weights = &context->model->weights;
    bool stretched = config->original_context > 0 && context->longest > config->original_context;
    const float *factors =
        stretched && weights->rope_factors_long ? weights->rope_factors_long : weights->rope_factors;

    turn_angles(context, count, config->rope_base, config->rope_scale, factors, context->cosines,
                context->sines);
    if (config->window > 0)
        turn_angles(context, count, config->rope_base_local, 1, factors, context->local_cosines,
                    context->local_sines);
}

static void embed(struct llm_context *context, const struct llm_row *rows, int count) {
    const struct llm_config *config = &context->model->config;
    float scale = config->family->scaled_embedding ? sqrtf((float)config->width) : 1;

    for (int row = 0; row < count; row++) {
        float *x = context->x + context->slots[row] * config->width;
        linear_row(&context->model->weights.embedding, rows[row].token, x);
        for (int64_t i = 0; i < config->width; i++)
            x[i] *= scale;
    }
}

/* --- The layers: called by every thread of the team ------------------------------------------------------
 */

/* Products of x: [rows, inputs of all of them], of which the first `prompts` are prompts'. */
static void multiply(struct llm_context *context, const struct linear_product *products, int count,
                     const float *x, int64_t prompts, int64_t rows, float *scratch) {
    if (context->input) {
        linear_input_set(context->input, x, prompts, rows - prompts, products->weights->inputs);
        linear_multiply_input(context->input, products, count, scratch);
        return;
    }
    for (int i = 0; i < count; i++)
        linear_multiply(products[i].weights, x, rows, products[i].bias, products[i].y, scratch);
}

static struct linear_product product(const struct llm_linear *linear, float *y) {
    return (struct linear_product){&linear->weights, linear->bias, y};
}

/* x += what a branch gave, normed where the family does so. */
static void join(struct llm_context *context, int64_t rows, const float *norm) {
    const struct llm_config *config = &context->model->config;
    if (norm)
        step_rms_norm(context->added, rows, config->width, norm, config->epsilon, context->added);
    step_add(context->x, context->added, rows * config->width);
}

static void run_attention(struct llm_context *context, int index, int64_t rows, float *scratch) {
    const struct llm_config *config = &context->model->config;
    const struct llm_layer *layer = &context->model->weights.layers[index];
    bool local = llm_config_is_local(config, index);
    const struct turning turning = {local ? context->local_cosines : context->cosines,
                                    local ? context->local_sines : context->sines, config->rope_size,
                                    config->family->rope_halves};

    step_rms_norm(context->x, rows, config->width, layer->attention_norm, config->epsilon, context->normed);
    const struct linear_product in[] = {product(&layer->query, context->query),
                                        product(&layer->key, context->key),
                                        product(&layer->value, context->value)};
    multiply(context, in, 3, context->normed, context->prompts, rows, scratch);

    if (layer->query_norm)
        step_rms_norm(context->query, rows * config->heads, config->key_size, layer->query_norm,
                      config->epsilon, context->query);
    if (layer->key_norm)
        step_rms_norm(context->key, rows * config->kv_heads, config->key_size, layer->key_norm,
                      config->epsilon, context->key);
    if (llm_config_is_turned(config, index)) {
        step_turn(context->query, rows, config->heads, config->key_size, &turning);
        step_turn(context->key, rows, config->kv_heads, config->key_size, &turning);
    }

    step_remember(context->cache, config, index, context->places, rows, context->key, context->value);
    step_attend(context->cache, config, index, local ? config->window : 0, context->places, rows,
                context->query, context->attended, scratch);
    const struct linear_product out = product(&layer->output, context->added);
    multiply(context, &out, 1, context->attended, context->prompts, rows, scratch);
    join(context, rows, layer->after_attention_norm);
}

static void run_mlp(struct llm_context *context, int index, int64_t rows, float *scratch) {
    const struct llm_config *config = &context->model->config;
    const struct llm_layer *layer = &context->model->weights.layers[index];

    step_rms_norm(context->x, rows, config->width, layer->mlp_norm, config->epsilon, context->normed);
    const struct linear_product in[] = {product(&layer->gate, context->gate),
                                        product(&layer->up, context->up)};
    multiply(context, in, 2, context->normed, context->prompts, rows, scratch);
    step_gate(context->gate, context->up, rows * config->inner, config->family->gelu);
    const struct linear_product out = product(&layer->down, context->added);
    multiply(context, &out, 1, context->gate, context->prompts, rows, scratch);
    join(context, rows, layer->after_mlp_norm);
}

static void run_output(struct llm_context *context, int64_t wanted, float *scratch) {
    const struct llm_config *config = &context->model->config;
    const struct llm_weights *weights = &context->model->weights;
    int64_t count = wanted * weights->output.outputs;
    float cap = config->logit_cap;

    step_rms_norm(context->last, wanted, config->width, weights->output_norm, config->epsilon, context->last);
    const struct linear_product out = {&weights->output, NULL, context->logits};
    multiply(context, &out, 1, context->last, 0, wanted, scratch); /* few rows: as those of steps */
    if (cap > 0) {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++)
            context->logits[i] = cap * tanhf(context->logits[i] / cap);
    }
}

/* The rows that want logits, one after the other. */
static void gather_last(struct llm_context *context, const struct llm_row *rows, int count) {
    size_t width = (size_t)context->model->config.width, to = 0;

    for (int row = 0; row < count; row++)
        if (rows[row].wants_logits)
            memcpy(context->last + to++ * width, context->x + (size_t)context->slots[row] * width,
                   width * sizeof(float));
}

bool llm_context_run(struct llm_context *context, const struct llm_row *rows, int count, float **ret_logits,
                     struct error *error) {
    size_t wanted;
    if (!check_rows(context, rows, count, &wanted, error) || !reserve_logits(context, wanted, error) ||
        !place_rows(context, rows, count, error))
        return false;

    find_angles(context, count);
    embed(context, rows, count);

#pragma omp parallel num_threads(context->threads)
    {
        float *scratch = context->scratch[omp_get_thread_num()];
        for (int layer = 0; layer < context->model->config.layers; layer++) {
            run_attention(context, layer, count, scratch);
            run_mlp(context, layer, count, scratch);
        }
#pragma omp single
        gather_last(context, rows, count);
        if (wanted)
            run_output(context, (int64_t)wanted, scratch);
    }

    *ret_logits = context->logits;
    return true;
}
