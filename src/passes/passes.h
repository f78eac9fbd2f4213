/* Graph to better graph. Each pass keeps what the graph computes; only time and memory change.
 *
 * There are two moments. At load, once, with shapes as free as the file leaves them: passes_simplify, which
 * may make new weights (they are shared by every later plan). Then, for each concrete set of input shapes, on
 * a clone: passes_specialize, which makes every shape known and every shape computation a constant, and
 * passes_fuse, which makes fewer, larger nodes that plan/ has fast steps for, without new large constants.
 * One thread at a time for each graph. */
#pragma once
#include "graph/graph.h"

/* Fold constants (operators' own compute), remove what does nothing (Identity, Dropout, casts to the same
 * type), fold batch norm and per-channel scales and shifts by constants into the convolution or matrix
 * product before them. Bound graphs only. */
bool passes_simplify(struct graph *graph, struct error *error);

/* The inputs' concrete tensors: dtype and shape always, data where the values decide a shape (see
 * passes_plan_inputs) and else NULL. Sets every value's dtype and shape, folds what became constant, removes
 * dead nodes. */
bool passes_specialize(struct graph *graph, const struct tensor *inputs, int input_count,
                       struct error *error);

/* Where a node stands when shapes follow from what is computed (node->mark). */
enum node_part {
    NODE_PLANNED,
    NODE_WAITS,   /* for values that only running gives: lists of axes, what NonZero looks at, conditions */
    NODE_FOLLOWS, /* on such a node */
};

/* A graph in parts, whose values have the ids that they have in the whole. The whole owns what its folding
 * made, and must outlive the parts. */
struct graph_parts {
    struct graph *head;    /* specialised: what can be planned */
    struct graph *waiting; /* to be inferred and computed one by one, on values of the head and the inputs */
    struct graph *rest;    /* its inputs are of the others, of types and shapes that are not known yet */
};

/* passes_specialize, where a node may have to wait: then *ret_parts, and `graph` is the whole; else its head
 * is NULL. Free with graph_parts_release. */
bool passes_specialize_parts(struct graph *graph, const struct tensor *inputs, int input_count,
                             struct graph_parts *ret_parts, struct error *error);
void graph_parts_release(struct graph_parts *parts);

/* Of a specialised graph before passes_fuse: every input and output has `batch` rows, and row i of the
 * outputs follows from row i of the inputs alone. False if that is not certain. To compute them one by one,
 * ask the graph for one row, too: a shape in the file may insist on more. */
bool passes_batch_is_separable(const struct graph *graph, int64_t batch);

/* For every graph input: does a shape depend on its value (through operators' plan_inputs)?
 * [graph->input_count] */
void passes_plan_inputs(const struct graph *graph, bool *ret);

/* The QOperator form (QLinearConv, QLinearMatMul; of com.microsoft QLinearAdd, QLinearMul, QLinearConcat,
 * QLinearGlobalAveragePool, QLinearAveragePool, QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QGemm)
 * written as QDQ: DequantizeLinear, the float operator, QuantizeLinear; so that the rest need know one form
 * only. To be called before operators_bind: com.microsoft's need no entry of their own then. New nodes are
 * not bound. ERROR_MODEL naming a node whose scales are not as the operator has them. */
bool passes_expand_qoperators(struct graph *graph, struct error *error);
/* com.microsoft FusedConv and FusedGemm as ONNX's operators. Before operators_bind. */
bool passes_expand_fused(struct graph *graph, struct error *error);
/* com.microsoft DynamicQuantizeMatMul, MatMulIntegerToFloat and QAttention as others. Before operators_bind.
 */
bool passes_expand_dynamic(struct graph *graph, struct error *error);
/* A bound float16 network computes in float32 from here on; inputs and outputs keep their type. Others, and
 * those with branches or loops, stay as they are. */
bool passes_widen_halves(struct graph *graph, struct error *error);
/* The graph quantizes what it computes: it holds QuantizeLinear or the QOperator form. Bound or not. */
bool passes_is_quantized(const struct graph *graph);

/* A bound quantised graph (QDQ; QOperator is expanded first) as the float graph that it stands for:
 * DequantizeLinear of constants becomes float constants. A QuantizeLinear with its DequantizeLinear stays,
 * for the rounding is part of what the file says, and passes_fuse makes one step of them; of 16 bits it
 * becomes a Clip to the range that the integers could hold. New nodes are bound. */
bool passes_dequantize(struct graph *graph, struct error *error);

/* Or the same graph made ready to run in integers: weights signed and symmetric (int8, a scale for each
 * output channel), other constants in floats. Between passes_expand_qoperators with operators_bind, and
 * passes_simplify. */
bool passes_prepare_integers(struct graph *graph, struct error *error);
/* … which changes no weight. Training for 8 bits may leave weights with a zero point far from the middle, and
 * then some lie more than 127 steps from it: their channel is rounded again. The same graph, before. */
bool passes_integers_are_exact(const struct graph *graph);

/* Fewer, larger nodes: activations, additions of a residual and multiplications fused into the convolution or
 * product before them; the patterns that exporters write for LayerNormalization, Gelu, HardSwish and the like
 * made one node again. Specialised graphs only. */
bool passes_fuse(struct graph *graph, struct error *error);
/* A specialised BatchNormalization of three to five axes with constant statistics: what passes_fuse fuses
 * activations to, and lowering/ has a fast step for. */
bool passes_batch_norm_is_constant(const struct node *node);
