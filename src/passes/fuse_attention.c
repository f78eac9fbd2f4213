/* Softmax(q k' * scale + addends) v, as exporters write it, to one node: Attention. */
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

struct match {
    struct value *q, *k, *v;
    float scale;
    int addend_count;
    struct value
        *addends[3]; /* each [leading…, queries, keys]: repeats over the pairs of batch and head in order */
};

/* The constant expanded over all axes from the first along which it varies, so that its matrices lie in the
 * order of the pairs. `at` is the shape that it is added to. NULL if that is more than 4 M elements, or
 * memory is out. */
static struct value *expand_addend(struct graph *graph, const struct value *constant,
                                   const struct shape *at) {
    int rank = at->rank;
    struct shape from = {.rank = rank}, to = {.rank = rank};
    bool varies = false;

    for (int i = 0; i < rank; i++) {
        int index = i - (rank - constant->shape.rank);
        from.dims[i] = index < 0 ? 1 : constant->shape.dims[index];
        varies |= from.dims[i] != 1;
        to.dims[i] = varies || i >= rank - 2 ? at->dims[i] : 1;
    }

    int64_t elements = shape_elements(&to);
    if (elements < 0 || elements > (4 << 20))
        return NULL;

    float *data = graph_own_memory(graph, (size_t)elements * sizeof *data);
    if (!data)
        return NULL;

    const float *source = constant->constant->data;
    int64_t coordinates[LIMIT_TENSOR_RANK] = {0};

    for (int64_t i = 0; i < elements; i++) {
        int64_t index = 0;
        for (int axis = 0; axis < rank; axis++)
            index = index * from.dims[axis] + (from.dims[axis] == 1 ? 0 : coordinates[axis]);
        data[i] = source[index];

        for (int axis = rank - 1; axis >= 0 && ++coordinates[axis] == to.dims[axis]; axis--)
            coordinates[axis] = 0;
    }

    return graph_add_constant(graph, constant->name, DTYPE_F32, &to, data);
}

/* value = x * scale (or x / divisor); *ret_scale is multiplied. */
static struct value *strip_scale(struct value *value, float *ret_scale) {
    struct node *product = producer_of(value, "Mul"), *quotient = producer_of(value, "Div");
    float constant;

    if (product && only_user(value))
        for (int i = 0; i < 2; i++)
            if (value_scalar(product->inputs[i], &constant)) {
                *ret_scale *= constant;
                return product->inputs[1 - i];
            }

    if (quotient && only_user(value) && value_scalar(quotient->inputs[1], &constant) && constant != 0) {
        *ret_scale /= constant;
        return quotient->inputs[0];
    }

    return value;
}

/* From softmax's input back to the product of q and k', past additions of constants and reshapes. */
static struct node *find_scores(struct graph *graph, struct value *value, struct match *match) {
    for (int depth = 0; depth < 12 && value->producer && only_user(value); depth++) {
        struct node *node = value->producer;
        if (node_is(node, "MatMul"))
            return node;

        if (node_has(node, OP_RESHAPES)) {
            value = node->inputs[0];
        } else if (node_is(node, "Add") && (node->inputs[0]->constant || node->inputs[1]->constant)) {
            struct value *constant = node->inputs[node->inputs[0]->constant ? 0 : 1];
            struct value *rest = other_input(node, constant);
            if (match->addend_count == 3 || constant->dtype != DTYPE_F32 ||
                !shape_equal(&rest->shape, &node->outputs[0]->shape))
                return NULL;

            struct value *expanded = expand_addend(graph, constant, &rest->shape);
            if (!expanded)
                return NULL;

            match->addends[match->addend_count++] = expanded;
            value = rest;
        } else {
            struct value *rest = strip_scale(value, &match->scale);
            if (rest == value)
                return NULL;
            value = rest;
        }
    }

    return NULL;
}

static bool fits(const struct match *match, const struct shape *scores) {
    const struct shape *q = &match->q->shape, *k = &match->k->shape, *v = &match->v->shape;
    int rank = q->rank;
    if ((rank != 3 && rank != 4) || k->rank != rank || v->rank != rank || scores->rank != rank)
        return false;

    for (int i = 0; i < rank - 2; i++)
        if (q->dims[i] != k->dims[i] || q->dims[i] != v->dims[i])
            return false;

    for (int i = 0; i < match->addend_count; i++) {
        const struct shape *shape = &match->addends[i]->shape;
        if (shape->dims[shape->rank - 2] != scores->dims[rank - 2] ||
            shape->dims[shape->rank - 1] != scores->dims[rank - 1])
            return false;
    }

    return !match->q->constant && !match->k->constant && !match->v->constant && shape_elements(scores) > 0;
}

bool fuse_attention(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (!node_is(node, "Softmax") || node->outputs[0]->dtype != DTYPE_F32)
        return true;

    struct node *last = only_user(node->outputs[0]);
    if (node_along_axis(node) != node->outputs[0]->shape.rank - 1 || !last || !node_is(last, "MatMul") ||
        last->post_op_count || last->inputs[0] != node->outputs[0])
        return true;

    struct match match = {.scale = 1, .v = last->inputs[1]};
    struct node *scores = find_scores(graph, node->inputs[0], &match);
    if (!scores || scores->post_op_count)
        return true;

    match.q = strip_scale(scores->inputs[0], &match.scale);
    match.k = strip_scale(scores->inputs[1], &match.scale);
    if (!fits(&match, &node->outputs[0]->shape) ||
        !shape_equal(&scores->outputs[0]->shape, &node->outputs[0]->shape))
        return true;

    struct value *inputs[6] = {match.q,          match.k,          match.v,
                               match.addends[0], match.addends[1], match.addends[2]};
    struct node *made =
        replace_by(graph, last, "Attention", OWN, inputs, 3 + match.addend_count, last->outputs[0]);
    *ret_resume = made;

    return made && node_set_float(graph, made, "scale", match.scale);
}
