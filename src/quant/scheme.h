/* Which nodes of a float graph run in 8-bit integers, and the scale of each tensor between them.
 *
 * An active node reads quantised inputs, all others read floats. A tensor that active nodes read has one
 * scale and zero point for all of them. One thread at a time for each graph. */
#pragma once
#include "graph/graph.h"
#include "quant/observe.h"

enum unit_kind {
    UNIT_NONE,   /* unchanged: activations, softmax, shapes */
    UNIT_CONV,   /* with constant weights; input 0, weights 1, bias 2 */
    UNIT_GEMM,   /* likewise */
    UNIT_MATMUL, /* by a constant matrix: input 0, weights 1 */
    UNIT_ADD,    /* of two activations, where its result is read in integers */
    UNIT_POOL,   /* averages: the result has a scale of its own */
    UNIT_PASS,   /* moves or selects elements: the result has the scale of the input */
};

struct unit {
    struct node *node;
    enum unit_kind kind;
    const char *reason; /* why a convolution or matrix product is UNIT_NONE; else NULL */
    bool excluded;      /* kept in float by choice */
    bool active;        /* runs in integers; set by scheme_settle */
    double *correction; /* [channels] to subtract from the bias, or NULL */
    double damage;      /* divergence of the outputs when this unit alone is quantised; -1: not measured */
};

/* real = scale * (integer - zero) */
struct quant_parameters {
    float scale;
    int zero;
};

struct scheme {
    const struct graph *graph; /* float, simplified, bound; outlives the scheme */
    struct unit *units;        /* [count] one per node, in the graph's order */
    int count;
    struct quant_range *ranges;          /* [value_count] of each value */
    struct quant_range *shared;          /* [value_count] at the root of a group: of all its members */
    struct quant_parameters *parameters; /* [value_count], of those that are quantised */
    bool *quantized;                     /* [value_count] an active node reads it */
    int *made_by;                        /* [value_count] index of the unit whose result it is; -1: none */
    int *group;             /* [value_count] a tree: values that share a scale have the same root */
    enum dtype activations; /* DTYPE_U8 or DTYPE_I8 */
    bool per_tensor;        /* one scale for all channels of a weight */
    bool correct_bias;      /* use the units' corrections */
};

bool scheme_create(const struct graph *graph, enum dtype activations, bool per_tensor, struct scheme *ret,
                   struct error *error);
void scheme_release(struct scheme *scheme);

/* The values whose ranges must be known (ids, ascending) and their channel axes; both malloc'ed. */
bool scheme_watch(const struct scheme *scheme, int **ret_values, int **ret_axes, int *ret_count,
                  struct error *error);
/* Set the ranges by a method that is not QUANT_AUTO. */
void scheme_set_ranges(struct scheme *scheme, const struct observations *observations,
                       enum quant_method method);
/* From what is excluded: which units are active, which values quantised, and every scale. */
void scheme_settle(struct scheme *scheme);

/* Has it weights, or is it an Add? */
bool unit_is_layer(const struct unit *unit);
bool unit_has_weights(const struct unit *unit);
/* The axis of the weights that counts output channels. */
int unit_weight_axis(const struct unit *unit);
struct quant_parameters quant_parameters_choose(struct quant_range range, enum dtype dtype);

/* The graph with QuantizeLinear, DequantizeLinear and 8-bit weights, as ONNX has them. Not bound. It uses
 * constants of the scheme's graph. NULL: ERROR_MEMORY. */
struct graph *scheme_write(const struct scheme *scheme, struct error *error);
