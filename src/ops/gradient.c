#include "ops/gradient.h"

#include <string.h>

#include "ops/family.h"

enum { OPSET = 13 }; /* of the nodes that are added */

static void no_memory(struct gradient *gradient) {
    node_memory_error(gradient->node, gradient->error);
}

struct node *gradient_node(struct gradient *gradient, const char *domain, const char *op_type,
                           struct value *const *inputs, int count) {
    for (int i = 0; i < count; i++)
        if (!inputs[i])
            return NULL;

    struct value *output = graph_add_value(gradient->graph, "");
    struct node *node =
        output ? operator_add_node(gradient->graph, NULL, domain, op_type, OPSET, inputs, count, output)
               : NULL;
    if (!node)
        no_memory(gradient);
    return node;
}

struct value *gradient_value(struct gradient *gradient, struct node *node) {
    if (!node || !operator_infer(node, gradient->error))
        return NULL;
    return node->outputs[0];
}

struct value *gradient_apply(struct gradient *gradient, const char *op_type, struct value *a,
                             struct value *b) {
    struct value *inputs[] = {a, b};
    return gradient_value(gradient, gradient_node(gradient, "", op_type, inputs, b ? 2 : 1));
}

struct value *gradient_ints(struct gradient *gradient, const int64_t *ints, int count) {
    const struct shape shape = {.rank = 1, .dims = {count}};
    int64_t *data = arena_allocate_array(gradient->graph->arena, (size_t)count + 1, sizeof *data);
    if (data)
        memcpy(data, ints, (size_t)count * sizeof *data);
    struct value *value = data ? graph_add_constant(gradient->graph, "", DTYPE_I64, &shape, data) : NULL;
    if (!value)
        no_memory(gradient);
    return value;
}

struct value *gradient_scaled(struct gradient *gradient, struct value *value, double factor) {
    const struct shape scalar = {.rank = 0};
    float *data = arena_allocate(gradient->graph->arena, sizeof *data);
    if (factor == 1 || !value)
        return value;
    if (data)
        *data = (float)factor;
    struct value *constant = data ? graph_add_constant(gradient->graph, "", DTYPE_F32, &scalar, data) : NULL;
    if (!constant) {
        no_memory(gradient);
        return NULL;
    }
    return gradient_apply(gradient, "Mul", value, constant);
}

struct value *gradient_shaped(struct gradient *gradient, struct value *value, const struct shape *shape) {
    if (!value || shape_equal(&value->shape, shape))
        return value;
    struct value *ints = gradient_ints(gradient, shape->dims, shape->rank);
    return ints ? gradient_apply(gradient, "Reshape", value, ints) : NULL;
}

struct value *gradient_expanded(struct gradient *gradient, struct value *value, const struct shape *shape) {
    if (!value || shape_equal(&value->shape, shape))
        return value;
    struct value *ints = gradient_ints(gradient, shape->dims, shape->rank);
    return ints ? gradient_apply(gradient, "Expand", value, ints) : NULL;
}

struct value *gradient_sum(struct gradient *gradient, struct value *value, const bool *axes) {
    int64_t list[LIMIT_TENSOR_RANK];
    int count = 0;
    for (int i = 0; value && i < value->shape.rank; i++)
        if (axes[i])
            list[count++] = i;
    if (!count)
        return value;
    struct value *ints = gradient_ints(gradient, list, count);
    return ints ? gradient_apply(gradient, "ReduceSum", value, ints) : NULL;
}

struct value *gradient_sum_to(struct gradient *gradient, struct value *value, const struct shape *shape) {
    bool axes[LIMIT_TENSOR_RANK] = {false};
    if (!value || shape_equal(&value->shape, shape))
        return value;

    int more = value->shape.rank - shape->rank;
    for (int i = 0; i < value->shape.rank; i++)
        axes[i] = value->shape.dims[i] != 1 && (i < more || shape->dims[i - more] == 1);
    return gradient_shaped(gradient, gradient_sum(gradient, value, axes), shape);
}
