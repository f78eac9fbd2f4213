/* What the files of this room share. One thread works on a lowering. What returns a pointer returns NULL with
 * an error. Not for other rooms. */
#pragma once
#include "lowering/lower.h"
#include "ops/operator.h"

/* A value's tensor, and the same in other layouts or types, as they were made. */
struct lowered {
    struct plan_tensor *tensors[6]; /* the first is what its producer made */
    int count;
};

struct lowering {
    struct plan *plan;
    struct graph *graph;
    enum dtype compute;
    bool exact;              /* see struct lower_options */
    struct lowered *lowered; /* [graph->value_count] by value id */
    int *last_use;           /* [value_count] position of the last node that uses the value */
    int position;            /* of the current node, counted from the graph's start */
    bool blocked; /* float32 convolutions work on layout_blocked: some of them by Winograd's algorithm */
    size_t winograd_budget; /* bytes that Winograd's larger weights may still add */
};

/* One function for each operator with a faster step. *ret_done stays false where this node is not of a kind
 * that it can do: nothing was added, and the reference kernel is used. Returns false on errors only. */
typedef bool (*lower_function)(struct lowering *lowering, struct node *node, bool *ret_done,
                               struct error *error);

bool lower_convolution(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_convolution_gradient(struct lowering *lowering, struct node *node, bool *ret_done,
                                struct error *error);
bool lower_gemm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_matmul(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_pooling(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_global_pooling(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_lrn(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_elementwise(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_binary(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_batch_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_softmax(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_reshape(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_transpose(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_concat(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_slice(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_split(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_gather(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_layer_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_attention(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_gather_rows(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_quantize(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
/* Steps: see passes/fuse_rounding.c. */
bool lower_rounding(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_quantized_add(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_quantized_convolution(struct lowering *lowering, struct node *node, bool *ret_done,
                                 struct error *error);
bool lower_quantized_matmul(struct lowering *lowering, struct node *node, bool *ret_done,
                            struct error *error);

/* --- Values as tensors (tensors.c) --- */

/* The value as its producer left it. Its producer was lowered before. */
struct plan_tensor *lower_current(struct lowering *lowering, struct value *value, struct error *error);
/* The value in this layout and of its type; a reorder is added where it is not there yet. */
struct plan_tensor *lower_in_layout(struct lowering *lowering, struct value *value,
                                    const struct layout *layout, struct error *error);
/* The value row-major, of type `dtype` (DTYPE_UNKNOWN: the value's own type in the graph). */
struct plan_tensor *lower_plain(struct lowering *lowering, struct value *value, enum dtype dtype,
                                struct error *error);
/* The value as its producer left it, or row-major where that has gaps. */
struct plan_tensor *lower_dense(struct lowering *lowering, struct value *value, struct error *error);
/* A weight packed for a primitive. `from`: the constant's own row-major elements seen in the primitive's
 * axes; `wanted`: how the primitive takes them; `role`: see plan/weights.h. */
struct plan_tensor *lower_weights(struct lowering *lowering, const struct value *value,
                                  const struct layout *from, const struct layout *wanted, const char *role,
                                  struct error *error);
/* `tensor` is what the value's producer leaves. */
void lower_define(struct lowering *lowering, struct value *value, struct plan_tensor *tensor);
/* The current node `node` may write its result over the value's bytes: it is the last to use the value, no
 * other tensor lies there, and the value is one of its inputs only (what a convolution reads and its residual
 * adds is two). */
bool lower_may_overwrite(const struct lowering *lowering, const struct node *node, const struct value *value,
                         const struct plan_tensor *tensor);
/* The value in this layout, but that axes of 1 may have other strides, in memory that the node may write its
 * result over: the value's own, or a copy. One of the value's tensors may be free for that, and another one
 * not: views of it are read later. */
struct plan_tensor *lower_to_overwrite(struct lowering *lowering, const struct node *node,
                                       struct value *value, const struct layout *layout, struct error *error);
/* A new tensor for the node's output, like `tensor`; or `tensor` again, where the node may write over the
 * value. */
struct plan_tensor *lower_result_like(struct lowering *lowering, const struct node *node,
                                      const struct value *value, const struct plan_tensor *tensor,
                                      struct error *error);

/* --- Steps (steps.c) --- */

/* passes/ leaves room for two in NODE_POST_OPS, and POST_HARDSIGMOID becomes two; quantisation and batch norm
 * add one; of POST_STEPS, which becomes three, there is one at the most. */
#define LOWER_POSTS (2 * (NODE_POST_OPS - 2) + 2)
_Static_assert(LOWER_POSTS <= PRIMITIVE_POSTS, "a primitive takes all post-ops of a node");

/* Post-ops as a primitive takes them, and the tensors that they add or multiply by. */
struct post_list {
    struct primitive_post posts[LOWER_POSTS];
    struct plan_tensor *operands[LOWER_POSTS]; /* NULL: none */
    int count;
};

#define LOWER_ACTIVATION 3 /* primitive posts of one post-op, at most */
/* A post-op without its operand as primitives have it: one, two for POST_HARDSIGMOID, three for POST_STEPS.
 * Returns how many. */
int lower_activation(const struct post_op *post, struct primitive_post *ret);
/* The node's post-ops, with their operands in a layout that fits. `destination`: the layout that operands of
 * the result's shape should have; NULL: not known yet, they keep their own. */
bool lower_posts(struct lowering *lowering, struct node *node, const struct layout *destination,
                 struct post_list *ret, struct error *error);

/* A primitive and the tensors that it works on; NULL: it has none in that role. */
struct primitive_step {
    const char *action; /* "Conv+Relu" */
    const struct primitive *primitive;
    struct plan_tensor *source, *source_1, *weights, *bias, *destination;
    const struct post_list *posts;
    double flops; /* see struct step */
};
bool lower_primitive(struct lowering *lowering, const struct node *node, const struct primitive_step *step,
                     struct error *error);
/* A primitive that makes the node's one output from one source, in a layout of its choice; defines the
 * output. */
bool lower_one_to_one(struct lowering *lowering, const struct node *node, const struct primitive *primitive,
                      struct plan_tensor *source, struct error *error);
/* One of our own kernels that makes the node's one output: `step` has the kernel, its name, parameters and
 * scratch, input_count, and as arguments the inputs and then the output. Parameters or an output that are
 * NULL mean that memory was out. Defines the output. */
bool lower_kernel(struct lowering *lowering, const struct node *node, const struct step *step,
                  struct error *error);
/* "Conv+Relu", in the plan's arena. */
const char *lower_action(struct lowering *lowering, const struct node *node);
/* Returns false. */
bool lower_no_memory(struct error *error);

/* --- Shared between operators --- */

/* The node is a convolution that Winograd's algorithm suits. */
bool lower_suits_winograd(const struct node *node);
/* Strides, dilations and pads of a Conv (or ConvTranspose) whose shapes are in the spec, auto_pad resolved:
 * Conv-11, https://onnx.ai/onnx/operators/onnx__Conv.html */
void lower_window(const struct node *node, struct convolution_spec *spec);
/* A row-major float32 matrix, or its transpose, as a layout over the same bytes. */
const struct layout *lower_matrix_view(struct primitive_pool *pool, const struct shape *stored,
                                       bool transpose);
