/* The intermediate representation between an ONNX file and a plan: values, and the nodes that compute them.
 *
 * Everything belongs to the graph's arena and goes with graph_free, except constant data that lies in a
 * mapped file, which the graph holds open. A graph is built and rewritten by one thread; a finished one is
 * read by many. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "tensor/tensor.h"

struct operator; /* ops/operator.h */
struct node;

enum attribute_kind {
    ATTRIBUTE_INT = 1,
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_STRING,
    ATTRIBUTE_INTS,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_STRINGS,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_OTHER, /* graphs, sparse tensors, types: known by name, refused where an operator needs them */
};

struct attribute {
    const char *name;
    enum attribute_kind kind;
    int64_t i;
    float f;
    const char *s;              /* NUL-terminated */
    size_t count;               /* of ints, floats, strings */
    const int64_t *ints;        /* [count] */
    const float *floats;        /* [count] */
    const char *const *strings; /* [count] */
    const struct tensor *tensor;
};

/* One use of a value: input `input` of `node`. */
struct use {
    struct node *node;
    int input;
};

struct value {
    const char *name; /* never NULL; "" for nameless */
    enum dtype dtype;
    struct shape shape;            /* as far as it is known */
    const struct tensor *constant; /* an initializer or a folded result; else NULL */
    struct node *producer;         /* NULL for inputs and constants */
    struct use *uses;              /* [use_count], kept by node_set_input and node_remove */
    int use_count, use_capacity;
    bool is_input;  /* of the graph */
    bool is_output; /* of the graph; stays even without uses */
    int id;         /* dense: 0 … graph->value_count - 1 */
    void *plan;     /* belongs to whoever lowers the graph */
};

/* What a fused operation does to its result, in order, element by element. */
enum post_op_kind {
    POST_RELU, /* alpha: slope below zero (0 for Relu) */
    POST_CLIP, /* to [alpha, beta] */
    POST_SIGMOID,
    POST_TANH,
    POST_ELU,         /* alpha */
    POST_HARDSWISH,   /* x * clip(x / 6 + 1/2, 0, 1) */
    POST_HARDSIGMOID, /* clip(alpha x + beta, 0, 1) */
    POST_SWISH,       /* x * sigmoid(alpha x) */
    POST_GELU_ERF,
    POST_GELU_TANH,
    POST_LINEAR,   /* alpha x + beta */
    POST_ADD,      /* + operand, an input of the node; broadcast to the result */
    POST_MULTIPLY, /* * operand, likewise */
};

struct post_op {
    enum post_op_kind kind;
    float alpha, beta;
    int input; /* which input of the node is the operand (ADD, MULTIPLY); else -1 */
};

#define NODE_POST_OPS 8

struct node {
    const char *op_type;             /* "Conv" */
    const char *domain;              /* "" for ONNX's own */
    const char *name;                /* never NULL; made up from op_type and place where the file has none */
    int opset;                       /* version imported for the domain */
    const struct operator* operator; /* found by operators_bind; NULL before */
    struct attribute *attributes;    /* [attribute_count] */
    int attribute_count;
    struct value **inputs; /* [input_count]; NULL where an optional input is left out */
    int input_count, input_capacity;
    struct value **outputs; /* [output_count]; NULL where left out */
    int output_count;
    struct post_op post_ops[NODE_POST_OPS];
    int post_op_count;
    struct node *previous, *next; /* in topological order */
    int mark;                     /* graph.c's own, while it sorts or copies */
};

struct opset_import {
    const char *domain;
    int version;
};

struct graph {
    struct arena *arena;
    const char *name, *producer;
    struct opset_import *imports;
    int import_count;
    struct node *first, *last; /* topological order */
    int node_count;
    int nodes_made;        /* ever; numbers the nameless */
    struct value **values; /* [value_count] by id */
    int value_count, value_capacity;
    struct value **inputs; /* without initializers */
    int input_count;
    struct value **outputs;
    int output_count;
    struct file_map *maps; /* the file, and its external data */
    int map_count;
    void **owned; /* malloc'ed constant data, freed with the graph */
    int owned_count, owned_capacity;
};

