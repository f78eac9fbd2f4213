/* What the passes share. Used inside passes/ only, by the one thread that works on the graph. */
#pragma once
#include "graph/graph.h"

/* A float32 constant with its elements, or NULL: `value` may be NULL. */
const float *constant_floats(const struct value *value, int64_t *ret_count);
/* Every element of the constant is zero (NULL counts as zero: ONNX's default). */
bool constant_is_zero(const struct value *value);
/* Constants of the same type, shape and bytes, or both missing. */
bool constants_equal(const struct value *a, const struct value *b);

/* The constant input as memory that may be written: the graph's own if the constant has no other use, else a
 * copy, which replaces it. NULL when memory is out. */
float *node_writable_floats(struct graph *graph, struct node *node, int input);
/* A new float32 constant; *ret points at its elements, which are not initialised. NULL when memory is out. */
struct value *graph_add_floats(struct graph *graph, const struct shape *shape, float **ret);
/* Give back the memory of a constant without uses: free it, or drop it from the map. */
void value_release_constant(struct graph *graph, struct value *value);

/* The node that makes `value`, if the value has one use and is not an output. */
struct node *sole_producer(const struct value *value);
/* Remove `node`; the users of its first output take `value` instead. False if it must stay (an input would
 * become an output) or memory is out. */
bool node_bypass(struct graph *graph, struct node *node, struct value *value);

/* It needs values that are not constant to know its shapes, or runs graphs: it cannot be planned. */
bool node_must_wait(const struct node *node);
/* By the nodes' marks. */
struct graph_parts;
bool passes_split(const struct graph *whole, struct graph_parts *ret, struct error *error);

/* An If whose condition is constant. */
bool node_has_known_branch(const struct node *node);
/* Its branch in its place; *ret_next: the first node of the branch, or what follows. */
bool node_inline_branch(struct graph *graph, struct node *node, struct node **ret_next, struct error *error);

enum fold_result { FOLD_FAILED = -1, FOLD_KEPT = 0, FOLD_DONE = 1 };
/* Compute a node whose inputs are all constant, make its outputs constants, and remove it. Kept: other nodes;
 * results of more than `limit` bytes and four times the inputs, or of more than *budget, from which each
 * result is taken (a small file must not grow without bound). */
enum fold_result node_fold(struct graph *graph, struct node *node, size_t limit, size_t *budget,
                           struct error *error);
/* How many bytes folding may make in all: FOLD_LIMIT and four times the graph's constants (int8 to float32).
 */
size_t graph_fold_budget(const struct graph *graph);
/* DequantizeLinear says where a graph computes in integers: it stays until passes_prepare_integers or
 * passes_dequantize has read it. */
bool node_keeps_quantization(const struct node *node);

#define FOLD_LIMIT (64u << 20) /* bytes: a larger result is made when it is needed */

/* The passes. False when memory is out, or an operator refuses a node. */
bool passes_fold_constants(struct graph *graph, struct error *error);
/* Remove nodes that do nothing. With `inferred`, every value's type and shape are known and right. */
bool passes_remove_identities(struct graph *graph, bool inferred, struct error *error);
bool passes_fold_affine(struct graph *graph, struct error *error);
bool passes_fold_pads(struct graph *graph, struct error *error);
bool passes_share_constants(struct graph *graph, struct error *error);
