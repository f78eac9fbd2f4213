#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/team.h"
#include "engine/ending.h"
#include "engine/parts.h"
#include "engine/private.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

static const char *const precision_names[] = {"auto", "f32", "bf16", "int8"};

bool precision_parse(const char *name, enum precision *ret) {
    for (size_t i = 0; i < sizeof precision_names / sizeof precision_names[0]; i++)
        if (strcmp(name, precision_names[i]) == 0) {
            *ret = (enum precision)i;
            return true;
        }
    return false;
}

const char *precision_name(enum precision precision) {
    return precision_names[precision];
}

static bool ports_create(struct graph *graph, struct value **values, int count, struct engine_port **ret) {
    struct engine_port *ports = arena_allocate_array(graph->arena, (size_t)count + 1, sizeof *ports);
    for (int i = 0; ports && i < count; i++)
        ports[i] = (struct engine_port){values[i]->name, values[i]->dtype, values[i]->shape};
    *ret = ports;
    return ports != NULL;
}

static bool has_auto_bf16(const struct engine *engine) {
    return primitive_has_native_bf16() && !engine->options.no_bf16;
}

/* Settle what PRECISION_AUTO means for this graph on this processor. */
static bool choose_precision(struct engine *engine, struct error *error) {
    if (engine->precision == PRECISION_INT8 && !engine->quantized)
        return error_set(error, ERROR_INVALID, "the model is not quantised: see `guichet quantize`");
    if (engine->precision == PRECISION_BF16 && !primitive_has_avx512())
        return error_set(error, ERROR_INVALID, "this processor cannot compute in bfloat16: use f32 or auto");

    /* Without VNNI, 8-bit products saturate on the way: the file's numbers come out in floats that are
     * rounded as it says, and so do those of weights that do not fit. */
    bool saturates = !primitive_has_native_int8();
    if (engine->precision == PRECISION_INT8 && saturates)
        engine->precision = PRECISION_F32;
    if (engine->precision != PRECISION_AUTO)
        return true;

    if (engine->quantized)
        engine->precision =
            saturates || !passes_integers_are_exact(engine->graph) ? PRECISION_F32 : PRECISION_INT8;
    else
        engine->precision = has_auto_bf16(engine) ? PRECISION_BF16 : PRECISION_F32;
    return true;
}

/* From the operators of the file to those of the precision. */
static bool engine_prepare_graph(struct engine *engine, struct error *error) {
    struct graph *graph = engine->graph;
    if (!passes_expand_fused(graph, error) || !passes_expand_dynamic(graph, error))
        return false;
    engine->quantized = passes_is_quantized(graph);
    if (engine->quantized && !passes_expand_qoperators(graph, error))
        return false;
    if (!operators_bind(graph, error) || !choose_precision(engine, error))
        return false;
    if (engine->precision == PRECISION_INT8 && !passes_prepare_integers(graph, error))
        return false;
    if (engine->quantized && engine->precision != PRECISION_INT8 && !passes_dequantize(graph, error))
        return false;
    if (!engine->quantized && !passes_widen_halves(graph, error))
        return false;
    return passes_simplify(graph, error);
}

static bool create_caches(struct engine *engine, struct error *error) {
    struct plan_cache_options options = {
        .graph = engine->graph,
        .weights = engine->weights,
        .plan_inputs = engine->plan_inputs,
        .compute = engine->precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32,
        .threads = engine->options.threads,
        .engine = engine,
        .profile = engine->options.profile,
    };
    engine->plans = plan_cache_create(&options, error);
    options.exact = true;
    options.compute = DTYPE_F32; /* bfloat16 products take channels in pairs, and NaN times 0 is NaN */
    engine->exact_plans = engine->plans ? plan_cache_create(&options, error) : NULL;
    return engine->exact_plans != NULL;
}

/* Values that decide shapes are part of what a plan is right for. Floats of several axes are data, and
 * different each time: what follows from them waits for a run. */
static void choose_plan_inputs(struct engine *engine) {
    const struct graph *graph = engine->graph;

    passes_plan_inputs(graph, engine->plan_inputs);
    for (int i = 0; i < graph->input_count; i++) {
        int rank = graph->inputs[i]->shape.rank;
        if (dtype_is_float(graph->inputs[i]->dtype) && rank != 0 && rank != 1)
            engine->plan_inputs[i] = false;
    }
}

