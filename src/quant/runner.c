#include "quant/runner.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/load.h"

struct runner {
    struct engine *engine;
    bool owned;
    struct engine_context *context;
    const struct photo_set *set;
    struct tensor *outputs; /* [output_count] */
    int output_count, batch;
    bool fixed;   /* the network says how many photos a run */
    float *input; /* [input_capacity, elements] */
    int input_capacity;
};

static struct runner *fail(struct runner *runner, struct engine *engine, struct error *error,
                           const char *reason) {
    if (reason)
        error_set(error, ERROR_MEMORY, "%s", reason);
    if (runner)
        runner_free(runner);
    else
        engine_free(engine);
    return NULL;
}

static bool runner_check(struct runner *runner, struct error *error) {
    const struct engine_port *input = engine_input(runner->engine, 0);
    if (engine_input_count(runner->engine) != 1 || input->shape.rank != 4 || input->dtype != DTYPE_F32)
        return error_set(error, ERROR_MODEL,
                         "only networks with one float32 input [n, 3, height, width] can be run on photos");
    int64_t batch = input->shape.dims[0];
    if (batch > 1)
        return error_set(
            error, ERROR_MODEL,
            "the network takes %lld photos at once and no other number; export it with a free batch",
            (long long)batch);
    if (batch == 1) {
        runner->batch = 1;
        runner->fixed = true;
    }
    return true;
}

static struct runner *runner_make(struct engine *engine, bool owned, const struct photo_set *set, int batch,
                                  struct error *error) {
    struct runner *runner = calloc(1, sizeof *runner);
    if (!runner)
        return fail(NULL, owned ? engine : NULL, error, "no memory to run the network");
    *runner = (struct runner){.engine = engine,
                              .owned = owned,
                              .set = set,
                              .batch = batch > 0 ? batch : 1,
                              .output_count = engine_output_count(engine)};
    if (!runner_check(runner, error))
        return fail(runner, NULL, error, NULL);
    runner->outputs = calloc((size_t)runner->output_count + 1, sizeof *runner->outputs);
    if (!runner->outputs)
        return fail(runner, NULL, error, "no memory to run the network");
    runner->context = engine_context_create(engine, error);
    return runner->context ? runner : fail(runner, NULL, error, NULL);
}

struct runner *runner_create(struct graph *graph, const struct photo_set *set, int batch, int threads,
                             struct runner *beside, struct error *error) {
    const struct engine_options options = {.precision = quant_graph_is_quantised(graph) ? PRECISION_INT8
                                                                                        : PRECISION_F32,
                                           .threads = threads,
                                           .no_baked = true,
                                           .beside = beside ? beside->engine : NULL};
    struct engine *engine = engine_load_graph(graph, &options, error);
    return engine ? runner_make(engine, true, set, batch, error) : NULL;
}

struct runner *runner_create_for(struct engine *engine, const struct photo_set *set, int batch,
                                 struct error *error) {
    return runner_make(engine, false, set, batch, error);
}

void runner_free(struct runner *runner) {
    if (!runner)
        return;
    engine_context_free(runner->context);
    if (runner->owned)
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
    else if (set->channels_last)
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
        return error_set(error, ERROR_MEMORY, "no memory for %d photos at once", runner->batch);
    runner->input_capacity = runner->batch;
    return true;
}

/* One run; the last batch is filled up with its first photo, so that one plan does for all. */
static bool run_batch(struct runner *runner, const int *samples, int count, struct error *error) {
    const struct photo_set *set = runner->set;
    struct tensor input = {.dtype = DTYPE_F32, .shape = {.rank = 4}, .data = runner->input};
    int64_t first[] = {runner->batch, 3, set->height, set->width},
            last[] = {runner->batch, set->height, set->width, 3};
    memcpy(input.shape.dims, set->channels_last ? last : first, sizeof first);
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
    int output, batch;
    int64_t row;
    float *at;
};

static bool collect(void *context, const struct tensor *outputs, int output_count, const int *samples,
                    int count, struct error *error) {
    struct collection *collection = context;
    const struct tensor *output = &outputs[collection->output];
    int64_t rows = shape_elements(&output->shape) / collection->row;
    if (rows != collection->batch || shape_elements(&output->shape) % collection->row ||
        !dtype_is_float(output->dtype))
        return error_set(error, ERROR_MODEL, "the network's output changes its size from photo to photo");
    elements_convert(output->dtype, output->data, DTYPE_F32, collection->at, count * collection->row);
    collection->at += count * collection->row;
    return true;
}

bool runner_collect(struct runner *runner, const int *samples, int count, int output, int64_t row, float *ret,
                    struct error *error) {
    struct collection collection = {output, runner->batch, row, ret};
    if (output >= runner->output_count || row < 1)
        return error_set(error, ERROR_MODEL, "the network has no output %d", output);
    return runner_run(runner, samples, count, collect, &collection, error);
}

bool runner_classes(struct runner *runner, int sample, int *ret_output, int64_t *ret_row,
                    struct error *error) {
    int chosen = 0;
    for (int i = 0; i < runner->output_count; i++)
        if (strcmp(engine_output(runner->engine, i)->name, "logits") == 0)
            chosen = i;
    if (!make_room(runner, error) || !run_batch(runner, &sample, 1, error))
        return false;
    const struct tensor *output = &runner->outputs[chosen];
    int64_t elements = shape_elements(&output->shape);
    if (!dtype_is_float(output->dtype) || elements < runner->batch * 2 || elements % runner->batch)
        return error_set(error, ERROR_MODEL, "output '%s' does not hold classes",
                         engine_output(runner->engine, chosen)->name);
    *ret_output = chosen;
    *ret_row = elements / runner->batch;
    return true;
}
