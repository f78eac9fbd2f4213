/* ONNX's own operator tests, as Debian's libonnx-testdata lays them out: FOLDER/NAME/model.onnx beside
 * test_data_set_N/{input,output}_I.pb. Found, run through a runner, compared. */
#pragma once
#include "graph/graph.h"

#define CASE_TENSORS 32 /* inputs or outputs of one case at most */

struct test_case {
    char *name; /* "node/test_abs" */
    char *path; /* of its folder */
};

/* Every case under `root`, by name; *ret_count 0 where there is none. Free with cases_free. */
struct test_case *cases_find(const char *root, int *ret_count);
void cases_free(struct test_case *cases, int count);

enum outcome { PASSED, REFUSED, FAILED, SKIPPED };

/* Why a case's own files contradict each other; NULL for the others. */
const char *case_fault(const struct test_case *test_case);

/* Runs a model on inputs (in the order of the graph's). Outputs are malloc'ed, in the order of the graph's.
 */
typedef bool run_function(void *model, const struct tensor *inputs, int input_count, struct tensor *outputs,
                          int output_count, struct error *error);

struct runner {
    /* NULL with the reason, where the model is refused. */
    void *(*load)(const char *path, struct error *error);
    run_function *run;
    void (*unload)(void *model);
    int (*input_count)(const void *model);
    int (*output_count)(const void *model);
    enum dtype (*input_dtype)(const void *model, int index);
};

/* Infers and computes node after node, all inputs as constants. */
extern const struct runner reference_runner;
/* engine_load, engine_run. */
extern const struct runner engine_runner;

/* Load, run on every data set, compare as ONNX's own runner does: relative 1e-3, absolute 1e-7 (of the
 * largest value for Fourier transforms), integers exactly. `error` says why a case was refused or failed. */
enum outcome case_run(const struct test_case *test_case, const struct runner *runner, struct error *error);