/* From a graph to an engine that can make plans. */
static bool engine_take_graph(struct engine *engine, struct error *error) {
    if (!engine->weights && !engine->parent && !engine_prepare_graph(engine, error))
        return false;

    struct graph *graph = engine->graph;
    engine->plan_inputs = arena_allocate_array(graph->arena, (size_t)graph->input_count + 1, sizeof(bool));
    if (!engine->plan_inputs || !ports_create(graph, graph->inputs, graph->input_count, &engine->inputs) ||
        !ports_create(graph, graph->outputs, graph->output_count, &engine->outputs))
        return error_set(error, ERROR_MEMORY, "not enough memory for the model");

    if (!engine->parent)
        choose_plan_inputs(engine);
    if (!engine->weights) {
        engine->weights = weights_store_create(graph, error);
        if (engine->weights && engine->options.share_weights_with)
            weights_store_share(engine->weights, engine->options.share_weights_with->weights);
    }

    if (!engine->weights)
        return false;

    return create_caches(engine, error);
}

/* A current baked file in place of the ONNX file. False: there is none; engine->baked_state says why. */
static bool engine_read_baked(struct engine *engine, const char *path) {
    enum precision candidates[3] = {engine->precision};
    int count = 1;
    if (engine->precision == PRECISION_AUTO) { /* what auto means depends on a file that is not read yet */
        candidates[0] = PRECISION_INT8;
        candidates[1] = has_auto_bf16(engine) ? PRECISION_BF16 : PRECISION_F32;
        candidates[2] = PRECISION_F32; /* of a quantised file */
        count = has_auto_bf16(engine) ? 3 : 2;
    }

    for (int i = 0; i < count; i++) {
        char buffer[4096];
        struct baked baked;
        struct error error;
        if (baked_read(baked_path(path, candidates[i], buffer, sizeof buffer), path, candidates[i], &baked,
                       &error)) {
            bool quantized = passes_is_quantized(baked.graph);
            if (i == 2 && !quantized) { /* auto is bfloat16 for this one */
                graph_free(baked.graph);
                weights_store_free(baked.weights);
                file_map_close(&baked.map);
                baked_sources_release(&baked.sources);
                continue;
            }
            engine->graph = baked.graph;
            engine->weights = baked.weights;
            engine->baked_map = baked.map;
            engine->sources = baked.sources;
            engine->precision = candidates[i];
            engine->quantized = quantized;
            snprintf(engine->baked_state, sizeof engine->baked_state, "used");
            return true;
        }
        if (error.code != ERROR_NOT_FOUND)
            snprintf(engine->baked_state, sizeof engine->baked_state, "%.250s", error.message);
    }

    return false;
}

static bool engine_read(struct engine *engine, const char *path, struct error *error) {
    engine->path = strdup(path);
    if (!engine->path)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the model", path);
    if (engine->options.no_baked || !engine_read_baked(engine, path))
        engine->graph = onnx_graph_read(path, error);
    if (!engine->graph)
        return false;
    struct error ignored; /* baking will say so */
    if (!engine->weights)
        baked_sources_create(path, engine->graph, &engine->sources, &ignored);
    return engine_take_graph(engine, error) || error_prefix(error, "%s", path);
}

bool engine_leave_bf16(struct engine *engine, struct error *error) {
    if (engine->precision != PRECISION_BF16)
        return true;
    if (engine->baked_map.size)
        return error_set(error, ERROR_INVALID, "the baked weights are bfloat16");

    plan_cache_free(engine->plans);
    plan_cache_free(engine->exact_plans);
    engine->plans = engine->exact_plans = NULL;
    engine->precision = PRECISION_F32;
    return create_caches(engine, error);
}

bool engine_bake(struct engine *engine, const char *path, struct error *error) {
    char buffer[4096];
    if (!engine->path)
        return error_set(error, ERROR_INVALID, "only a model from a file can be baked");
    bool used = strcmp(engine->baked_state, "used") == 0;
    if (used && !path)
        return true;
    if (!engine->sources.count)
        return error_set(error, ERROR_INVALID, "%s: its files are not known: load it from its ONNX file",
                         engine->path);
    return (used || baked_sources_digest(engine->path, &engine->sources, error)) &&
           baked_write(path ? path : baked_path(engine->path, engine->precision, buffer, sizeof buffer),
                       &engine->sources, engine->precision, engine->graph, engine->weights, error);
}

const char *engine_baked_path(const struct engine *engine, char *text, size_t size) {
    if (engine->path)
        return baked_path(engine->path, engine->precision, text, size);

    text[0] = 0;
    return text;
}

const char *engine_baked_state(const struct engine *engine) {
    return engine->baked_state;
}

bool engine_detach(struct engine *engine, struct error *error) {
    return !engine->path || engine->options.share_weights_with ||
           weights_store_detach(engine->weights, error);
}

