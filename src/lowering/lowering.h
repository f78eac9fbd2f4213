/* What the files of this room share. Not for other rooms. */
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
    struct lowered *lowered; /* [graph->value_count] by value id */
    int *last_use;           /* [value_count] place (as in `place`) of the last node that uses the value */
    bool blocked; /* float32 convolutions work on layout_blocked: some of them by Winograd's algorithm */
    size_t winograd_budget; /* bytes that Winograd's larger weights may still add */
    int place;              /* of the node at hand, counted from the graph's start */
};

/* One function for each operator with a faster step. ret_done false: this node is not of the kind it can do
 * (and nothing was added); the plain computation takes over. Returns false on errors only. */
typedef bool (*lower_function)(struct lowering *lowering, struct node *node, bool *ret_done,
                               struct error *error);

bool lower_convolution(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
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
bool lower_quantized_add(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error);
bool lower_quantized_convolution(struct lowering *lowering, struct node *node, bool *ret_done,
                                 struct error *error);
bool lower_quantized_matmul(struct lowering *lowering, struct node *node, bool *ret_done,
                            struct error *error);

/* The node is a convolution that Winograd's algorithm suits. */
bool lower_suits_winograd(const struct node *node);
/* Strides, dilations and pads of a Conv (or ConvTranspose) whose shapes are in the spec, auto_pad worked out:
 * Conv-11, https://onnx.ai/onnx/operators/onnx__Conv.html */
void lower_window(const struct node *node, struct convolution_spec *spec);
/* A row-major float32 matrix, or its transpose, as a layout over the same bytes. */
const struct layout *lower_matrix_view(struct primitive_pool *pool, const struct shape *stored,
                                       bool transpose);

/* The value as its producer left it. Never NULL for inputs of nodes that come after their producers, but for
 * memory. */
struct plan_tensor *lower_current(struct lowering *lowering, struct value *value, struct error *error);
/* The value in this layout (and its type), by a reorder where it is in no such yet. */
struct plan_tensor *lower_in_layout(struct lowering *lowering, struct value *value,
                                    const struct layout *layout, struct error *error);
/* The value row-major, of type `dtype` (DTYPE_UNKNOWN: the value's own type in the graph). */
struct plan_tensor *lower_plain(struct lowering *lowering, struct value *value, enum dtype dtype,
                                struct error *error);
/* The value as its producer left it, or row-major where that has gaps or is no layout of floats. */
struct plan_tensor *lower_dense(struct lowering *lowering, struct value *value, struct error *error);
/* Say that `tensor` is what the value's producer left. */
void lower_define(struct lowering *lowering, struct value *value, struct plan_tensor *tensor);
/* `node`, the one at hand, is the last to use the value, its bytes are nobody else's, and it is one input
 * only (a block's input that a convolution reads and its residual adds is two): they may be written over. */
bool lower_may_overwrite(const struct lowering *lowering, const struct node *node, const struct value *value,
                         const struct plan_tensor *tensor);

/* What a primitive calls it; HARDSIGMOID is none: it is two (LINEAR, CLIP). */
enum primitive_post_kind lower_post_kind(enum post_op_kind kind);
/* The node's post-ops as primitives have them, from post-op `first` on. Operands of ADD and MULTIPLY are
 * brought to a layout that fits: `operands[i]` receives the tensor of post i, or NULL. False (with *ret_count
 * 0) where one can't be. `destination`: layout that operands of the full shape should have, or NULL where it
 * is not known yet (the operand's own is kept). */
bool lower_posts(struct lowering *lowering, struct node *node, const struct layout *destination,
                 struct primitive_post *posts, struct plan_tensor **operands, int *ret_count,
                 struct error *error);
#define LOWER_POSTS 12

/* A weight packed for a primitive: from `from` (the constant's own row-major float32 seen through a layout).
 */
struct plan_tensor *lower_weights(struct lowering *lowering, const struct value *value,
                                  const struct layout *from, const struct layout *wanted, const char *role,
                                  struct error *error);

/* Adds a primitive's step. `count` tensors with their roles; posts' operands are appended from `operands`. */
struct step *lower_primitive(struct lowering *lowering, const struct node *node, const char *action,
                             const struct primitive *primitive, struct plan_tensor *const *tensors,
                             const enum primitive_argument *roles, int count,
                             struct plan_tensor *const *operands, int operand_count, struct error *error);
/* The same for a primitive that makes the node's one output from one source, in a layout of its choice. */
bool lower_one_to_one(struct lowering *lowering, const struct node *node, const struct primitive *primitive,
                      struct plan_tensor *source, struct error *error);
/* "Conv+Relu", in the plan's arena. */
const char *lower_action(struct lowering *lowering, const struct node *node);
bool lower_no_memory(struct error *error);
