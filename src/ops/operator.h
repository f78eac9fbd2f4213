/* What ONNX says of each operator: which versions, what it checks, which shape comes out, and a plain
 * computation of it.
 *
 * One file per operator family, one table (ops/table.c). `compute` is the reference: row-major tensors,
 * correct for every type it claims, simple and reasonably quick. It folds constants, runs whatever has no
 * faster step in plan/, and is what the faster steps are tested against. */
#pragma once
#include "base/error.h"
#include "graph/graph.h"

struct operator{
    const char *domain; /* "" for ONNX's own, "com.microsoft", … */
    const char *op_type;
    int since, until; /* opset versions of the domain that this entry is right for, both included */

    /* Inputs whose *values* decide output shapes or are read by infer (Reshape's shape, Slice's starts, Pad's
     * pads): bit i for input i. When `infer` runs, they are constant. */
    uint32_t plan_inputs;

    /* At load: attributes, counts of inputs and outputs; what we do not support is refused here with a clear
     * line. NULL: nothing to check beyond counts. */
    bool (*check)(const struct node *node, struct error *error);
    int min_inputs, max_inputs, min_outputs, max_outputs; /* max_inputs -1: any number */

    /* All inputs' dtypes and shapes are known (no -1), plan inputs are constant: set dtype and shape of every
     * output. Refuses shapes that do not fit, with the node's name. */
    bool (*infer)(struct node * node, struct error * error);

    /* inputs[i].data is NULL for an input left out; outputs' dtype and shape are what infer said, memory
     * allocated (data NULL for outputs left out). Must not keep state: any number of threads may run it at
     * once. May use OpenMP. NULL: this operator can't be computed plainly (none should be). */
    bool (*compute)(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                    struct error *error);
    const char *types; /* for docs/operators.md: "float32, float64, float16, int32, int64" */
};

/* The entry for an operator at an opset version; NULL where we have none. */
const struct operator* operator_find(const char *domain, const char *op_type, int opset);
/* The whole table, for listings. */
const struct operator* operator_table(int *ret_count);

/* Bind every node of the graph to its entry and check it. ERROR_MODEL naming the first operator that is
 * missing ("operator Foo (opset 13) is not supported: node bar"), and how many others are. */
bool operators_bind(struct graph *graph, struct error *error);

/* operator->infer of a bound node, after seeing that its inputs are known, within limits, and constant where
 * they must be: the way to infer nodes from files. */
bool operator_infer(struct node *node, struct error *error);

/* "node NAME (OP): …", ERROR_MODEL; returns false. */
bool node_error(const struct node *node, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* see base/error.h */
#define node_error(...)                  \
    ({                                   \
        (void)(node_error)(__VA_ARGS__); \
        false;                           \
    })
#endif
