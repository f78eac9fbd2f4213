/* Fuse what follows a convolution or a matrix product into it. */
#include "passes/fuse.h"

#include <math.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"

/* The node that alone uses the value; NULL if there are none or several, or the value is an output. */
struct node *only_user(const struct value *value) {
    return value->use_count == 1 && !value->is_output ? value->uses[0].node : NULL;
}

/* A product with constant weights, whose step in lowering/ takes any post-ops. */
static bool takes_posts(const struct node *node) {
    if (node->post_op_count >= NODE_POST_OPS - 2 || node->output_count != 1 || !node->outputs[0] ||
        node->outputs[0]->dtype != DTYPE_F32 || shape_elements(&node->outputs[0]->shape) <= 0)
        return false;

    const struct value *weights = node_input(node, 1);
    bool constant = weights && (weights->constant || has_integer_weights(node));
    if (weights && !shape_elements(&weights->shape))
        return false; /* a product over nothing */

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

/* Its own kind as a post-op, if that has an operand: Add, Mul. */
static enum post_op_kind binary_kind(const struct node *node) {
    struct post_op post;

    return node_is_elementwise(node) && node_post_op(node, &post) && !post_op_is_activation(post.kind)
               ? post.kind
               : POST_NONE;
}

/* Batch norms, and additions and products of two tensors of which one has the result's shape, take
 * activations. */
static bool takes_activation(const struct node *node) {
    if (passes_batch_norm_is_constant(node))
        return node->post_op_count < NODE_POST_OPS - 2;
    if (binary_kind(node) == POST_NONE)
        return false;

    const struct value *output = node->outputs[0];
    return node->post_op_count < NODE_POST_OPS - 2 && output->dtype == DTYPE_F32 && output->shape.rank >= 1 &&
           shape_elements(&output->shape) > 0 &&
           (shape_equal(&node->inputs[0]->shape, &output->shape) ||
            shape_equal(&node->inputs[1]->shape, &output->shape));
}

/* An activation as a post-op; false where the node is none, or its parameters are not constant. */
static bool activation_of(const struct node *node, struct post_op *ret) {
    return node_post_op(node, ret) && post_op_is_activation(ret->kind);
}

/* Make `user` a post-op of `node`, and move `node` to where `user` was, after the operand, if any. */
static bool absorb(struct graph *graph, struct node *node, struct node *user, struct post_op post,
                   struct value *operand) {
    struct value *result = user->outputs[0];
    if (operand) {
        while (node->op && node->input_count <= node->op->bias_input) /* a bias left out keeps its position */
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

/* `user` adds another tensor to the node's result, or multiplies by one. That tensor is computed before
 * `user`, so it is there once `node` moves to where `user` is. */
static bool adds_tensor(const struct node *node, const struct node *user, struct value **ret_operand,
                        struct post_op *ret) {
    enum post_op_kind kind = binary_kind(user);
    if (kind == POST_NONE)
        return false;

    bool add = kind == POST_ADD;
    struct value *mine = node->outputs[0];
    struct value *other = user->inputs[0] == mine ? user->inputs[1] : user->inputs[0];
    if (other == mine || other->dtype != DTYPE_F32 || !shape_equal(&mine->shape, &user->outputs[0]->shape))
        return false;

    for (int i = 0; i < node->post_op_count; i++) /* oneDNN's fast kernels add before they round */
        if (node->post_ops[i].kind == POST_STEPS && !has_integer_weights(node))
            return false;

    bool whole = shape_equal(&other->shape, &mine->shape);
    int64_t last = mine->shape.dims[mine->shape.rank - 1];
    bool row = other->constant && node_is(node, "MatMul") && shape_elements(&other->shape) == last &&
               other->shape.rank >= 1 && other->shape.dims[other->shape.rank - 1] == last;

    if (has_integer_weights(node)) { /* in integers: a row first, and one whole tensor (fuse_quantized.c) */
        bool sums = false;
        for (int i = 0; i < node->post_op_count; i++)
            sums |= node->post_ops[i].kind == POST_ADD && !node->inputs[node->post_ops[i].input]->constant;
        row = row && add && node->post_op_count == 0;
        whole = whole && !sums;
    }

    if (!(whole && add && !other->constant) && !row)
        return false;

    *ret = (struct post_op){.kind = kind, .input = -1};
    *ret_operand = other;

    return true;
}

/* Of two products that are added, the later one takes in the other, which then has run already. */
static bool runs_later(const struct node *node, const struct value *other) {
    const struct node *producer = other->producer;
    if (!producer || !takes_posts(producer) || only_user(other) == NULL)
        return true;

    for (const struct node *at = node->next; at; at = at->next)
        if (at == producer)
            return false;

    return true;
}

/* Both are of one function of oneDNN's, which has room for one set of parameters of a function in a primitive
 * (2.6 takes the first for both). */
static bool share_parameters(const struct post_op *a, const struct post_op *b) {
    static const bool clips[POST_KIND_COUNT] = {
        [POST_CLIP] = true, [POST_HARDSIGMOID] = true, [POST_STEPS] = true}; /* among others */
    static const bool lines[POST_KIND_COUNT] = {
        [POST_LINEAR] = true, [POST_HARDSIGMOID] = true, [POST_STEPS] = true};
    if (clips[a->kind] && clips[b->kind] && (a->kind != POST_CLIP || b->kind != POST_CLIP))
        return true;
    if (lines[a->kind] && lines[b->kind] && a->kind != b->kind)
        return true;

    return a->kind == b->kind && post_op_is_activation(a->kind) &&
           (a->alpha != b->alpha || a->beta != b->beta);
}

/* Whether the node takes the post-op beside those that it has. A Clip after a Clip becomes one with it: then
 * *post is both, and the node has the other no more. */
static bool accept_post(struct node *node, struct post_op *post) {
    struct post_op joined = *post;
    int others = node->post_op_count;
    if (others && post->kind == POST_CLIP && node->post_ops[others - 1].kind == POST_CLIP) {
        const struct post_op *last = &node->post_ops[--others];
        joined.alpha = fminf(fmaxf(last->alpha, post->alpha), post->beta);
        joined.beta = fminf(fmaxf(last->beta, post->alpha), post->beta);
    }

    for (int i = 0; i < others; i++)
        if (share_parameters(&node->post_ops[i], &joined))
            return false;
    node->post_op_count = others;
    *post = joined;
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

    if (!fits || !accept_post(node, &post))
        return true;

    *ret_resume = node->next == user ? node : node->next; /* the node moves, past what it may leave out */

    return absorb(graph, node, user, post, operand);
}

/* Apply a rule to every node. It goes on with what the rule made, which may be part of the next pattern. */
static bool apply(struct graph *graph, bool (*rule)(struct graph *, struct node *, struct node **),
                  struct error *error) {
    for (struct node *node = graph->first; node;) {
        struct node *resume = NULL;
        if (!rule(graph, node, &resume))
            return error_set(error, ERROR_MEMORY, "not enough memory to fuse operators");
        node = resume ? resume : node->next;
    }

    graph_remove_dead_nodes(graph);
    return true;
}

/* Products run in integers: their rules look for QuantizeLinear and DequantizeLinear. */
static bool holds_integer_products(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next)
        if (has_integer_weights(node))
            return true;
    return false;
}

bool passes_fuse(struct graph *graph, struct error *error) {
    if (!holds_integer_products(graph) && !apply(graph, join_rounding, error))
        return false;

    static bool (*const rules[])(struct graph *, struct node *, struct node **) = {
        fuse_gelu,        fuse_gated,    fuse_layer_norm,      fuse_attention,
        sink_transpose,   fuse_movement, drop_pair_before_add, fuse_posts,
        quantize_product, quantize_add,  quantize_movement,
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (!apply(graph, rules[i], error))
            return false;

    return graph_sort(graph, error);
}
