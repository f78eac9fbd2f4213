/* What the passes share. Used inside passes/ only. */
#pragma once
#include "graph/graph.h"

/* A float32 constant with its elements, or NULL: `value` may be NULL. */
const float *constant_floats(const struct value *value, int64_t *ret_count);
/* Every element of the constant is zero (NULL counts as zero: ONNX's default). */
bool constant_is_zero(const struct value *value);
/* Constants of the same type, shape and bytes, or both missing. */
bool constants_equal(const struct value *a, const struct value *b);

/* The constant input as memory that may be written: the graph's own where nobody else sees it, else a copy
 * that takes its place. NULL when memory is out. */
float *node_writable_floats(struct graph *graph, struct node *node, int input);
/* A new float32 constant of one or `count` elements (count < 0: a scalar), uninitialised; its data is at
 * *ret. */
struct value *graph_add_floats(struct graph *graph, const struct shape *shape, float **ret);
/* A constant that nobody uses any more gives its memory back: freed, or dropped from the map. */
void value_release_constant(struct graph *graph, struct value *value);

/* The node that makes `value`, when this is its only use and the graph does not put it out. */
struct node *sole_producer(const struct value *value);
/* `node` goes, and its first output's users take `value` instead. False where it must stay (an input that
 * would be an output) or memory is out. */
bool node_bypass(struct graph *graph, struct node *node, struct value *value);

enum fold_result { FOLD_FAILED = -1, FOLD_KEPT = 0, FOLD_DONE = 1 };
/* Compute a node whose inputs are all constant and make its outputs constants; the node goes. Kept where it
 * is not so, where there is no compute, and where the result is over `limit` bytes and over four times its
 * inputs, or over what is left of *budget, which it is taken from: a small file must not grow without bound.
 */
enum fold_result node_fold(struct graph *graph, struct node *node, size_t limit, size_t *budget,
                           struct error *error);
/* What folding may make of the graph's constants in all: FOLD_LIMIT and four times what they are (int8 to
 * float32). */
size_t graph_fold_budget(const struct graph *graph);
/* DequantizeLinear says where a graph computes in integers, and stays until somebody has read it. */
bool node_keeps_quantisation(const struct node *node);

#define FOLD_LIMIT (64u << 20) /* bytes: beyond, a result is made when it is needed */

/* The passes themselves. False: out of memory, or an operator's own refusal. */
bool passes_fold_constants(struct graph *graph, struct error *error);
/* Remove what does nothing. With `inferred`, every value's type and shape are known and right. */
bool passes_remove_identities(struct graph *graph, bool inferred, struct error *error);
bool passes_fold_affine(struct graph *graph, struct error *error);
bool passes_fold_pads(struct graph *graph, struct error *error);
bool passes_share_constants(struct graph *graph, struct error *error);
