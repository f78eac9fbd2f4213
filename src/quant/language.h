/* A language model in fewer bits: from a GGUF file of floats to another that any reader of GGUF opens. One
 * thread calls; all threads of OpenMP are used. */
#pragma once
#include "base/progress.h"
#include "quant/language_target.h"
#include "quant/language_text.h"

struct language_request {
    const struct language_target *target;
    const struct language_text *text; /* that chooses; NULL: each weight is rounded by itself */
    int threads;
    progress_report progress;
    void *context; /* of progress */
};

/* What became of a tensor. */
struct language_tensor {
    char name[64]; /* as much of it as fits */
    enum block_type from, to;
    uint64_t weights;
    size_t bytes;    /* in the new file */
    const char *why; /* its type is not the target's; NULL: it is */
    double error;    /* mean square of what its products change by; -1: not known */
};

struct language_result {
    struct language_tensor *tensors; /* [tensor_count], as the file has them */
    size_t tensor_count;
    uint64_t bytes[2]; /* of all weights, before and after */
};

/* Write `output`. ERROR_INVALID: the model is quantised already; ERROR_UNAVAILABLE: stopped by progress. The
 * memory it takes beyond the map is that of one layer: its weights, its covariances, and the text's rows. */
bool language_quantize(const char *path, const char *output, const struct language_request *options,
                       struct language_result *ret, struct error *error);
void language_result_release(struct language_result *result);
