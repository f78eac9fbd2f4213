#include "llm/context.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/team.h"
#include "llm/context_internal.h"

/* --- Creation ------------------------------------------------------------------------------------------- */

/* Floats of scratch that a thread needs: for unpacked weights, keys and values. */
static size_t scratch_floats(const struct llm_context *context) {
    const struct llm_weights *weights = &context->model->weights;
    size_t most = attention_scratch(kv_cache_shape(context->cache)), tile = linear_scratch(&weights->output);

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
    context->blocks = arena_allocate_array(context->arena, (size_t)context->rows, sizeof *context->blocks);
    context->slots = arena_allocate_array(context->arena, (size_t)context->rows, sizeof *context->slots);
    return context->places && context->blocks && context->slots;
}

static bool allocate_inputs(struct llm_context *context, enum llm_precision precision) {
    const struct llm_config *config = &context->model->config;
    if (precision == LLM_F32)
        return true;

    context->in = linear_input_create(context->rows, config->width);
    context->between = linear_input_create(context->rows, (int64_t)config->heads * config->value_size);
    context->down = linear_input_create(context->rows, config->inner);
    context->last_in = linear_input_create(context->rows, config->width);
    return context->in && context->between && context->down && context->last_in;
}

enum attention_type llm_kept_as(enum llm_precision precision, enum llm_kv_type kv) {
    if (precision == LLM_F32)
        return ATTENTION_F32;
    if (kv == LLM_KV_F16)
        return ATTENTION_F16;
    return kv == LLM_KV_Q8_0 ? ATTENTION_Q8_0 : ATTENTION_BF16;
}

static bool allocate(struct llm_context *context, const struct llm_context_options *options,
                     struct error *error) {
    int64_t wanted = (options->positions + KV_PAGE - 1) / KV_PAGE;
    int pages = (int)(wanted < INT32_MAX ? wanted : INT32_MAX);

    context->cache =
        kv_cache_create(&context->model->config, llm_kept_as(options->precision, options->kv), pages, error);
    if (!context->cache)
        return false;
    context->pool = kv_pool_create(pages);
    return (context->pool && context->arena && allocate_rows(context) && allocate_scratch(context) &&
            allocate_inputs(context, options->precision)) ||
           error_set(error, ERROR_MEMORY, "not enough memory to run the model on %d tokens at once",
                     options->rows);
}

struct llm_context *llm_context_create(const struct llm_model *model,
                                       const struct llm_context_options *options, struct error *error) {
    struct llm_context *context = calloc(1, sizeof *context);
    if (!context) {
        error_set(error, ERROR_MEMORY, "not enough memory to run the model");
        return NULL;
    }

    *context = (struct llm_context){.model = model,
                                    .rows = options->rows,
                                    .positions = options->positions,
                                    .longest = options->longest > 0 ? options->longest : options->positions,
                                    .threads = options->threads > 0 ? options->threads : team_default_size(),
                                    .arena = arena_create()};
    if (allocate(context, options, error))
        return context;
    llm_context_free(context);
    return NULL;
}

void llm_context_free(struct llm_context *context) {
    if (!context)
        return;

    kv_cache_free(context->cache);
    kv_pool_free(context->pool);
    linear_input_free(context->in);
    linear_input_free(context->between);
    linear_input_free(context->down);
    linear_input_free(context->last_in);
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

/* Neighbours of a sequence whose pages are read together. */
static void find_blocks(struct llm_context *context, int count) {
    context->block_count = 0;
    for (int row = 0; row < count; row++) {
        struct row_block *block = &context->blocks[context->block_count - (row > 0)];
        const struct row_place *place = &context->places[row];
        if (row > 0 && block->count < LLM_BLOCK_ROWS && place->pages == place[-1].pages &&
            place->position == place[-1].position + 1)
            block->count++;
        else
            context->blocks[context->block_count++] = (struct row_block){row, 1};
    }
}

/* Tell where the activations of all layers will be. */
static void begin_inputs(struct llm_context *context, int count, int64_t wanted) {
    const struct llm_config *config = &context->model->config;
    int prompts = context->prompts, steps = count - prompts;
    if (!context->in)
        return;

    linear_input_begin(context->in, context->normed, prompts, steps, config->width);
    linear_input_begin(context->between, context->attended, prompts, steps,
                       (int64_t)config->heads * config->value_size);
    linear_input_begin(context->down, context->gate, prompts, steps, config->inner);
    linear_input_begin(context->last_in, context->last, 0, wanted,
                       config->width); /* few: as those of steps */
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

bool llm_context_begin(struct llm_context *context, const struct llm_row *rows, int count, size_t *ret_wanted,
                       struct error *error) {
    size_t wanted = 0;
    if (!check_rows(context, rows, count, &wanted, error) || !reserve_logits(context, wanted, error) ||
        !place_rows(context, rows, count, error))
        return false;

    find_angles(context, count);
    find_blocks(context, count);
    begin_inputs(context, count, (int64_t)wanted);
    embed(context, rows, count);
    *ret_wanted = wanted;
    return true;
}

/* What is no number in a hidden state is in each of its logits. */
static bool check_logits(const struct llm_context *context, size_t wanted, struct error *error) {
    size_t vocabulary = (size_t)context->model->weights.output.outputs;
    for (size_t i = 0; i < wanted; i++)
        if (!isfinite(context->logits[i * vocabulary]))
            return error_set(
                error, ERROR_MODEL,
                "the model's scores are not numbers: its weights are damaged, or too large to compute with");
    return true;
}

bool llm_context_run(struct llm_context *context, const struct llm_row *rows, int count, float **ret_logits,
                     struct error *error) {
    size_t wanted = 0;
    if (!llm_context_begin(context, rows, count, &wanted, error))
        return false;

#pragma omp parallel num_threads(context->threads)
    llm_layers_run(context, rows, count, (int64_t)wanted, context->scratch[omp_get_thread_num()]);

    *ret_logits = context->logits;
    return check_logits(context, wanted, error);
}

const double *llm_context_times(const struct llm_context *context) {
    return context->times;
}
