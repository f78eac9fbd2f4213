#include "train/differentiate.h"

#include <stdlib.h>
#include <string.h>

#include "ops/gradient.h"

/* Gradients by value, as far as the way back has come. */
struct differentiation {
    struct graph *graph;
    struct value **gradients; /* [value_count of the graph before] NULL: none yet */
    bool *depends;            /* [value_count …] on something that is wanted */
    int value_count;
    struct error *error;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the gradients of a network");
}

/* Which values depend on what is wanted. */
static void mark(struct differentiation *work) {
    for (const struct node *node = work->graph->first; node; node = node->next) {
        bool depends = false;
        for (int i = 0; i < node->input_count; i++)
            depends = depends || (node->inputs[i] && work->depends[node->inputs[i]->id]);
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i])
                work->depends[node->outputs[i]->id] = depends && dtype_is_float(node->outputs[i]->dtype);
    }
}

/* A gradient more of a value that several nodes read. */
static bool accumulate(struct differentiation *work, const struct node *node, const struct value *value,
                       struct value *gradient) {
    struct value **sum = &work->gradients[value->id];
    struct gradient step = {.graph = work->graph, .node = node, .error = work->error};
    *sum = *sum ? gradient_apply(&step, "Add", *sum, gradient) : gradient;
    return *sum != NULL;
}

static bool step_back(struct differentiation *work, const struct node *node) {
    size_t inputs = (size_t)node->input_count + 1, outputs = (size_t)node->output_count + 1;
    struct arena *arena = work->graph->arena;
    struct value **from = arena_allocate_array(arena, outputs, sizeof *from);
    struct value **to = arena_allocate_array(arena, inputs, sizeof *to);
    bool *wanted = arena_allocate_array(arena, inputs, sizeof *wanted), any = false, reached = false;
    if (!from || !to || !wanted)
        return no_memory(work->error);

    for (int i = 0; i < node->output_count; i++) {
        from[i] = node->outputs[i] ? work->gradients[node->outputs[i]->id] : NULL;
        reached = reached || from[i];
    }
    for (int i = 0; i < node->input_count; i++)
        any = (wanted[i] = node->inputs[i] && work->depends[node->inputs[i]->id]) || any;
    if (!any || !reached)
        return true;

    struct gradient gradient = {.graph = work->graph,
                                .node = node,
                                .outputs = from,
                                .inputs = to,
                                .wanted = wanted,
                                .error = work->error};
    bool (*differentiate)(struct gradient *) = node_has(node, OP_RESHAPES) ? gradient_reshape
                                               : node->op                  ? node->op->differentiate
                                                                           : NULL;
    if (!differentiate)
        return node_error(node, work->error, "it has no gradient: this network cannot be trained");
    if (!differentiate(&gradient))
        return false;

    for (int i = 0; i < node->input_count; i++)
        if (wanted[i] && to[i] && !accumulate(work, node, node->inputs[i], to[i]))
            return false;
    return true;
}

/* A constant of a shape, all of one number. */
static struct value *filled(struct differentiation *work, const struct shape *shape, float number) {
    int64_t count = shape_elements(shape);
    float *data = count >= 0 ? graph_own_memory(work->graph, ((size_t)count + 1) * sizeof *data) : NULL;
    for (int64_t i = 0; data && i < count; i++)
        data[i] = number;
    struct value *value = data ? graph_add_constant(work->graph, "", DTYPE_F32, shape, data) : NULL;
    if (!value)
        no_memory(work->error);
    return value;
}

static bool walk_back(struct differentiation *work, struct value *loss) {
    struct node *last = work->graph->last;
    work->gradients[loss->id] = filled(work, &loss->shape, 1);
    if (!work->gradients[loss->id])
        return false;

    for (const struct node *node = last; node; node = node->previous)
        if (!step_back(work, node))
            return false;
    return true;
}

bool train_differentiate(struct graph *graph, struct value *loss, struct value *const *wanted, int count,
                         struct value **ret_gradients, struct error *error) {
    size_t values = (size_t)graph->value_count + 1;
    struct differentiation work = {.graph = graph,
                                   .gradients = calloc(values, sizeof(struct value *)),
                                   .depends = calloc(values, sizeof(bool)),
                                   .value_count = graph->value_count,
                                   .error = error};
    bool done = work.gradients && work.depends ? true : no_memory(error);

    if (done) {
        for (int i = 0; i < count; i++)
            work.depends[wanted[i]->id] = true;
        mark(&work);
        done = walk_back(&work, loss);
    }
    for (int i = 0; done && i < count; i++) {
        struct value *gradient = work.gradients[wanted[i]->id];
        ret_gradients[i] = gradient ? gradient : filled(&work, &wanted[i]->shape, 0);
        done = ret_gradients[i] != NULL;
    }

    free(work.gradients);
    free(work.depends);
    return done;
}
