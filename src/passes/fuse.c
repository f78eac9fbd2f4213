/* Fewer, larger nodes: what follows a convolution or a matrix product becomes part of it. */
#include "passes/fuse.h"

#include <string.h>

#include "passes/passes.h"

/* The node that alone uses the value; NULL where there are none, several, or the value leaves the graph. */
struct node *only_user(const struct value *value) {
    return value->use_count == 1 && !value->is_output ? value->uses[0].node : NULL;
}

/* The product with constant weights that lowering/ has a fast step for, whatever is fused to it. */
static bool takes_posts(const struct node *node) {
    if (node->post_op_count >= NODE_POST_OPS - 2 || node->output_count != 1 || !node->outputs[0] ||
        node->outputs[0]->dtype != DTYPE_F32 || shape_elements(&node->outputs[0]->shape) <= 0)
        return false;
    const struct value *weights = node_input(node, 1);
    bool constant = weights && (weights->constant || has_integer_weights(node));
    if (node_is(node, "Conv") || node_is(node, "ConvTranspose")) {
        int rank = node->inputs[0]->shape.rank;
        return constant && rank >= 3 && rank <= 5 && (!node_input(node, 2) || node->inputs[2]->constant);
    }
    if (node_is(node, "Gemm")) {
        const struct value *bias = node_input(node, 2);
        int64_t columns = node->outputs[0]->shape.dims[1];
        bool row =
            !bias || (bias->constant && shape_elements(&bias->shape) == columns &&
                      bias->shape.dims[bias->shape.rank - 1] == columns && node_float(node, "beta", 1) == 1);
        return constant && row && !node_int(node, "transA", 0) && node_float(node, "alpha", 1) == 1;
    }
    if (node_is(node, "MatMul"))
        return constant && weights->shape.rank == 2 && node->inputs[0]->shape.rank >= 2;
    return false;
}

bool passes_batch_norm_is_constant(const struct node *node) {
    if (!node_is(node, "BatchNormalization") || node->input_count != 5 || node->output_count != 1 ||
        node->inputs[0]->dtype != DTYPE_F32)
        return false;
    const struct shape *shape = &node->outputs[0]->shape;
    bool constant = shape->rank >= 3 && shape->rank <= 5 && shape_elements(shape) > 0;
    for (int i = 1; i < 5 && constant; i++)
        constant = node->inputs[i]->constant && node->inputs[i]->constant->dtype == DTYPE_F32;
    return constant;
}

/* Batch norms, and additions and products of two tensors, one of which has the result's shape, take
 * activations.
 */
static bool takes_activation(const struct node *node) {
    if (passes_batch_norm_is_constant(node))
        return node->post_op_count < NODE_POST_OPS - 2;
    if (!node_is(node, "Add") && !node_is(node, "Mul"))
        return false;
    const struct value *output = node->outputs[0];
    return node->post_op_count < NODE_POST_OPS - 2 && output->dtype == DTYPE_F32 && output->shape.rank >= 1 &&
           shape_elements(&output->shape) > 0 &&
           (shape_equal(&node->inputs[0]->shape, &output->shape) ||
            shape_equal(&node->inputs[1]->shape, &output->shape));
}

/* An activation as a post-op; false where the node is none, or its parameters are not constant. */
static bool activation_of(const struct node *node, struct post_op *ret) {
    struct post_op post = {.input = -1};
    if (node_is(node, "Relu"))
        post.kind = POST_RELU;
    else if (node_is(node, "LeakyRelu"))
        post = (struct post_op){POST_RELU, node_float(node, "alpha", 0.01f), 0, -1};
    else if (node_is(node, "Sigmoid"))
        post.kind = POST_SIGMOID;
    else if (node_is(node, "Tanh"))
        post.kind = POST_TANH;
    else if (node_is(node, "HardSwish"))
        post.kind = POST_HARDSWISH;
    else if (node_is(node, "HardSigmoid"))
        post = (struct post_op){POST_HARDSIGMOID, node_float(node, "alpha", 0.2f),
                                node_float(node, "beta", 0.5f), -1};
    else if (node_is(node, "Swish"))
        post = (struct post_op){POST_SWISH, 1, 0, -1};
    else if (node_is(node, "Gelu"))
        post.kind =
            strcmp(node_string(node, "approximate", "none"), "tanh") == 0 ? POST_GELU_TANH : POST_GELU_ERF;
    else if (node_is(node, "Clip")) {
        post = (struct post_op){POST_CLIP, -3.402823466e38f, 3.402823466e38f, -1};
        if (node->opset < 11) {
            post.alpha = node_float(node, "min", post.alpha);
            post.beta = node_float(node, "max", post.beta);
        } else if ((node_input(node, 1) && !value_scalar(node->inputs[1], &post.alpha)) ||
                   (node_input(node, 2) && !value_scalar(node->inputs[2], &post.beta)))
            return false;
    } else
        return false;
    *ret = post;
    return true;
}

