/* Gradients of operators, as nodes of the same graph: what `differentiate` of an entry is made with.
 *
 * A node's gradient is written in ONNX's own operators where these have it, else in operators of our own
 * (gradient_operators). Types and shapes of the graph are known: it is specialised. What is added goes to the
 * end of the graph, bound and inferred. A step that fails gives NULL and sets `error`; each takes NULL for a
 * value that could not be made, so that a formula is checked once, at its end. One thread at a time for each
 * graph. */
#pragma once
#include "ops/operator.h"

struct gradient {
    struct graph *graph;
    const struct node *node;
    struct value *const *outputs; /* [output_count] gradients by the node's outputs; NULL: the loss does not
                                     depend on it */
    struct value **inputs;        /* [input_count] for `differentiate` to set where wanted */
    const bool *wanted;           /* [input_count] */
    struct error *error;
};

/* For the tables: differentiate functions. */
bool gradient_element(struct gradient *gradient);
bool gradient_add(struct gradient *gradient);
bool gradient_subtract(struct gradient *gradient);
bool gradient_multiply(struct gradient *gradient);
bool gradient_divide(struct gradient *gradient);
bool gradient_power(struct gradient *gradient);
bool gradient_where(struct gradient *gradient);
bool gradient_cast(struct gradient *gradient);
bool gradient_convolution(struct gradient *gradient);
bool gradient_gemm(struct gradient *gradient);
bool gradient_matmul(struct gradient *gradient);
bool gradient_pool(struct gradient *gradient);
bool gradient_global_pool(struct gradient *gradient);
bool gradient_reduce(struct gradient *gradient);
bool gradient_softmax(struct gradient *gradient);
bool gradient_log_softmax(struct gradient *gradient);
bool gradient_layer_norm(struct gradient *gradient);
bool gradient_batch_norm(struct gradient *gradient);
bool gradient_reshape(struct gradient *gradient); /* of every OP_RESHAPES */
bool gradient_transpose(struct gradient *gradient);
bool gradient_concat(struct gradient *gradient);
bool gradient_split(struct gradient *gradient);
bool gradient_slice(struct gradient *gradient);
bool gradient_pad(struct gradient *gradient);
bool gradient_expand(struct gradient *gradient);
bool gradient_gather(struct gradient *gradient);

/* ---- What formulas are made of ---- */

/* A node that is to have attributes: these, then gradient_value. `domain`: "" or OPERATORS_OWN. */
struct node *gradient_node(struct gradient *gradient, const char *domain, const char *op_type,
                           struct value *const *inputs, int count);
struct value *gradient_value(struct gradient *gradient, struct node *node);
/* A node of ONNX without attributes. */
struct value *gradient_apply(struct gradient *gradient, const char *op_type, struct value *a,
                             struct value *b);
struct value *gradient_ints(struct gradient *gradient, const int64_t *ints, int count);
struct value *gradient_scaled(struct gradient *gradient, struct value *value, double factor);
struct value *gradient_shaped(struct gradient *gradient, struct value *value, const struct shape *shape);
struct value *gradient_expanded(struct gradient *gradient, struct value *value, const struct shape *shape);
/* The sum over the axes that are flagged; they stay as ones. */
struct value *gradient_sum(struct gradient *gradient, struct value *value, const bool *axes);
/* The sum over what broadcasting from `shape` repeated. */
struct value *gradient_sum_to(struct gradient *gradient, struct value *value, const struct shape *shape);
