/* Inference requests through the model: whole, or in pieces of their rows. */
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

/* Memory for an output of the shape that it has; `rows`: of its first dimension, -1: as it is. */
static bool allocate_output(struct inference *inference, struct inference_output *output,
                            const struct tensor *run, int64_t rows, struct error *error) {
    output->tensor = (struct tensor){run->dtype, run->shape, NULL};
    if (rows >= 0)
        output->tensor.shape.dims[0] = rows;

    size_t bytes = tensor_bytes(&output->tensor);
    if (!memory_charge_grow(&inference->charge, bytes, error)) /* the model waits for nobody */
        return false;
    output->tensor.data = aligned_alloc(64, size_align(bytes ? bytes : 1, 64));
    return output->tensor.data ||
           error_set(error, ERROR_MEMORY, "not enough memory for an output of %zu bytes", bytes);
}

/* Run some inputs. Their outputs go into the inference's from row `first` on; of `rows` in all, -1: whole. */
static bool run_part(struct inference *inference, const struct tensor *inputs, int64_t first, int64_t rows,
                     struct engine *engine, struct engine_context *context, struct error *error) {
    struct tensor all[INFERENCE_PORTS];
    if (!engine_run(context, inputs, inference->input_count, all, engine_output_count(engine), error))
        return false;

    for (int i = 0; i < inference->output_count; i++) {
        struct inference_output *output = &inference->outputs[i];
        const struct tensor *run = &all[output->port];
        size_t bytes = tensor_bytes(run), row = rows < 0 || !bytes ? 0 : bytes / (size_t)run->shape.dims[0];
        if (!output->tensor.data && !allocate_output(inference, output, run, rows, error))
            return false;
        memcpy((char *)output->tensor.data + row * (size_t)first, run->data, bytes);
    }
    return true;
}

/* So many rows of every input, from `first` on. */
static void take_rows(const struct inference *inference, int64_t first, int64_t count, struct tensor *ret) {
    for (int i = 0; i < inference->input_count; i++) {
        const struct tensor *whole = &inference->inputs[i];
        size_t row = tensor_bytes(whole) / (size_t)whole->shape.dims[0];
        ret[i] = *whole;
        ret[i].shape.dims[0] = count;
        ret[i].data = (char *)whole->data + row * (size_t)first;
    }
}

/* In powers of two, for which there are plans. */
static bool run_pieces(struct inference *inference, int64_t rows, int64_t most, struct engine *engine,
                       struct engine_context *context, struct error *error) {
    struct tensor piece[INFERENCE_PORTS];
    int64_t count = 1;
    while (count * 2 <= most)
        count *= 2;

    for (int64_t first = 0; first < rows; first += count) {
        while (count > rows - first)
            count /= 2;
        take_rows(inference, first, count, piece);
        if (!inference_is_wanted(inference, error) ||
            !run_part(inference, piece, first, rows, engine, context, error))
            return false;
    }
    return true;
}

bool inference_run(struct inference *inference, struct engine *engine, struct engine_context *context,
                   int most_rows, struct error *error) {
    const struct shape *shape = &inference->inputs[0].shape;
    int64_t rows = inference->input_count > 0 && shape->rank > 0 ? shape->dims[0] : 0;
    if (engine_output_count(engine) > INFERENCE_PORTS)
        return error_set(error, ERROR_INTERNAL, "a model with more than %d outputs", INFERENCE_PORTS);

    if (rows > most_rows && engine_is_separable(engine, inference->inputs, inference->input_count))
        return run_pieces(inference, rows, most_rows, engine, context, error);
    return run_part(inference, inference->inputs, 0, -1, engine, context, error);
}
