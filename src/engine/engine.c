#include "engine/engine.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/denormals.h"
#include "engine/baked.h"
#include "engine/ending.h"
#include "engine/plans.h"
#include "engine/row_parallel.h"
#include "engine/watch.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

#define CONTEXT_RUNS 12
#define CONTEXT_RUN_BYTES ((size_t)256 << 20) /* of their memory together */
/* After so many, the flags of a plan's runs tell nothing: a kernel computes more than it keeps. */
#define FALSE_ALARMS 3

struct engine {
    struct engine_options options;
    enum precision precision;
    bool quantized;
    char *path;                   /* of the ONNX file; NULL without one */
    char baked_state[256];        /* see engine_baked_state */
    struct baked_sources sources; /* of a model that was read from its ONNX file */
    struct file_map baked_map;    /* the weights lie in it, where a baked file is used */
    struct graph *graph;
    struct weights_store *weights;
    struct engine_port *inputs, *outputs;
    bool *plan_inputs; /* [input_count] the value decides shapes */
    struct plan_cache *plans;
    struct plan_cache *exact_plans; /* for runs that met NaN or infinities; NULL: none are needed */
};

/* A cached plan that the context runs, and the memory of its runs. */
struct run_slot {
    struct cached_plan *cached;
    struct plan_run *run; /* NULL where the rows run in parallel */
    struct row_parallel *rows;
    size_t bytes; /* of that memory */
    uint64_t used_at;
    int false_alarms; /* in a row: flags were raised though every number was finite */
};

struct engine_context {
    struct engine *engine;
    struct run_slot runs[CONTEXT_RUNS];
    int run_count;
    uint64_t clock;
    struct run_slot *last;
    struct run_slot exact; /* of the engine's exact plans; .cached NULL: none was needed yet */
    const void **input_pointers, **output_pointers;
    size_t *row_bytes; /* [input_count] */
};

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

static int usable_processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int team = omp_get_max_threads(); /* OMP_NUM_THREADS, where it is set */
    return count < 1 ? 1 : team < count ? team : count;
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
    engine->quantized = passes_is_quantized(graph);
    if (engine->quantized && !passes_expand_qoperators(graph, error))
        return false;
    if (!operators_bind(graph, error) || !choose_precision(engine, error))
        return false;
    if (engine->precision == PRECISION_INT8 && !passes_prepare_integers(graph, error))
        return false;
    if (engine->quantized && engine->precision != PRECISION_INT8 && !passes_dequantize(graph, error))
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
        .profile = engine->options.profile,
    };
    engine->plans = plan_cache_create(&options, error);
    options.exact = true;
    options.compute = DTYPE_F32; /* bfloat16 products take channels in pairs, and NaN times 0 is NaN */
    engine->exact_plans = engine->plans ? plan_cache_create(&options, error) : NULL;
    return engine->exact_plans != NULL;
}