struct graph *graph_create(void);
void graph_free(struct graph *graph);

static inline void graph_freep(struct graph **graph) {
    graph_free(*graph);
}

/* Note which opset version of a domain ("" or "ai.onnx" for ONNX's own) later nodes are of; the last word for
 * a domain counts. */
bool graph_add_import(struct graph *graph, const char *domain, int version);
int graph_opset(const struct graph *graph, const char *domain); /* 0 where the domain is not imported */
/* Make a value the graph's next input or output. False when memory is out. */
bool graph_add_input(struct graph *graph, struct value *value);
bool graph_add_output(struct graph *graph, struct value *value);

/* NULL when memory is out or LIMIT_MODEL_VALUES is reached. `name` is copied. */
struct value *graph_add_value(struct graph *graph, const char *name);
/* A constant; `data` is not copied and must live as long as the graph (its arena, a map, or
 * graph_own_memory). */
struct value *graph_add_constant(struct graph *graph, const char *name, enum dtype dtype,
                                 const struct shape *shape, void *data);
/* Of the constants that nodes use; one that two nodes use counts twice. */
size_t graph_constant_bytes(const struct graph *graph);
/* malloc'ed 64-byte aligned memory that goes with the graph. */
void *graph_own_memory(struct graph *graph, size_t bytes);

/* A node put before `before` (NULL: at the end). Strings are copied; inputs may hold NULL. Outputs get their
 * producer. A name that is NULL or empty is made up. NULL when memory is out or LIMIT_MODEL_NODES is reached.
 */
struct node *graph_add_node(struct graph *graph, struct node *before, const char *domain, const char *op_type,
                            const char *name, struct value *const *inputs, int input_count,
                            struct value *const *outputs, int output_count);
/* Take a node out; its outputs lose their producer, its inputs a use. */
void graph_remove_node(struct graph *graph, struct node *node);
/* Put `node` right before `before`. */
void graph_move_node(struct graph *graph, struct node *node, struct node *before);
/* Every use of `from`, and its place among the graph's outputs, goes to `to`. An output keeps its name: the
 * two values exchange theirs, unless `to` is an input or an output itself. False when memory is out. */
bool graph_replace_value(struct graph *graph, struct value *from, struct value *to);
/* Remove the nodes whose outputs nobody uses; returns how many. */
int graph_remove_dead_nodes(struct graph *graph);
/* Put the nodes in topological order; ERROR_MODEL naming a node on a cycle. */
bool graph_sort(struct graph *graph, struct error *error);

/* Change or append (input == input_count) an input. False when memory is out. */
bool node_set_input(struct graph *graph, struct node *node, int input, struct value *value);
struct value *node_input(const struct node *node, int input); /* NULL past the end too */

/* Attributes, with ONNX's default where the node has none. */
const struct attribute *node_attribute(const struct node *node, const char *name);
int64_t node_int(const struct node *node, const char *name, int64_t fallback);
float node_float(const struct node *node, const char *name, float fallback);
const char *node_string(const struct node *node, const char *name, const char *fallback);
/* Returns the count and points *ret at the integers; 0 and NULL where there are none. */
size_t node_ints(const struct node *node, const char *name, const int64_t **ret);
bool node_set_int(struct graph *graph, struct node *node, const char *name, int64_t value);
bool node_set_ints(struct graph *graph, struct node *node, const char *name, const int64_t *ints,
                   size_t count);
bool node_set_float(struct graph *graph, struct node *node, const char *name, float value);
bool node_is(const struct node *node, const char *op_type); /* in ONNX's own domain */

/* A constant's single element as a float; false where the value (NULL is welcome) is no constant of one
 * element. */
bool value_scalar(const struct value *value, float *ret);
/* A constant of one element that is `expected`, but for the last digits of a float. */
bool value_is_scalar(const struct value *value, float expected);

/* A deep copy of nodes and values; constant data and maps are shared, and belong to `graph`, which must live
 * longer. */
struct graph *graph_clone(const struct graph *graph);
