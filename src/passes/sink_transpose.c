/* Transposes move towards the end of the graph, past whatever works element by element, until they meet
 * another and vanish, or meet a node that needs them. A channels-last network written in ONNX's
 * channels-first axes then computes in one order throughout. */
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

static void permutation_of(const struct node *node, int64_t *ret) {
    const int64_t *given;
    int rank = node->inputs[0]->shape.rank;
    size_t count = node_ints(node, "perm", &given);
    for (int i = 0; i < rank; i++)
        ret[i] = count ? given[i] : rank - 1 - i;
}

static struct value *add_transpose(struct graph *graph, struct node *before, struct value *input,
                                   const int64_t *permutation) {
    struct value *made = graph_add_value(graph, input->name);
    struct node *node =
        made ? graph_add_node(graph, before, "", "Transpose", before->name, &input, 1, &made, 1) : NULL;
    if (!node || !node_set_ints(graph, node, "perm", permutation, (size_t)input->shape.rank))
        return NULL;
    node->opset = 13;
    node->operator= operator_find("", "Transpose", 13);
    made->dtype = input->dtype;
    made->shape.rank = input->shape.rank;
    for (int i = 0; i < input->shape.rank; i++)
        made->shape.dims[i] = input->shape.dims[permutation[i]];
    return made;
}

/* Transpose of a Transpose: one, or none. */
static bool merge(struct graph *graph, struct node *node, struct node *first, struct node **ret_resume) {
    int64_t inner[LIMIT_TENSOR_RANK], outer[LIMIT_TENSOR_RANK], both[LIMIT_TENSOR_RANK];
    int rank = first->inputs[0]->shape.rank;
    permutation_of(first, inner);
    permutation_of(node, outer);
    bool identity = true;
    for (int i = 0; i < rank; i++) {
        both[i] = inner[outer[i]];
        identity &= both[i] == i;
    }
    if (identity && !node->outputs[0]->is_output) {
        *ret_resume = node->next ? node->next : graph->first;
        if (!graph_replace_value(graph, node->outputs[0], first->inputs[0]))
            return false;
        remove_if_dead(graph, node);
        return true;
    }
    *ret_resume = node;
    bool done = node_set_input(graph, node, 0, first->inputs[0]) &&
                node_set_ints(graph, node, "perm", both, (size_t)rank);
    remove_if_dead(graph, first);
    return done;
}

/* A constant that varies along one axis at most, seen through the inverse permutation: [c, 1, 1] under NCHW
 * is [c] under NHWC. */
static struct value *permute_constant(struct graph *graph, struct value *constant, const int64_t *permutation,
                                      int rank) {
    const struct shape *shape = &constant->shape;
    int64_t elements = shape_elements(shape);
    struct shape made = {.rank = rank};
    int varying = -1;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] != 1) {
            if (varying >= 0)
                return NULL;
            varying = i + rank - shape->rank;
        }
    for (int i = 0; i < rank; i++)
        made.dims[i] = 1;
    if (varying >= 0) /* axis `varying` of the transposed tensor is axis permutation[varying] of x */
        made.dims[permutation[varying]] = elements;
    return graph_add_constant(graph, constant->name, constant->dtype, &made, constant->constant->data);
}

static bool is_unary(const struct node *node) {
    static const char *const names[] = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Swish",
                                        "Gelu", "Exp",       "Sqrt",    "Erf",  "Neg",       "Abs"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (node_is(node, names[i]))
            return true;
    return false;
}

/* [n, spatial…, c] to [n, c, spatial…]: the way back to ONNX's axes. Only past this one do others' inputs get
 * a transpose of their own, which then is never sunk itself. */
static bool is_channels_first(const int64_t *permutation, int rank) {
    bool matches = rank >= 3 && permutation[0] == 0 && permutation[1] == rank - 1;
    for (int i = 2; i < rank; i++)
        matches = matches && permutation[i] == i - 1;
    return matches;
}

/* f(Transpose(x)) or f(Transpose(x), y): the transpose goes behind f. */
static bool sink(struct graph *graph, struct node *node, struct node *transpose, struct node **ret_resume) {
    int64_t permutation[LIMIT_TENSOR_RANK], inverse[LIMIT_TENSOR_RANK];
    struct value *mine = transpose->outputs[0], *x = transpose->inputs[0], *result = node->outputs[0];
    int rank = x->shape.rank;
    permutation_of(transpose, permutation);
    for (int i = 0; i < rank; i++)
        inverse[permutation[i]] = i;
    if (!shape_equal(&result->shape, &mine->shape))
        return true;
    struct value *inputs[2] = {x, NULL};
    int place = node->inputs[0] == mine ? 0 : 1;
    if (node->input_count == 2) {
        struct value *y = node->inputs[1 - place];
        struct value *turned = NULL;
        if (y == mine)
            turned = x;
        else if (y->constant)
            turned = permute_constant(graph, y, permutation, rank);
        else if (y->shape.rank == rank && is_channels_first(permutation, rank))
            turned = add_transpose(graph, node, y, inverse);
        if (!turned)
            return true;
        inputs[place] = x;
        inputs[1 - place] = turned;
    }
    struct value *inner = graph_add_value(graph, result->name);
    if (!inner)
        return false;
    inner->dtype = result->dtype;
    inner->shape = x->shape;
    struct node *moved =
        graph_add_node(graph, node, "", node->op_type, node->name, inputs, node->input_count, &inner, 1);
    if (!moved)
        return false;
    moved->opset = node->opset;
    moved->operator= node->operator;
    moved->attributes = node->attributes;
    moved->attribute_count = node->attribute_count;
    struct value *outer = add_transpose(graph, node, inner, permutation);
    if (!outer || !graph_replace_value(graph, result, outer))
        return false;
    *ret_resume = outer->producer;
    for (int i = 0; i < 2 && inputs[i];
         i++) /* an inverse that was put before y may meet its opposite at once */
        if (inputs[i]->producer && inputs[i]->producer->next == moved &&
            node_is(inputs[i]->producer, "Transpose"))
            *ret_resume = inputs[i]->producer;
    remove_if_dead(graph, node);
    return true;
}

bool sink_transpose(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (node_is(node, "Transpose")) {
        struct node *first = producer_of(node->inputs[0], "Transpose");
        return first ? merge(graph, node, first, ret_resume) : true;
    }
    bool binary = (node_is(node, "Add") || node_is(node, "Mul")) && node->inputs[0]->dtype == DTYPE_F32;
    if (node->post_op_count || (!binary && !is_unary(node)))
        return true;
    for (int i = 0; i < node->input_count; i++) {
        struct node *transpose = producer_of(node->inputs[i], "Transpose");
        if (transpose && only_user(transpose->outputs[0]))
            return sink(graph, node, transpose, ret_resume);
    }
    return true;
}