/* From a graph to an engine that can make plans. */
static bool engine_take_graph(struct engine *engine, struct error *error) {
    if (!engine->weights && !engine_prepare_graph(engine, error))
        return false;

    struct graph *graph = engine->graph;
    engine->plan_inputs = arena_allocate_array(graph->arena, (size_t)graph->input_count + 1, sizeof(bool));
    if (!engine->plan_inputs || !ports_create(graph, graph->inputs, graph->input_count, &engine->inputs) ||
        !ports_create(graph, graph->outputs, graph->output_count, &engine->outputs))
        return error_set(error, ERROR_MEMORY, "not enough memory for the model");

    passes_plan_inputs(graph, engine->plan_inputs);
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

    engine->options = *options;
    if (engine->options.threads <= 0)
        engine->options.threads = usable_processors();
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

void engine_free(struct engine *engine) {
    if (!engine)
        return;

    plan_cache_free(engine->plans);
    plan_cache_free(engine->exact_plans);
    weights_store_free(engine->weights);
    graph_free(engine->graph);
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

/* The caller's tensors fit the model's inputs. */
static bool check_inputs(const struct engine *engine, const struct tensor *inputs, int count,
                         struct error *error) {
    if (count != engine->graph->input_count)
        return error_set(error, ERROR_INVALID, "the model has %d inputs, and %d are given",
                         engine->graph->input_count, count);
    for (int i = 0; i < count; i++) {
        const struct engine_port *port = &engine->inputs[i];
        char given[SHAPE_TEXT], wanted[SHAPE_TEXT];
        bool fits = shape_is_known(&inputs[i].shape) && shape_elements(&inputs[i].shape) >= 0 &&
                    (port->shape.rank < 0 || port->shape.rank == inputs[i].shape.rank);
        for (int axis = 0; fits && port->shape.rank >= 0 && axis < port->shape.rank; axis++)
            fits = port->shape.dims[axis] < 0 || port->shape.dims[axis] == inputs[i].shape.dims[axis];
        if (!fits)
            return error_set(error, ERROR_INVALID, "input '%s' has shape %s, and the model takes %s",
                             port->name, shape_format(&inputs[i].shape, given, sizeof given),
                             shape_format(&port->shape, wanted, sizeof wanted));
        if (inputs[i].dtype != port->dtype)
            return error_set(error, ERROR_INVALID, "input '%s' is %s, and the model takes %s", port->name,
                             dtype_name(inputs[i].dtype), dtype_name(port->dtype));
        if (engine->plan_inputs[i] && !inputs[i].data)
            return error_set(error, ERROR_INVALID, "input '%s' determines shapes: its value must be given",
                             port->name);
    }

    return true;
}

struct engine_context *engine_context_create(struct engine *engine, struct error *error) {
    struct engine_context *context = calloc(1, sizeof *context);
    if (context) {
        context->engine = engine;
        context->input_pointers = calloc((size_t)engine->graph->input_count + 1, sizeof(void *));
        context->output_pointers = calloc((size_t)engine->graph->output_count + 1, sizeof(void *));
        context->row_bytes = calloc((size_t)engine->graph->input_count + 1, sizeof(size_t));
    }

    if (context && context->input_pointers && context->output_pointers && context->row_bytes)
        return context;

    engine_context_free(context);
    error_set(error, ERROR_MEMORY, "not enough memory for a context");
    return NULL;
}

static void run_slot_release(struct plan_cache *plans, struct run_slot *slot) {
    plan_run_free(slot->run);
    row_parallel_free(slot->rows);
    plan_cache_give_back(plans, slot->cached);
}

void engine_context_free(struct engine_context *context) {
    if (!context)
        return;

    for (int i = 0; i < context->run_count; i++)
        run_slot_release(context->engine->plans, &context->runs[i]);
    if (context->exact.cached)
        run_slot_release(context->engine->exact_plans, &context->exact);
    free(context->input_pointers);
    free(context->output_pointers);
    free(context->row_bytes);
    free(context);
}

/* OpenMP's number of threads belongs to the calling thread. */
static void set_threads(const struct engine *engine) {
    if (omp_get_max_threads() != engine->options.threads)
        omp_set_num_threads(engine->options.threads);
}

/* In the calling thread and its team. Threads that join the team later inherit it. */
static void flush_denormals(int threads) {
    static _Thread_local int settled;
    if (settled >= threads)
        return;

    denormals_flush();
#pragma omp parallel num_threads(threads)
    denormals_flush();
    settled = threads;
}

/* For one slot more, of so many bytes: the least recently used ones go. */
static void make_room(struct engine_context *context, size_t bytes) {
    for (int i = 0; i < context->run_count; i++)
        bytes += context->runs[i].bytes;

    while (context->run_count && (context->run_count == CONTEXT_RUNS || bytes > CONTEXT_RUN_BYTES)) {
        struct run_slot *oldest = context->runs;
        for (int i = 1; i < context->run_count; i++)
            if (context->runs[i].used_at < oldest->used_at)
                oldest = &context->runs[i];
        bytes -= oldest->bytes;
        run_slot_release(context->engine->plans, oldest);
        *oldest = context->runs[--context->run_count];
    }
}

static struct run_slot *run_slot_add(struct engine_context *context, const struct tensor *inputs,
                                     struct error *error) {
    struct cached_plan *cached = plan_cache_take(context->engine->plans, inputs, error);
    if (!cached)
        return NULL;

    struct run_slot slot = {.cached = cached};
    if (cached->parallel_rows)
        slot.rows =
            row_parallel_create(cached->plan, cached->parallel_rows, context->engine->options.threads, error);
    else
        slot.run = plan_run_create(cached->plan, context->engine->options.profile, error);
    if (!slot.run && !slot.rows) {
        plan_cache_give_back(context->engine->plans, cached);
        return NULL;
    }

    slot.bytes = cached->plan->arena_bytes * (size_t)(slot.rows ? context->engine->options.threads : 1);
    make_room(context, slot.bytes);
    struct run_slot *chosen = &context->runs[context->run_count++];
    *chosen = slot;
    watch_end(context->engine->options.threads); /* the making of a plan computes, too */
    return chosen;
}

bool engine_prepare(struct engine_context *context, const struct tensor *inputs, int input_count,
                    struct error *error) {
    struct engine *engine = context->engine;
    if (!check_inputs(engine, inputs, input_count, error))
        return false;

    set_threads(engine);
    flush_denormals(engine->options.threads);

    struct run_slot *slot = NULL;
    for (int i = 0; i < context->run_count && !slot; i++)
        if (cached_plan_fits(context->runs[i].cached, inputs))
            slot = &context->runs[i];
    if (!slot && !(slot = run_slot_add(context, inputs, error)))
        return false;

    slot->used_at = ++context->clock;
    context->last = slot;
    return true;
}

bool engine_rows_are_apart(const struct engine *engine, const struct tensor *inputs, int input_count,
                           int64_t rows) {
    struct tensor *changed = calloc((size_t)input_count + 1, sizeof *changed);
    struct error ignored;
    bool apart = changed && input_count > 0 && input_count == engine->graph->input_count;

    for (int i = 0; apart && i < input_count; i++) {
        changed[i] = (struct tensor){.dtype = inputs[i].dtype, .shape = inputs[i].shape};
        changed[i].shape.dims[0] = rows;
        apart = changed[i].shape.rank > 0 && engine->inputs[i].shape.rank > 0 &&
                engine->inputs[i].shape.dims[0] < 0;
    }

    apart = apart && check_inputs(engine, changed, input_count, &ignored) &&
            plan_cache_rows_are_apart(engine->plans, changed, rows);
    free(changed);
    return apart;
}

bool engine_inputs_are_finite(const struct tensor *inputs, int input_count) {
    return watch_is_finite(inputs, input_count);
}

static bool execute(struct engine_context *context, const struct tensor *inputs, int input_count,
                    struct error *error) {
    const struct run_slot *slot = context->last;
    if (!slot->rows)
        return plan_run_execute(slot->run, context->input_pointers, context->output_pointers, error);

    for (int i = 0; i < input_count; i++)
        context->row_bytes[i] = tensor_bytes(&inputs[i]) / (size_t)slot->cached->parallel_rows;
    return row_parallel_execute(slot->rows, context->input_pointers, context->row_bytes,
                                context->output_pointers, error);
}

/* The same inputs once more, by the exact plan for them. */
static bool execute_exactly(struct engine_context *context, const struct tensor *inputs,
                            struct error *error) {
    struct plan_cache *plans = context->engine->exact_plans;
    struct run_slot *slot = &context->exact;

    if (slot->cached && !cached_plan_fits(slot->cached, inputs)) {
        run_slot_release(plans, slot);
        *slot = (struct run_slot){0};
    }
    if (!slot->cached) {
        struct cached_plan *cached = plan_cache_take(plans, inputs, error);
        struct plan_run *run = cached ? plan_run_create(cached->plan, false, error) : NULL;
        if (cached && !run)
            plan_cache_give_back(plans, cached);
        if (!run)
            return false;
        plan_run_look(run);
        *slot = (struct run_slot){.cached = cached, .run = run};
    }

    bool done = plan_run_execute(slot->run, context->input_pointers, context->output_pointers, error);
    watch_end(context->engine->options.threads); /* those are known */
    return done;
}

/* Fast; and exactly where that met numbers that are not finite. Returns the slot that holds the outputs. */
static const struct run_slot *execute_either(struct engine_context *context, const struct tensor *inputs,
                                             int input_count, struct error *error) {
    const struct engine *engine = context->engine;
    struct run_slot *fast = context->last;
    bool watched = engine->exact_plans && fast->false_alarms < FALSE_ALARMS;

    if (engine->exact_plans && !watch_is_finite(inputs, input_count))
        return execute_exactly(context, inputs, error) ? &context->exact : NULL;
    if (watched)
        watch_begin();
    if (!execute(context, inputs, input_count, error))
        return NULL;
    if (!watched || !watch_end(engine->options.threads))
        return fast;

    if (!execute_exactly(context, inputs, error))
        return NULL;
    fast->false_alarms = plan_run_was_strange(context->exact.run) ? 0 : fast->false_alarms + 1;
    return &context->exact;
}

bool engine_run(struct engine_context *context, const struct tensor *inputs, int input_count,
                struct tensor *outputs, int output_count, struct error *error) {
    if (!engine_prepare(context, inputs, input_count, error))
        return false;

    const struct plan *plan = context->last->cached->plan;
    if (output_count > plan->output_count)
        return error_set(error, ERROR_INVALID, "the model has %d outputs, and %d are asked for",
                         plan->output_count, output_count);
    for (int i = 0; i < input_count; i++)
        context->input_pointers[i] = inputs[i].data;
    const struct run_slot *slot = execute_either(context, inputs, input_count, error);
    if (!slot)
        return false;

    plan = slot->cached->plan;
    for (int i = 0; i < output_count; i++) {
        outputs[i] = (struct tensor){plan->outputs[i]->dtype, plan->outputs[i]->shape,
                                     (void *)context->output_pointers[i]};
        if (slot->rows)
            outputs[i].shape.dims[0] = slot->cached->parallel_rows;
    }

    return true;
}

struct tensor engine_prepared_output(const struct engine_context *context, int index) {
    const struct plan_tensor *output = context->last->cached->plan->outputs[index];
    return (struct tensor){.dtype = output->dtype, .shape = output->shape};
}

const struct plan *engine_context_plan(const struct engine_context *context) {
    return context->last ? context->last->cached->plan : NULL;
}

const int64_t *engine_context_times(const struct engine_context *context) {
    return context->last && context->last->run ? plan_run_times(context->last->run) : NULL;
}
