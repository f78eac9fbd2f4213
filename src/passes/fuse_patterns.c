/* Patterns that exporters write operator by operator, to one node. */
#include <math.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

struct node *producer_of(const struct value *value, const char *op_type) {
    return value && value->producer && node_is(value->producer, op_type) && !value->producer->post_op_count
               ? value->producer
               : NULL;
}

struct value *other_input(const struct node *node, const struct value *one) {
    return node->inputs[0] == one ? node->inputs[1] : node->inputs[0];
}

struct node *replace_by(struct graph *graph, struct node *before, const char *op_type, int opset,
                        struct value *const *inputs, int input_count, struct value *result) {
    const char *domain = opset == OWN ? OPERATORS_OWN : "";
    struct value *made = graph_add_value(graph, result->name);
    struct node *node =
        made ? operator_add_node(graph, before, domain, op_type, opset, inputs, input_count, made) : NULL;
    if (!node)
        return NULL;

    made->dtype = result->dtype;
    made->shape = result->shape;
    if (!graph_replace_value(graph, result, made))
        return NULL;

    remove_if_dead(graph, result->producer);

    return node;
}

static bool is_dead(const struct node *node) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return false;
    return true;
}

/* Patterns are short: a longer chain is left to graph_remove_dead_nodes. */
static void remove_dead_chain(struct graph *graph, struct node *node, int depth) {
    if (!is_dead(node) || depth == 32)
        return;
    graph_remove_node(graph, node);
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && node->inputs[i]->producer)
            remove_dead_chain(graph, node->inputs[i]->producer, depth + 1);
}

void remove_if_dead(struct graph *graph, struct node *node) {
    remove_dead_chain(graph, node, 0);
}

/* value = x * factor with a constant scalar, also written as a division. */
static bool scaled(const struct value *value, struct value **ret_x, float *ret_factor) {
    struct node *node;
    float constant;
    if ((node = producer_of(value, "Mul"))) {
        for (int i = 0; i < 2; i++)
            if (value_scalar(node->inputs[i], &constant) && !node->inputs[1 - i]->constant) {
                *ret_x = node->inputs[1 - i];
                *ret_factor = constant;
                return true;
            }
    } else if ((node = producer_of(value, "Div")) && value_scalar(node->inputs[1], &constant) &&
               constant != 0) {
        *ret_x = node->inputs[0];
        *ret_factor = 1 / constant;
        return true;
    }

    return false;
}

static bool close_to(float a, float b) {
    return fabsf(a - b) <= 1e-4f * fabsf(b);
}

/* value = 1 + erf(x / sqrt 2): x, or NULL. */
static struct value *gelu_gate(const struct value *value) {
    struct node *add = producer_of(value, "Add");
    struct value *x;
    float factor;

    for (int i = 0; add && i < 2; i++) {
        struct node *erf = producer_of(add->inputs[i], "Erf");
        if (erf && value_is_scalar(add->inputs[1 - i], 1) && scaled(erf->inputs[0], &x, &factor) &&
            close_to(factor, 0.70710678f))
            return x;
    }

    return NULL;
}

/* The product of x, (1 + erf(x / sqrt 2)) and 1/2, in any order. */
bool fuse_gelu(struct graph *graph, struct node *node, struct node **ret_resume) {
    if ((!node_is(node, "Mul") && !node_is(node, "Div")) || node->outputs[0]->dtype != DTYPE_F32 ||
        node->outputs[0]->shape.rank < 1)
        return true;
    struct value *inner, *x = NULL, *result = node->outputs[0];
    float factor;

    if (scaled(result, &inner, &factor) && close_to(factor, 0.5f)) { /* (x * gate) / 2 */
        struct node *product = producer_of(inner, "Mul");
        for (int i = 0; product && i < 2 && !x; i++) {
            struct value *gated = gelu_gate(product->inputs[i]);
            if (gated && gated == product->inputs[1 - i])
                x = gated;
        }
    } else if (node_is(node, "Mul")) { /* (x / 2) * gate, or x * (gate / 2) */
        for (int i = 0; i < 2 && !x; i++) {
            struct value *half, *gated = gelu_gate(node->inputs[i]);
            if (gated && scaled(node->inputs[1 - i], &half, &factor) && close_to(factor, 0.5f) &&
                half == gated)
                x = gated;
            if (!x && scaled(node->inputs[i], &half, &factor) && close_to(factor, 0.5f) &&
                (gated = gelu_gate(half)) && gated == node->inputs[1 - i])
                x = gated;
        }
    }

    if (!x)
        return true;

    *ret_resume = replace_by(graph, node, "Gelu", 20, &x, 1, result);

    return *ret_resume != NULL;
}

