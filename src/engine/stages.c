#include "engine/stages.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/parts.h"
#include "ops/operator.h"

struct stage {
    struct engine *engine; /* whose plan comes before */
    struct graph *whole, *waiting;
    struct engine *rest; /* NULL: nothing follows */
    int *head_ids;       /* [head_count] values by id */
    int *rest_inputs;    /* [of the rest] */
    int head_count;
};

/* A body's context, made when it is first needed. */
struct body_run {
    const struct graph *body;
    struct engine_context *context;
    struct body_run *next;
};

struct stage_run {
    const struct stage *stage;
    struct graph *waiting;  /* a copy whose values take this run's tensors */
    struct tensor *tensors; /* [value_count] by id; of type DTYPE_UNKNOWN where there is none */
    struct tensor *inputs;  /* scratch, as many as the rest or a body takes */
    int input_room;
    struct engine_context *rest;
    struct body_run *bodies;
    void **owned;
    int owned_count, owned_capacity;
};

/* --- Making --- */

static int *ids_of(struct value *const *values, int count) {
    int *ids = calloc((size_t)count + 1, sizeof *ids);
    for (int i = 0; ids && i < count; i++)
        ids[i] = values[i]->id;
    return ids;
}

struct stage *stage_create(struct engine *engine, struct graph *whole, struct graph_parts *parts,
                           struct error *error) {
    struct stage *stage = calloc(1, sizeof *stage);
    struct graph *rest = parts->rest;
    if (!stage) {
        graph_free(whole);
        graph_free(parts->waiting);
        graph_free(rest);
        error_set(error, ERROR_MEMORY, "not enough memory to plan the model in parts");
        return NULL;
    }

    stage->engine = engine;
    stage->whole = whole;
    stage->waiting = parts->waiting;
    stage->head_count = parts->head->output_count;
    stage->head_ids = ids_of(parts->head->outputs, stage->head_count);
    stage->rest_inputs = ids_of(rest->inputs, rest->input_count);
    bool done = stage->head_ids && stage->rest_inputs;
    if (!done)
        error_set(error, ERROR_MEMORY, "not enough memory to plan the model in parts");

    if (done && rest->node_count)
        done = (stage->rest = engine_create_part(engine, rest, false, error)) != NULL;
    else
        graph_free(rest);
    if (done)
        return stage;

    stage_free(stage);
    return NULL;
}

void stage_free(struct stage *stage) {
    if (!stage)
        return;

    engine_free(stage->rest);
    graph_free(stage->waiting);
    graph_free(stage->whole);
    free(stage->head_ids);
    free(stage->rest_inputs);
    free(stage);
}

struct stage_run *stage_run_create(const struct stage *stage, struct error *error) {
    struct stage_run *run = calloc(1, sizeof *run);
    if (run) {
        run->stage = stage;
        run->waiting = graph_clone(stage->waiting);
        run->tensors = calloc((size_t)stage->whole->value_count + 1, sizeof *run->tensors);
    }
    if (run && run->waiting && run->tensors &&
        (!stage->rest || (run->rest = engine_context_create(stage->rest, error))))
        return run;

    stage_run_free(run);
    error_set(error, ERROR_MEMORY, "not enough memory for a context");
    return NULL;
}

static void release_owned(struct stage_run *run) {
    for (int i = 0; i < run->owned_count; i++)
        free(run->owned[i]);
    run->owned_count = 0;
}

void stage_run_free(struct stage_run *run) {
    if (!run)
        return;

    release_owned(run);
    while (run->bodies) {
        struct body_run *next = run->bodies->next;
        engine_context_free(run->bodies->context);
        free(run->bodies);
        run->bodies = next;
    }
    engine_context_free(run->rest);
    graph_free(run->waiting);
    free(run->tensors);
    free(run->inputs);
    free(run->owned);
    free(run);
}

/* --- Running --- */

void *stage_run_own(struct stage_run *run, size_t bytes) {
    if (run->owned_count == run->owned_capacity) {
        int capacity = run->owned_capacity ? run->owned_capacity * 2 : 16;
        void **owned = reallocarray(run->owned, (size_t)capacity, sizeof *owned);
        if (!owned)
            return NULL;
        run->owned = owned;
        run->owned_capacity = capacity;
    }

    void *memory = bytes > SIZE_MAX - 128 ? NULL : aligned_alloc(64, (bytes + 64) & ~(size_t)63);
    if (memory)
        run->owned[run->owned_count++] = memory;
    return memory;
}

const struct tensor *stage_run_input(const struct stage_run *run, const struct node *node, int index) {
    const struct value *value = node_input(node, index);
    return !value ? NULL : value->constant ? value->constant : &run->tensors[value->id];
}

bool stage_run_wants(const struct stage_run *run, const struct node *node, int output) {
    if (output >= node->output_count || !node->outputs[output])
        return false;
    const struct value *value = run->stage->whole->values[node->outputs[output]->id];
    return value->use_count || value->is_output;
}

static bool want_inputs(struct stage_run *run, int count, struct error *error) {
    if (count <= run->input_room)
        return true;
    struct tensor *inputs = reallocarray(run->inputs, (size_t)count, sizeof *inputs);
    if (!inputs)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d inputs", count);
    run->inputs = inputs;
    run->input_room = count;
    return true;
}

static struct body_run *body_find(struct stage_run *run, const struct graph *body, struct error *error) {
    for (struct body_run *each = run->bodies; each; each = each->next)
        if (each->body == body)
            return each;

