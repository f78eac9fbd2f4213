/* What an operator is, defined once: what ONNX says of it (versions, attributes, the shape that comes out), a
 * reference computation, and the traits by which the rest of the program treats it.
 *
 * One file for each family of operators, one table of all (ops/table.c). passes/, lowering/, engine/ and
 * quant/ ask for traits and keep no lists of names; they name an operator only where they rewrite exactly
 * that one. docs/adding-an-operator.md says what a new one needs. All of this may be called from any thread,
 * as long as one thread at a time works on a graph. */
#pragma once
#include "base/error.h"
#include "graph/graph.h"

/* What an operator does with elements. A trait that implies another contains its bits: ask with node_has.
 * tests/unit/test_traits.c runs every operator against the traits it claims. */
enum op_trait {
    /* An element of output 0 follows from the elements at its position in the inputs, which are broadcast to
     * its shape. */
    OP_ELEMENTWISE = 1 << 0,

    /* No element of the outputs lies outside the range of input 0's elements and zero. */
    OP_KEEPS_RANGE = 1 << 1,
    /* Each is an element of a data input, so quantized numbers pass unchanged. */
    OP_KEEPS_VALUES = 1 << 2 | OP_KEEPS_RANGE,
    /* Which one does not depend on the values. */
    OP_MOVES = 1 << 3 | OP_KEEPS_VALUES,
    /* All of input 0's elements, in the same row-major order. */
    OP_RESHAPES = 1 << 4 | OP_MOVES,
    /* A part of input 0, or each part of it: mostly a view of the same bytes. */
    OP_TAKES_PART = 1 << 5 | OP_MOVES,
    /* All of input 0, some of it several times; where the shape stays the same, the elements do. */
    OP_REPEATS = 1 << 6 | OP_MOVES,

    /* Every element of output 0 lies in [0, 1]. */
    OP_UNIT_RANGE = 1 << 7,
    /* Takes any number of inputs, and a single one passes unchanged. */
    OP_VARIADIC = 1 << 8,

    /* Axis 0 of input 0 and of the outputs counts samples. Each is computed alike, from itself and from the
     * other inputs, which have nothing of a single sample. */
    OP_SAMPLEWISE = 1 << 9,
    /* Looks along the axis of attribute `axis`, or along it and those after it; never along one before it. */
    OP_ALONG_AXIS = 1 << 10,

    /* An element of the result takes many of the inputs': a convolution, a matrix product, a pool. */
    OP_HEAVY = 1 << 11,
    /* Follows from the shape and type of input 0 alone. */
    OP_READS_SHAPE = 1 << 12,
    /* Takes or gives integers that stand for floats by a scale. */
    OP_QUANTIZED = 1 << 13,
    /* Runs graphs inside of it: only engine/ can. */
    OP_CONTROL = 1 << 14,
    /* Another result at each run, even of the same inputs: nothing computes it ahead. */
    OP_RANDOM = 1 << 15,
};

struct gradient; /* ops/gradient.h */

/* How many inputs or outputs a node may have; most -1: any number. */
struct op_count {
    int least, most;
};

struct op_def {
    const char *domain; /* NULL in the families' tables: ONNX's own, "" once they are put together */
    const char *op_type;
    /* Opset versions of the domain that this entry is right for, both included. `until` 0: the latest we
     * know. */
    int since, until;

    struct op_count inputs, outputs; /* outputs left out: exactly one */
    /* Inputs whose *values* decide output shapes or are read by infer (Reshape's shape, Slice's starts, Pad's
     * pads): bit i for input i. When `infer` runs, they are constant. */
    uint32_t plan_inputs;
    /* How many inputs, from the first on, are data; the others are weights, bounds, axes. 0 stands for 1; -1:
     * all. */
    int data_inputs;
    int bias_input;         /* of an optional bias, one number for each channel of the result; 0: none */
    int default_axis;       /* OP_ALONG_AXIS: where attribute `axis` is left out */
    const char *types;      /* for docs/operators.md: "float32, float64, float16, int32, int64" */
    unsigned traits;        /* of enum op_trait */
    enum post_op_kind post; /* what it is when fused to the step before it; POST_NONE: it cannot be */
    /* The operator of our own (ops/fused.c) that computes it on 8-bit tensors; NULL: none. */
    const char *integer_form;
    const void *family; /* the family's own: what its functions need to know of this operator */

    /* At load: attributes, counts of inputs and outputs; what we do not support is refused here with a clear
     * line. NULL: nothing to check beyond counts. */
    bool (*check)(const struct node *node, struct error *error);

