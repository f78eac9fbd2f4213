/* What inspect counts in a network, and tells as JSON. One thread. */
#pragma once
#include "cli/shapes.h"
#include "model/folder.h"
#include "onnx/onnx.h"

enum { INSPECT_KINDS = 128 };

struct operator_count {
    const char *name; /* the graph's */
    int count;
};

/* The operators of a network, the most frequent first; how many kinds there are, of the first
 * INSPECT_KINDS. */
int inspect_operators(const struct graph *graph, struct operator_count ret[INSPECT_KINDS]);
/* Learnt numbers: every constant but scalars and integers. */
int64_t inspect_parameters(const struct graph *graph, int64_t *ret_bytes);
/* Multiplications and additions of one run with inputs of these shapes. Changes the graph. */
bool inspect_work(struct graph *graph, const struct shaped_inputs *inputs, double *ret, struct error *error);

/* A network as JSON, but for its work and plan; NULL when memory is out. */
json_t *inspect_network_json(const struct graph *graph, const struct model_files *files,
                             const struct model *model);
/* Add what a prepared context knows. */
void inspect_add_plan(json_t *json, struct engine *engine, const struct engine_context *context,
                      const struct shaped_inputs *inputs, double work);