    struct engine *engine = engine_find_body(run->stage->engine, body, error);
    struct body_run *made = engine ? calloc(1, sizeof *made) : NULL;
    if (!made || !(made->context = engine_context_create(engine, error))) {
        free(made);
        if (engine)
            error_set(error, ERROR_MEMORY, "not enough memory for a context");
        return NULL;
    }
    made->body = body;
    made->next = run->bodies;
    run->bodies = made;
    return made;
}

bool stage_run_body(struct stage_run *run, const struct node *node, const struct attribute *body,
                    const struct tensor *formal, struct tensor *outputs, struct error *error) {
    int captured = body->captured_count, formal_count = body->graph->input_count - captured;
    struct body_run *own = body_find(run, body->graph, error);
    if (!own || !want_inputs(run, formal_count + captured, error))
        return false;

    for (int i = 0; i < formal_count; i++)
        run->inputs[i] = formal[i];
    for (int i = 0; i < captured; i++) {
        const struct tensor *tensor = stage_run_input(run, node, body->first_captured + i);
        run->inputs[formal_count + i] = tensor ? *tensor : (struct tensor){0};
    }
    return engine_run(own->context, run->inputs, formal_count + captured, outputs, body->graph->output_count,
                      error);
}

/* An operator of the table, on this run's tensors as constants. */
static bool compute_node(struct stage_run *run, struct node *node, struct tensor *ret, struct error *error) {
    cleanup(freep) struct tensor *inputs = calloc((size_t)node->input_count + 1, sizeof *inputs);
    if (!inputs)
        return node_memory_error(node, error);

    for (int i = 0; i < node->input_count; i++) {
        const struct tensor *tensor = stage_run_input(run, node, i);
        if (tensor)
            inputs[i] = *tensor;
    }
    if (!operator_infer(node, error))
        return false;

    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value)
            continue;
        ret[i] = (struct tensor){value->dtype, value->shape, NULL};
        ret[i].data = stage_run_own(run, tensor_bytes(&ret[i]));
        if (!ret[i].data)
            return node_memory_error(node, error);
    }
    return operator_compute(node, inputs, ret, error);
}

/* For infer, which reads constants: the values have this run's tensors. */
static void values_fill(struct stage_run *run, const struct node *node, bool filled) {
    for (int i = 0; i < node->input_count; i++) {
        struct value *value = node->inputs[i];
        struct tensor *tensor = value ? &run->tensors[value->id] : NULL;
        if (!value || tensor->dtype == DTYPE_UNKNOWN)
            continue;
        value->constant = filled ? tensor : NULL;
        value->dtype = tensor->dtype;
        value->shape = tensor->shape;
    }
}

static bool run_node(struct stage_run *run, struct node *node, struct error *error) {
    cleanup(freep) struct tensor *made = calloc((size_t)node->output_count + 1, sizeof *made);
    if (!made)
        return node_memory_error(node, error);

    values_fill(run, node, true);
    bool done = node_has(node, OP_CONTROL) ? control_run(run, node, made, error)
                                           : compute_node(run, node, made, error);
    values_fill(run, node, false);
    for (int i = 0; done && i < node->output_count; i++)
        if (node->outputs[i])
            run->tensors[node->outputs[i]->id] = made[i];
    return done;
}

static bool run_rest(struct stage_run *run, struct error *error) {
    const struct stage *stage = run->stage;
    if (!stage->rest)
        return true;

    int input_count = engine_input_count(stage->rest), output_count = engine_output_count(stage->rest);
    cleanup(freep) struct tensor *outputs = calloc((size_t)output_count + 1, sizeof *outputs);
    if (!outputs)
        return error_set(error, ERROR_MEMORY, "not enough memory for outputs");
    if (!want_inputs(run, input_count, error))
        return false;

    for (int i = 0; i < input_count; i++)
        run->inputs[i] = run->tensors[stage->rest_inputs[i]];
    if (!engine_run(run->rest, run->inputs, input_count, outputs, output_count, error))
        return false;
    for (int i = 0, at = 0; i < stage->whole->output_count && at < output_count; i++) {
        int id = stage->whole->outputs[i]->id; /* the rest has them in the same order */
        if (run->tensors[id].dtype == DTYPE_UNKNOWN)
            run->tensors[id] = outputs[at++];
    }
    return true;
}

bool stage_run_execute(struct stage_run *run, const struct plan *plan, const struct tensor *inputs,
                       const void *const *head, struct tensor *outputs, int output_count,
                       struct error *error) {
    const struct stage *stage = run->stage;
    const struct graph *whole = stage->whole;
    release_owned(run);
    for (int i = 0; i < whole->value_count; i++)
        run->tensors[i].dtype = DTYPE_UNKNOWN;

    for (int i = 0; i < whole->input_count; i++)
        run->tensors[whole->inputs[i]->id] = inputs[i];
    for (int i = 0; i < stage->head_count; i++)
        run->tensors[stage->head_ids[i]] =
            (struct tensor){plan->outputs[i]->dtype, plan->outputs[i]->shape, (void *)head[i]};
    for (struct node *node = run->waiting->first; node; node = node->next)
        if (!run_node(run, node, error))
            return false;
    if (!run_rest(run, error))
        return false;

    for (int i = 0; i < output_count; i++)
        outputs[i] = run->tensors[whole->outputs[i]->id];
    return true;
}