bool fuse_gated(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (!node_is(node, "Mul") || node->outputs[0]->dtype != DTYPE_F32 || node->outputs[0]->shape.rank < 1)
        return true;

    for (int i = 0; i < 2; i++) {
        struct value *x = node->inputs[1 - i];
        struct node *hard = producer_of(node->inputs[i], "HardSigmoid");
        struct node *soft = producer_of(node->inputs[i], "Sigmoid");
        struct node *made;

        if (hard && hard->inputs[0] == x && close_to(node_float(hard, "alpha", 0.2f), 1.0f / 6) &&
            close_to(node_float(hard, "beta", 0.5f), 0.5f))
            made = replace_by(graph, node, "HardSwish", 14, &x, 1, node->outputs[0]);
        else if (soft && soft->inputs[0] == x)
            made = replace_by(graph, node, "Swish", OWN, &x, 1, node->outputs[0]);
        else
            continue;

        *ret_resume = made;

        return made != NULL;
    }

    return true;
}

/* ReduceMean over the last axis alone, the axis kept. */
static bool is_last_mean(const struct node *node) {
    if (!node || !node_int(node, "keepdims", 1))
        return false;
    int rank = node->inputs[0]->shape.rank;
    const int64_t *axes;
    int64_t axis;
    size_t count = node_ints(node, "axes", &axes);

    if (count == 1)
        axis = axes[0];
    else if (node_input(node, 1) && node->inputs[1]->constant && shape_elements(&node->inputs[1]->shape) == 1)
        axis = tensor_get_i64(node->inputs[1]->constant, 0);
    else
        return false;

    return axis == -1 || axis == rank - 1;
}

/* value = x - mean(x) */
static struct value *centred(const struct value *value) {
    struct node *difference = producer_of(value, "Sub");
    struct node *mean = difference ? producer_of(difference->inputs[1], "ReduceMean") : NULL;
    return mean && is_last_mean(mean) && mean->inputs[0] == difference->inputs[0] ? difference->inputs[0]
                                                                                  : NULL;
}

/* value = sqrt(mean(d * d) + epsilon), d = x - mean(x) */
static bool is_deviation(const struct value *value, const struct value *x, float *ret_epsilon) {
    struct node *root = producer_of(value, "Sqrt");
    struct node *add = root ? producer_of(root->inputs[0], "Add") : NULL;
    for (int i = 0; add && i < 2; i++) {
        struct node *mean = producer_of(add->inputs[i], "ReduceMean");
        if (!is_last_mean(mean) || !value_scalar(add->inputs[1 - i], ret_epsilon))
            continue;

        struct node *power = producer_of(mean->inputs[0], "Pow"),
                    *product = producer_of(mean->inputs[0], "Mul");
        struct value *difference = power && value_is_scalar(power->inputs[1], 2)         ? power->inputs[0]
                                   : product && product->inputs[0] == product->inputs[1] ? product->inputs[0]
                                                                                         : NULL;
        if (difference && centred(difference) == x)
            return true;
    }

    return false;
}

/* The only user of the value, if it multiplies by (or adds) a constant row of the last axis. */
static struct node *row_user(const struct value *value, const char *op_type, struct value **ret_row) {
    struct node *user = only_user(value);
    if (!user || !node_is(user, op_type))
        return NULL;

    struct value *row = other_input(user, value);
    int64_t columns = value->shape.dims[value->shape.rank - 1];
    if (row == value || !row->constant || row->dtype != DTYPE_F32 || shape_elements(&row->shape) != columns ||
        row->shape.dims[row->shape.rank - 1] != columns || row->shape.rank < 1)
        return NULL;

    *ret_row = row;

    return user;
}

/* LayerNormalization-17's scale and bias have the shape of the normalised axis. */
static struct value *as_row(struct graph *graph, struct value *row) {
    struct shape shape = {.rank = 1, .dims = {shape_elements(&row->shape)}};
    return row->shape.rank == 1
               ? row
               : graph_add_constant(graph, row->name, row->dtype, &shape, row->constant->data);
}

bool fuse_layer_norm(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (!node_is(node, "Div") || node->outputs[0]->dtype != DTYPE_F32 || node->outputs[0]->shape.rank < 1)
        return true;
    float epsilon;
    struct value *x = centred(node->inputs[0]), *scale, *shift = NULL;
    if (!x || !is_deviation(node->inputs[1], x, &epsilon) || x->shape.rank < 1)
        return true;

    struct node *last = row_user(node->outputs[0], "Mul", &scale);
    if (!last)
        return true;

    struct node *added = row_user(last->outputs[0], "Add", &shift);
    if (added)
        last = added;

    struct value *inputs[3] = {x, as_row(graph, scale), shift ? as_row(graph, shift) : NULL};
    struct node *made =
        replace_by(graph, last, "LayerNormalization", 17, inputs, shift ? 3 : 2, last->outputs[0]);
    *ret_resume = made;

    return made && node_set_int(graph, made, "axis", -1) && node_set_float(graph, made, "epsilon", epsilon);
}