/* `user` becomes a post-op of `node`, which takes its place (so that the operand, if any, is there before
 * it). */
static bool absorb(struct graph *graph, struct node *node, struct node *user, struct post_op post,
                   struct value *operand) {
    struct value *result = user->outputs[0];
    if (operand) {
        post.input = node->input_count;
        if (node_is(node, "Conv") || node_is(node, "ConvTranspose") || node_is(node, "Gemm"))
            while (node->input_count < 3) /* the bias that is left out keeps its place */
                if (!node_set_input(graph, node, node->input_count, NULL))
                    return false;
        post.input = node->input_count;
        if (!node_set_input(graph, node, post.input, operand))
            return false;
    }
    node->post_ops[node->post_op_count++] = post;
    graph_move_node(graph, node, user);
    struct value *old = node->outputs[0];
    graph_remove_node(graph, user);
    node->outputs[0] = result;
    result->producer = node;
    old->producer = NULL;
    return true;
}

/* Is operand computed before `node` could run at `user`'s place? Always: user needs it. But it must not
 * depend on the node. */
static bool adds_tensor(const struct node *node, const struct node *user, struct value **ret_operand,
                        struct post_op *ret) {
    bool add = node_is(user, "Add");
    if (!add && !node_is(user, "Mul"))
        return false;
    struct value *mine = node->outputs[0];
    struct value *other = user->inputs[0] == mine ? user->inputs[1] : user->inputs[0];
    if (other == mine || other->dtype != DTYPE_F32 || !shape_equal(&mine->shape, &user->outputs[0]->shape))
        return false;
    bool whole = shape_equal(&other->shape, &mine->shape);
    int64_t last = mine->shape.dims[mine->shape.rank - 1];
    bool row = other->constant && node_is(node, "MatMul") && shape_elements(&other->shape) == last &&
               other->shape.rank >= 1 && other->shape.dims[other->shape.rank - 1] == last;
    if (has_integer_weights(
            node)) { /* integers take a row first of all, and one whole tensor: see fuse_quantised.c */
        bool sums = false;
        for (int i = 0; i < node->post_op_count; i++)
            sums |= node->post_ops[i].kind == POST_ADD && !node->inputs[node->post_ops[i].input]->constant;
        row = row && add && node->post_op_count == 0;
        whole = whole && !sums;
    }
    if (!(whole && add && !other->constant) && !row)
        return false;
    *ret = (struct post_op){add ? POST_ADD : POST_MULTIPLY, 0, 0, -1};
    *ret_operand = other;
    return true;
}

/* Of two products that are added, the one that runs later takes the other in: then only one has to wait. */
static bool runs_later(const struct node *node, const struct value *other) {
    const struct node *producer = other->producer;
    if (!producer || !takes_posts(producer) || only_user(other) == NULL)
        return true;
    for (const struct node *at = node->next; at; at = at->next)
        if (at == producer)
            return false;
    return true;
}

static bool fuse_posts(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct node *user = only_user(node->outputs[0]);
    struct post_op post;
    struct value *operand = NULL;
    if (!user || user->output_count != 1)
        return true;
    bool fits = false;
    if (takes_posts(node))
        fits = user->post_op_count == 0 &&
               (activation_of(user, &post) || (adds_tensor(node, user, &operand, &post) &&
                                               (!operand->producer || runs_later(node, operand))));
    else if (takes_activation(node))
        fits = activation_of(user, &post);
    if (!fits)
        return true;
    *ret_resume = node;
    return absorb(graph, node, user, post, operand);
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory to fuse operators");
}

/* One walk of a rewriting rule over the nodes; from what a rule made, it goes on: that may be part of the
 * next pattern. */
static bool apply(struct graph *graph, bool (*rule)(struct graph *, struct node *, struct node **),
                  struct error *error) {
    for (struct node *node = graph->first; node;) {
        struct node *resume = NULL;
        if (!rule(graph, node, &resume))
            return no_memory(error);
        node = resume ? resume : node->next;
    }
    graph_remove_dead_nodes(graph);
    return true;
}

bool passes_fuse(struct graph *graph, struct error *error) {
    static bool (*const rules[])(struct graph *, struct node *, struct node **) = {
        fuse_gelu,        fuse_gated,    fuse_layer_norm,      sink_transpose,
        fuse_attention,   fuse_movement, drop_pair_before_add, fuse_posts,
        quantise_product, quantise_add,  quantise_movement,
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (!apply(graph, rules[i], error))
            return false;
    return graph_sort(graph, error);
}
