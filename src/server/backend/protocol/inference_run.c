/* Inference requests around the run of the model: rows in, outputs out. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "server/backend/protocol/inference_private.h"

bool inference_is_wanted(const struct inference *inference, struct error *error) {
    const struct memory_wait *wait = &inference->wait;
    if ((!wait->is_wanted || wait->is_wanted(wait->context)) &&
        (!wait->deadline_ns || clock_ns() < wait->deadline_ns))
        return true;
    return error_set(error, ERROR_TIMEOUT, "the request waited longer than its timeout");
}

void inference_rows(const struct inference *inference, int64_t first, int64_t count, struct tensor *ret) {
    for (int i = 0; i < inference->input_count; i++) {
        const struct tensor *whole = &inference->inputs[i];
        size_t row = tensor_bytes(whole) / (size_t)whole->shape.dims[0];
        ret[i] = *whole;
        ret[i].shape.dims[0] = count;
        ret[i].data = (char *)whole->data + row * (size_t)first;
    }
}

/* Memory for an output; `rows`: of its first dimension, -1: as many as the run gave. */
static bool allocate_output(struct inference *inference, struct inference_output *output,
                            const struct tensor *run, int64_t rows, struct error *error) {
    output->tensor = (struct tensor){run->dtype, run->shape, NULL};
    if (rows >= 0)
        output->tensor.shape.dims[0] = rows;

    size_t bytes = tensor_bytes(&output->tensor);
    if (!memory_charge_grow(&inference->charge, bytes,
                            error)) /* no waiting here: this is the model's thread */
        return false;
    output->tensor.data = aligned_alloc(64, size_align(bytes ? bytes : 1, 64));
    return output->tensor.data ||
           error_set(error, ERROR_MEMORY, "not enough memory for an output of %zu bytes", bytes);
}

bool inference_take(struct inference *inference, const struct tensor *all, int64_t first, int64_t rows,
                    struct error *error) {
    for (int i = 0; i < inference->output_count; i++) {
        struct inference_output *output = &inference->outputs[i];
        const struct tensor *run = &all[output->port];
        size_t row = first < 0 ? 0 : tensor_bytes(run) / (size_t)run->shape.dims[0];

        if (!allocate_output(inference, output, run, first < 0 ? -1 : rows, error))
            return false;
        memcpy(output->tensor.data, (const char *)run->data + row * (first < 0 ? 0 : (size_t)first),
               tensor_bytes(&output->tensor));
    }

    return true;
}

bool inference_put(struct inference *inference, const struct tensor *all, int64_t first, int64_t rows,
                   struct error *error) {
    for (int i = 0; i < inference->output_count; i++) {
        struct inference_output *output = &inference->outputs[i];
        const struct tensor *run = &all[output->port];
        size_t bytes = tensor_bytes(run), row = bytes ? bytes / (size_t)run->shape.dims[0] : 0;

        if (!output->tensor.data && !allocate_output(inference, output, run, rows, error))
            return false;
        memcpy((char *)output->tensor.data + row * (size_t)first, run->data, bytes);
    }

    return true;
}