bool engine_detach_baked(const struct engine *engine, struct error *error) {
    struct file_range all = {0, engine->baked_map.size};
    return !all.end || file_map_detach(&engine->baked_map, &all, 1) ||
           error_set(error, ERROR_MEMORY, "not enough memory to keep what its baked file holds");
}

static struct engine *engine_create(const struct engine_options *options, struct error *error) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        error_set(error, ERROR_MEMORY, "not enough memory for the model");
        return NULL;
    }

    pthread_mutex_init(&engine->lock, NULL);
    engine->options = *options;
    if (engine->options.threads <= 0)
        engine->options.threads = team_default_size();
    engine->precision = options->precision;
    return engine;
}

struct engine *engine_load(const char *path, const struct engine_options *options, struct error *error) {
    struct engine *engine = engine_create(options, error);
    if (engine && engine_read(engine, path, error))
        return engine;

    engine_free(engine);
    return NULL;
}

struct engine *engine_load_graph(struct graph *graph, const struct engine_options *options,
                                 struct error *error) {
    struct engine *engine = engine_create(options, error);
    if (!engine) {
        graph_free(graph);
        return NULL;
    }

    engine->graph = graph;
    if (engine_take_graph(engine, error))
        return engine;

    engine_free(engine);
    return NULL;
}

#define LIMIT_PARTS 64 /* that follow on each other */

struct engine *engine_create_part(struct engine *parent, struct graph *graph, bool simplify,
                                  struct error *error) {
    struct engine_options options = parent->options;
    options.share_weights_with = parent;
    struct engine *engine = NULL;

    if (parent->depth == LIMIT_PARTS)
        error_set(error, ERROR_MODEL, "more than %d times in a row, shapes follow from what was computed",
                  LIMIT_PARTS);
    else
        engine = engine_create(&options, error);
    if (!engine) {
        graph_free(graph);
        return NULL;
    }

    engine->parent = parent;
    engine->depth = parent->depth + 1;
    engine->graph = graph;
    engine->precision = parent->precision;
    engine->quantized = parent->quantized;
    if (simplify && engine->precision == PRECISION_INT8)
        engine->precision = PRECISION_F32; /* a body is not prepared for integers */
    if ((!simplify || passes_simplify(graph, error)) && engine_take_graph(engine, error))
        return engine;

    engine_free(engine);
    return NULL;
}

/* Lock held. */
static struct engine *add_body(struct engine *root, const struct graph *body, struct error *error) {
    struct engine_body *added = calloc(1, sizeof *added);
    struct graph *graph = added ? graph_clone(body) : NULL;
    if (!graph) {
        free(added);
        error_set(error, ERROR_MEMORY, "not enough memory for a body");
        return NULL;
    }

    *added = (struct engine_body){body, engine_create_part(root, graph, true, error), root->bodies};
    if (!added->engine) {
        free(added);
        return NULL;
    }
    root->bodies = added;
    return added->engine;
}

struct engine *engine_find_body(struct engine *engine, const struct graph *body, struct error *error) {
    struct engine *root = engine, *found = NULL;
    while (root->parent)
        root = root->parent;

    pthread_mutex_lock(&root->lock);
    for (const struct engine_body *each = root->bodies; each && !found; each = each->next)
        if (each->graph == body)
            found = each->engine;
    if (!found)
        found = add_body(root, body, error);
    pthread_mutex_unlock(&root->lock);
    return found;
}

void engine_free(struct engine *engine) {
    if (!engine)
        return;

    plan_cache_free(engine->plans);
    plan_cache_free(engine->exact_plans);
    while (engine->bodies) {
        struct engine_body *next = engine->bodies->next;
        engine_free(engine->bodies->engine);
        free(engine->bodies);
        engine->bodies = next;
    }
    weights_store_free(engine->weights);
    graph_free(engine->graph);
    pthread_mutex_destroy(&engine->lock);
    file_map_close(&engine->baked_map);
    baked_sources_release(&engine->sources);
    free(engine->path);
    free(engine);
}

int engine_input_count(const struct engine *engine) {
    return engine->graph->input_count;
}

const struct engine_port *engine_input(const struct engine *engine, int index) {
    return &engine->inputs[index];
}

int engine_output_count(const struct engine *engine) {
    return engine->graph->output_count;
}

const struct engine_port *engine_output(const struct engine *engine, int index) {
    return &engine->outputs[index];
}

enum engine_ending engine_output_ending(const struct engine *engine, int index) {
    return ending_find(engine->graph->outputs[index]);
}

enum precision engine_precision(const struct engine *engine) {
    return engine->precision;
}

int engine_threads(const struct engine *engine) {
    return engine->options.threads;
}

const char *engine_precision_used(const struct engine *engine) {
    return precision_names[engine->precision];
}
