#include "quant/runner.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/load.h"

struct runner {
    struct engine *engine;
    struct engine_context *context;
    const struct photo_set *set;
    struct tensor *outputs; /* [output_count] */
    int output_count, batch;
    bool fixed;   /* the batch is the network's */
    float *input; /* [input_capacity, elements] */
    int input_capacity;
};

static bool runner_check(struct runner *runner, struct error *error) {
    const struct engine_port *input = engine_input(runner->engine, 0);
    if (engine_input_count(runner->engine) != 1 || input->shape.rank != 4 || input->dtype != DTYPE_F32)
        return error_set(error, ERROR_MODEL,
                         "only networks with one float32 input [n, 3, height, width] can be run on photos");

    int64_t batch = input->shape.dims[0];
    if (batch > 1)
        return error_set(error, ERROR_MODEL,
                         "the network only takes batches of %lld: export it with a free batch dimension",
                         (long long)batch);

    if (batch == 1) {
        runner->batch = 1;
        runner->fixed = true;
    }
    return true;
}

struct runner *runner_create(struct graph *graph, const struct photo_set *set, int batch, int threads,
                             struct runner *share_weights_with, struct error *error) {
    const struct engine_options options = {
        .precision = quant_graph_is_quantized(graph) ? PRECISION_INT8 : PRECISION_F32,
        .threads = threads,
        .no_baked = true,
        .share_weights_with = share_weights_with ? share_weights_with->engine : NULL};
    struct runner *runner = calloc(1, sizeof *runner);
    if (!runner) {
        graph_free(graph);
        error_set(error, ERROR_MEMORY, "not enough memory to run the network");
        return NULL;
    }

    *runner = (struct runner){.set = set, .batch = batch > 0 ? batch : 1};
    runner->engine = engine_load_graph(graph, &options, error);
    if (!runner->engine || !runner_check(runner, error))
        goto fail;

    runner->output_count = engine_output_count(runner->engine);
    runner->outputs = calloc((size_t)runner->output_count + 1, sizeof *runner->outputs);
    if (!runner->outputs) {
        error_set(error, ERROR_MEMORY, "not enough memory to run the network");
        goto fail;
    }

    runner->context = engine_context_create(runner->engine, error);
    if (runner->context)
        return runner;

fail:
    runner_free(runner);
    return NULL;
}

void runner_free(struct runner *runner) {
    if (!runner)
        return;

    engine_context_free(runner->context);
    engine_free(runner->engine);
    free(runner->outputs);
    free(runner->input);
    free(runner);
}

void runner_set_batch(struct runner *runner, int batch) {
    if (!runner->fixed)
        runner->batch = batch > 0 ? batch : 1;
}

/* Rows of `width` elements of `depth` values, from right to left. */
static void mirror(const float *from, int64_t rows, int64_t width, int64_t depth, float *to) {
    for (int64_t row = 0; row < rows; row++, from += width * depth, to += width * depth)
        for (int64_t x = 0; x < width; x++)
            memcpy(to + x * depth, from + (width - 1 - x) * depth, (size_t)depth * sizeof *to);
}

static void gather(const struct photo_set *set, int sample, float *to) {
    const float *from = set->tensors + (sample % set->count) * set->elements;
    if (sample < set->count)
        memcpy(to, from, (size_t)set->elements * sizeof *to);
    else if (set->input.channels_last)
        mirror(from, set->height, set->width, 3, to);
    else
        mirror(from, (int64_t)set->height * 3, set->width, 1, to);
}

static bool make_room(struct runner *runner, struct error *error) {
    size_t bytes;
    if (runner->input_capacity >= runner->batch)
        return true;

    free(runner->input);
    runner->input = NULL;
    runner->input_capacity = 0;
    if (size_multiply((size_t)runner->batch, (size_t)runner->set->elements * sizeof(float), &bytes))
        runner->input = aligned_alloc(64, size_align(bytes, 64));
    if (!runner->input)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d photos at once", runner->batch);

    runner->input_capacity = runner->batch;
    return true;
}

/* One run; a last, smaller batch is filled up with its first photo, so that all use one plan. */
static bool run_batch(struct runner *runner, const int *samples, int count, struct error *error) {
    const struct photo_set *set = runner->set;
    struct tensor input =
        photo_input_tensor(&set->input, runner->batch, set->width, set->height, runner->input);
    for (int i = 0; i < runner->batch; i++)
        gather(set, samples[i < count ? i : 0], runner->input + i * set->elements);
    return engine_run(runner->context, &input, 1, runner->outputs, runner->output_count, error);
}

bool runner_run(struct runner *runner, const int *samples, int count, runner_visit visit, void *context,
                struct error *error) {
    for (int done = 0; done < count;) {
        int part = count - done < runner->batch ? count - done : runner->batch;
        if (!make_room(runner, error) || !run_batch(runner, samples + done, part, error) ||
            !visit(context, runner->outputs, runner->output_count, samples + done, part, error))
            return false;
        done += part;
    }

    return true;
}

struct collection {
    int output, batch, done;
    struct predictions *predictions;
};

static bool collect(void *context, const struct tensor *outputs, int output_count, const int *samples,
                    int count, struct error *error) {
    struct collection *collection = context;
    const struct tensor *output = &outputs[collection->output];
    if (shape_elements(&output->shape) != (int64_t)collection->batch * collection->predictions->classes)
        return error_set(error, ERROR_MODEL, "the network's output changes its size from photo to photo");

    for (int i = 0; i < count; i++)
        if (!predictions_set(collection->predictions, collection->done++, output, i, error))
            return false;
    return true;
}

bool runner_collect(struct runner *runner, const int *samples, int output, struct predictions *predictions,
                    struct error *error) {
    struct collection collection = {.output = output, .batch = runner->batch, .predictions = predictions};
    if (output >= runner->output_count)
        return error_set(error, ERROR_MODEL, "the network has no output %d", output);
    return runner_run(runner, samples, predictions->count, collect, &collection, error);
}
