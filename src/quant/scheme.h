/* Which nodes of a float graph run in 8-bit integers, and with which scale each tensor between them is kept.
 *
 * Integers come in through nodes: a node that is active reads quantised inputs, everything else reads floats.
 * Each tensor that an active node reads has one scale and zero point, shared by all who read it so.
 * One thread at a time for each graph. */
#pragma once
#include "graph/graph.h"
#include "quant/observe.h"

enum unit_kind {
    UNIT_NONE,   /* stays as it is: activations, softmax, shapes */
    UNIT_CONV,   /* with constant weights; input 0, weights 1, bias 2 */
    UNIT_GEMM,   /* likewise */
    UNIT_MATMUL, /* by a constant matrix: input 0, weights 1 */
    UNIT_ADD,    /* of two activations, where integers go on behind it */
    UNIT_POOL,   /* averages: integers in, other integers out */
    UNIT_PASS,   /* moves or chooses elements: what comes out has the scale of what went in */
};

struct unit {
    struct node *node;
    enum unit_kind kind;
    const char *reason; /* UNIT_NONE though it is a convolution or product: why; else NULL */
    bool excluded;      /* kept in float on purpose */
    bool active;        /* runs in integers, as the scheme was last settled */
    double *correction; /* [channels] to be taken from the bias, or NULL */
    double damage;      /* divergence of the outputs when this unit alone is quantised; -1: not measured */
};

/* real = scale * (integer - zero) */
struct quant_parameters {
    float scale;
    int zero;
};

struct scheme {
    const struct graph *graph; /* float, simplified, bound; lives longer */
    struct unit *units;        /* [count], a node each, in the graph's order */
    int count;
    struct quant_range *ranges;          /* [value_count] each value's own */
    struct quant_range *shared;          /* [value_count] at a group's root: its members' together */
    struct quant_parameters *parameters; /* [value_count], of those that are quantised */
    bool *quantised;                     /* [value_count] an active node reads it */
    int *made_by;                        /* [value_count] number of the unit that makes it; -1 */
    int *group;                          /* [value_count] values that share a scale have the same root */
    enum dtype activations;              /* DTYPE_U8 or DTYPE_I8 */
    bool per_tensor;                     /* one scale for all of a weight's channels */
    bool correct_bias;                   /* use the units' corrections */
};

bool scheme_create(const struct graph *graph, enum dtype activations, bool per_tensor, struct scheme *ret,
                   struct error *error);
void scheme_release(struct scheme *scheme);

/* The values whose ranges have to be known (ids, ascending), and the axis that counts their channels; both
 * malloc'ed. */
bool scheme_watch(const struct scheme *scheme, int **ret_values, int **ret_axes, int *ret_count,
                  struct error *error);
/* Ranges by a method that is not QUANT_AUTO. */
void scheme_set_ranges(struct scheme *scheme, const struct observations *observations,
                       enum quant_method method);
/* Work out what is active and quantised, from what is excluded, and every scale. */
void scheme_settle(struct scheme *scheme);

/* A convolution, Gemm or MatMul: what the sensitivity pass asks about, and Adds. */
bool unit_is_layer(const struct unit *unit);
bool unit_has_weights(const struct unit *unit);
/* The axis of the weights that counts output channels. */
int unit_weight_axis(const struct unit *unit);
struct quant_parameters quant_parameters_choose(struct quant_range range, enum dtype dtype);

/* The graph with its integers in it, as ONNX has it: QuantizeLinear, DequantizeLinear, 8-bit weights. Not
 * bound. It uses constants of the scheme's graph. */
struct graph *scheme_write(const struct scheme *scheme, struct error *error);
