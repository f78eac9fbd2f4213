/* Running: the plan for these shapes, on memory of the context's own. */
#include <omp.h>
#include <stdlib.h>

#include "base/denormals.h"
#include "engine/private.h"
#include "engine/row_parallel.h"
#include "engine/stages.h"
#include "engine/watch.h"

#define CONTEXT_RUNS 12
#define CONTEXT_RUN_BYTES ((size_t)256 << 20) /* of their memory together */
/* After so many, the flags of a plan's runs tell nothing: a kernel computes more than it keeps. */
#define FALSE_ALARMS 3

/* A cached plan that the context runs, and the memory of its runs. */
struct run_slot {
    struct cached_plan *cached;
    struct plan_run *run; /* NULL where the rows run in parallel */
    struct row_parallel *rows;
    struct stage_run *stage; /* what comes after the plan; NULL: nothing */
    size_t bytes;            /* of that memory */
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
        if (inputs[i].dtype != port->dtype && port->dtype != DTYPE_UNKNOWN)
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

/* Room for what a plan's outputs point at: of one that a stage follows, more than the model's. */
static bool want_outputs(struct engine_context *context, const struct plan *plan, struct error *error) {
    const void **pointers = reallocarray(
        context->output_pointers,
        (size_t)context->engine->graph->output_count + (size_t)plan->output_count + 1, sizeof *pointers);
    if (!pointers)
        return error_set(error, ERROR_MEMORY, "not enough memory for a context");
    context->output_pointers = pointers;
    return true;
}

static void run_slot_release(struct plan_cache *plans, struct run_slot *slot) {
    plan_run_free(slot->run);
    row_parallel_free(slot->rows);
    stage_run_free(slot->stage);
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
    if (cached->stage && slot.run)
        slot.stage = stage_run_create(cached->stage, error);
    if ((!slot.run && !slot.rows) || (cached->stage && !slot.stage)) {
        run_slot_release(context->engine->plans, &slot);
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
    return want_outputs(context, slot->cached->plan, error);
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
        if (run && !want_outputs(context, cached->plan, error)) {
            plan_run_free(run);
            run = NULL;
        }
        if (cached && !run)
            plan_cache_give_back(plans, cached);
        if (!run)
            return false;
        plan_run_look(run);
        *slot = (struct run_slot){.cached = cached, .run = run};
        if (cached->stage && !(slot->stage = stage_run_create(cached->stage, error))) {
            run_slot_release(plans, slot);
            *slot = (struct run_slot){0};
            return false;
        }
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

    const struct graph *graph = context->engine->graph;
    if (output_count > graph->output_count)
        return error_set(error, ERROR_INVALID, "the model has %d outputs, and %d are asked for",
                         graph->output_count, output_count);
    for (int i = 0; i < input_count; i++)
        context->input_pointers[i] = inputs[i].data;
    const struct run_slot *slot = execute_either(context, inputs, input_count, error);
    if (!slot)
        return false;

    const struct plan *plan = slot->cached->plan;
    if (slot->stage)
        return stage_run_execute(slot->stage, plan, inputs, context->output_pointers, outputs, output_count,
                                 error);
    for (int i = 0; i < output_count; i++) {
        outputs[i] = (struct tensor){plan->outputs[i]->dtype, plan->outputs[i]->shape,
                                     (void *)context->output_pointers[i]};
        if (slot->rows)
            outputs[i].shape.dims[0] = slot->cached->parallel_rows;
    }

    return true;
}

struct tensor engine_prepared_output(const struct engine_context *context, int index) {
    if (context->last->stage) /* known when it has run */
        return (struct tensor){.dtype = context->engine->outputs[index].dtype,
                               .shape = context->engine->outputs[index].shape};

    const struct plan_tensor *output = context->last->cached->plan->outputs[index];
    return (struct tensor){.dtype = output->dtype, .shape = output->shape};
}

const struct plan *engine_context_plan(const struct engine_context *context) {
    return context->last ? context->last->cached->plan : NULL;
}

const int64_t *engine_context_times(const struct engine_context *context) {
    return context->last && context->last->run ? plan_run_times(context->last->run) : NULL;
}