    /* All inputs' dtypes and shapes are known (no -1), plan inputs are constant: set dtype and shape of every
     * output. Refuses shapes that do not fit, with the node's name. */
    bool (*infer)(struct node *node, struct error *error);

    /* After infer: decode constant inputs and attributes for compute, into `arena`, as node->parameters.
     * NULL: compute has nothing to decode. */
    bool (*prepare)(struct node *node, struct arena *arena, struct error *error);

    /* The reference: row-major tensors, correct for every type it claims, simple and reasonably quick. It
     * folds constants, runs whatever has no faster step in plan/, and is what the faster steps are tested
     * against. After prepare. inputs[i].data is NULL for an input left out; outputs' dtype and shape are what
     * infer said, memory allocated (data NULL for outputs left out). Must not keep state: any number of
     * threads may run it at once. May use OpenMP. */
    bool (*compute)(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                    struct error *error);

    /* The gradient by each data input that is wanted, as nodes (ops/gradient.h). NULL: none is known, and a
     * network with it cannot be trained. OP_RESHAPES need none of their own. */
    bool (*differentiate)(struct gradient *gradient);

    /* `post` with the node's parameters: sets alpha and beta, and may choose a kind nearer to the node's
     * attributes. False where they are not constant. NULL: `post` needs none. */
    bool (*post_parameters)(const struct node *node, struct post_op *ret);

    /* Where no trait says so: the axis of the result whose place i follows from place i of that axis of input
     * 0 and from the other inputs, which are constant; -1: there is none. Types and shapes are known. NULL:
     * not known. */
    int (*axis_kept)(const struct node *node, int axis);
};

/* The domain of our own operators, which passes/ makes and lowering/ has steps for; no file may hold them. */
#define OPERATORS_OWN "guichet"

/* The entry for an operator at an opset version; NULL where we have none. */
const struct op_def *operator_find(const char *domain, const char *op_type, int opset);
/* The whole table, for listings and tests, without our own operators. */
const struct op_def *operator_table(int *ret_count);

/* Bind every node of the graph to its entry and check it. ERROR_MODEL naming the first operator that is
 * missing ("operator Foo (opset 13) is not supported: node bar"), and how many others are. */
bool operators_bind(struct graph *graph, struct error *error);

/* A node of that operator before `before` and named after it, bound (to NULL where the opset has no such
 * operator: operators_bind names it). The output's type and shape are the caller's to set. NULL when memory
 * is out. */
struct node *operator_add_node(struct graph *graph, struct node *before, const char *domain,
                               const char *op_type, int opset, struct value *const *inputs, int input_count,
                               struct value *output);

/* op->infer of a bound node, after seeing that its inputs are known, within limits, and constant where they
 * must be: the way to infer nodes from files. */
bool operator_infer(struct node *node, struct error *error);
/* op->prepare, after infer; what it decodes lives in `arena`. */
bool operator_prepare(struct node *node, struct arena *arena, struct error *error);
/* Prepare and compute once. */
bool operator_compute(struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error);

/* Traits of a bound node. */
bool node_has(const struct node *node, unsigned traits); /* all of them; false for a node without operator */
/* OP_ELEMENTWISE, and not broadcast in the way that an attribute says (before opset 7). */
bool node_is_elementwise(const struct node *node);
int node_data_inputs(const struct node *node);
/* OP_ALONG_AXIS: attribute `axis`, counted from the front; input 0's shape is known. */
int node_along_axis(const struct node *node);
/* The node as a post-op of what makes its input; false where it is none, or its parameters are not constant.
 */
bool node_post_op(const struct node *node, struct post_op *ret);
/* One of our own operators. */
bool node_is_own(const struct node *node, const char *op_type);

/* The type with a number of TensorProto.DataType; DTYPE_UNKNOWN for those we do not compute with. */
enum dtype dtype_from_onnx(int64_t number);

/* "node NAME (OP): …", ERROR_MODEL; returns false. */
bool node_error(const struct node *node, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "node NAME (OP): out of memory", ERROR_MEMORY; returns false. */
static inline bool node_memory_error(const struct node *node, struct error *error) {
    return error_set(error, ERROR_MEMORY, "node %s (%s): out of memory", node->name, node->op_type);
}
#ifdef __clang_analyzer__ /* see base/error.h */
#define node_error(...)                  \
    ({                                   \
        (void)(node_error)(__VA_ARGS__); \
        false;                           \
    })
#endif
