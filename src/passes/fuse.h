/* The rewriting rules of passes_fuse. Each looks at one node; one that rewrites sets *ret_resume to the node
 * to look at next, which is still in the graph. A rule removes the nodes that it makes useless. False when
 * memory is out. One thread at a time works on a graph. */
#pragma once
#include "graph/graph.h"

struct node *only_user(const struct value *value);
/* The node that makes the value, if it is of this kind; else NULL. */
struct node *producer_of(const struct value *value, const char *op_type);
/* The other input of a node of two inputs. */
struct value *other_input(const struct node *node, const struct value *one);
/* Remove the node if its outputs have no use, and then the nodes that only it used. */
void remove_if_dead(struct graph *graph, struct node *node);
/* A node of ONNX's own operator at `opset`, or with OWN of one of ours (ops/fused.c), before `before`; its
 * output takes the place of `result`, whose producer goes, with what only it used. */
#define OWN 0
struct node *replace_by(struct graph *graph, struct node *before, const char *op_type, int opset,
                        struct value *const *inputs, int input_count, struct value *result);

/* x / sqrt(2) -> Erf -> + 1 -> * x -> / 2, with the factors in any order: Gelu. */
bool fuse_gelu(struct graph *graph, struct node *node, struct node **ret_resume);
/* x * HardSigmoid(x) -> HardSwish, x * Sigmoid(x) -> Swish. */
bool fuse_gated(struct graph *graph, struct node *node, struct node **ret_resume);
/* (x - mean) / sqrt(variance + epsilon) * scale + shift over the last axis: LayerNormalization. */
bool fuse_layer_norm(struct graph *graph, struct node *node, struct node **ret_resume);
/* Softmax(q k' * scale + constants) v: Attention (inputs q, k', v, constants; attribute scale). */
bool fuse_attention(struct graph *graph, struct node *node, struct node **ret_resume);
/* Chains that only move elements in runs: GatherRows (inputs x, table of int32). */
bool fuse_movement(struct graph *graph, struct node *node, struct node **ret_resume);
/* A DequantizeLinear (or QuantizeLinear) with one constant scale and zero point for the whole tensor. `node`
 * may be NULL. */
bool dequantizes_tensor(const struct node *node, float *ret_scale, int32_t *ret_zero_point);
/* `dequantize` undoes `quantize`, but for the rounding: the same scale and zero point. */
bool dequantizes_again(const struct node *dequantize, const struct node *quantize);
/* A product of an 8-bit tensor and constant 8-bit weights, both through DequantizeLinear, that
 * quantize_product can do. */
bool has_integer_weights(const struct node *node);
/* See fuse_rounding.c: for graphs without integer products. */
bool join_rounding(struct graph *graph, struct node *node, struct node **ret_resume);
/* See fuse_quantized.c. */
bool drop_pair_before_add(struct graph *graph, struct node *node, struct node **ret_resume);
bool quantize_product(struct graph *graph, struct node *node, struct node **ret_resume);
bool quantize_add(struct graph *graph, struct node *node, struct node **ret_resume);
bool quantize_movement(struct graph *graph, struct node *node, struct node **ret_resume);
/* f(Transpose(x), y) -> Transpose(f(x, inverse Transpose(y))); neighbouring Transposes become one, or none.
 */
bool sink_transpose(struct graph *graph, struct node *node, struct node **ret_resume);
