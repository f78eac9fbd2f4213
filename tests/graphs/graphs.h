/* Random graphs, and what they must compute: shared by the files of this test.
 *
 * A graph grows node by node. Each node is computed by the reference kernels at once, so that the generator
 * knows every shape and every number, and drops what is refused or grows too large. A graph follows from its
 * seed and the number of steps alone. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "ops/operator.h"

#define POOL_VALUES 96
#define GRAPH_VALUES 1024

/* --- Random numbers ------------------------------------------------------------------------------------- */

struct random {
    uint64_t state;
};

uint64_t random_next(struct random *random);
int64_t random_range(struct random *random, int64_t low, int64_t high); /* both included */
bool random_percent(struct random *random, int percent);
float random_unit(struct random *random); /* [-1, 1] */

/* --- Graphs --------------------------------------------------------------------------------------------- */

struct random_graph {
    struct random random;
    struct graph *graph;
    struct tensor input;                        /* float32; in the graph's memory */
    struct value *pool[POOL_VALUES];            /* float32 values that nodes may take */
    const struct tensor *tensors[GRAPH_VALUES]; /* by value id: what the reference computed */
    int pool_count;
    bool quantized; /* holds QuantizeLinear */
    bool jumps;     /* holds an operator that is not continuous: for float32 only */
};

/* `quantized`: with chains of QuantizeLinear and DequantizeLinear. The graph's outputs are set. */
void random_graph_create(struct random_graph *ret, uint64_t seed, int steps, bool quantized);
void random_graph_free(struct random_graph *g);

/* For the recipes. A node of one output; inputs end with NULL. NULL where the operator refuses it, or its
 * numbers grow too large; what it is given is dropped then. */
struct value *graph_grow(struct random_graph *g, const char *op_type, ...) __attribute__((sentinel));
/* The same, in two steps: attributes are set between them. False: the node is removed. */
struct node *graph_begin_node(struct random_graph *g, const char *op_type, struct value *const *inputs,
                              int input_count, int output_count);
bool graph_end_node(struct random_graph *g, struct node *node);
void node_set_text(struct random_graph *g, struct node *node, const char *name, const char *text);
struct value *graph_floats(struct random_graph *g, float size, int rank, const int64_t *dims);
struct value *graph_vector(struct random_graph *g, float size, int64_t count);
struct value *graph_number(struct random_graph *g, float number);
struct value *graph_ints(struct random_graph *g, int count, const int64_t *numbers);
struct value *graph_byte_number(struct random_graph *g, enum dtype dtype, int number);
/* A value of the pool, mostly a young one. */
struct value *graph_pick(struct random_graph *g);
/* Another of the same shape, maybe; NULL: there is none. */
struct value *graph_pick_alike(struct random_graph *g, const struct value *value);
float graph_largest(const struct random_graph *g, const struct value *value);

/* One step: some nodes around one operator. Returns what they give, or NULL. */
typedef struct value *(*graph_recipe)(struct random_graph *g);
struct value *recipe_any(struct random_graph *g);           /* recipes.c */
struct value *recipe_any_quantized(struct random_graph *g); /* recipes_quantized.c */
struct value *recipe_quantize(struct random_graph *g, struct value *x);

/* --- The reference, and how far others may be from it --------------------------------------------------- */

/* What a computation of less precision does to each number of each node. */
struct noise {
    float relative;   /* of the number and of its tensor's typical magnitude */
    int flip_percent; /* of quantized numbers, which are one off */
};

/* Outputs of the graph, [output_count], node by node, in `arena`; NULL noise: exact. False: refused. */
bool reference_run(const struct random_graph *g, const struct noise *noise, struct random *random,
                   struct arena *arena, struct tensor *ret_outputs);

/* Of a - b: the largest magnitude, and the root of the mean square. NaN equals NaN. */
struct distance {
    double largest, typical;
};
struct distance tensor_compare(const struct tensor *a, const struct tensor *b);
