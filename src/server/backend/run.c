#include "server/backend/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "server/backend/jobs.h"

bool batch_runner_start(struct batch_runner *runner, struct model *model, int most_rows,
                        struct error *error) {
    runner->most_rows = most_rows;
    runner->model = model;
    struct error ignored;
    if (model_takes_photos(model, &ignored)) {
        runner->classifier = model_classifier_create(model, error);
        runner->context = runner->classifier ? model_classifier_context(runner->classifier) : NULL;
    } else {
        runner->context = engine_context_create(model_engine(model), error);
    }
    if (!runner->context)
        return false;

    runner->outputs = calloc((size_t)engine_output_count(model_engine(model)) + 1, sizeof *runner->outputs);
    return runner->outputs || error_set(error, ERROR_MEMORY, "not enough memory for the model's outputs");
}

void batch_runner_end(struct batch_runner *runner) {
    if (!runner->classifier)
        engine_context_free(runner->context);
    model_classifier_free(runner->classifier);
    free(runner->outputs);
    for (int i = 0; i < INFERENCE_PORTS; i++)
        free(runner->staging[i].bytes);
}

/* ---- What a job brings ---- */

/* Its inputs, in the engine's order, at most INFERENCE_PORTS. Returns how many. */
static int job_inputs(const struct model *model, const struct job *job, struct tensor *ret) {
    const struct inference *inference = job->inference;
    if (job->kind == JOB_TENSORS) {
        memcpy(ret, inference->inputs, (size_t)inference->input_count * sizeof *ret);
        return inference->input_count;
    }

    *ret = photo_input_tensor(model_input(model), 1, job->prepared.width, job->prepared.height,
                              job->prepared.tensor);
    return 1;
}

void batch_classify(struct kinds *kinds, const struct model *model, struct job *job) {
    struct tensor inputs[INFERENCE_PORTS];
    int count = job_inputs(model, job, inputs);
    bool are_photos = job->kind == JOB_PHOTO;
    int64_t rows = count > 0 && inputs[0].shape.rank > 0 ? inputs[0].shape.dims[0] : 1;

    job->item.rows = rows <= BATCHER_LARGEST ? (int)rows : 1;
    job->item.key = -1;
    /* NaN and infinities need the slow exact plan, so such a request is not batched with others. */
    if (rows <= BATCHER_LARGEST && (are_photos || engine_inputs_are_finite(inputs, count)))
        job->item.key = kinds_find(kinds, model, inputs, count, are_photos);
}

/* ---- Running ---- */

static void *staging_reserve(struct batch_runner *runner, int input, size_t bytes) {
    if (bytes <= runner->staging[input].size)
        return runner->staging[input].bytes;

    free(runner->staging[input].bytes);
    runner->staging[input].bytes = aligned_alloc(64, size_align(bytes, 64));
    runner->staging[input].size = runner->staging[input].bytes ? bytes : 0;
    return runner->staging[input].bytes;
}

/* The inputs of a batch of `rows` rows; what the items do not fill is zero. Returns how many, 0 when memory
 * is out. */
static int gather(struct batch_runner *runner, struct batcher_item **items, int count, int64_t rows,
                  struct tensor *ret) {
    struct tensor inputs[INFERENCE_PORTS];
    int input_count = job_inputs(runner->model, (const struct job *)items[0], ret);
    if (count == 1 && (input_count == 0 || ret[0].shape.rank == 0 || ret[0].shape.dims[0] >= rows))
        return input_count;

    size_t used[INFERENCE_PORTS] = {0};
    for (int i = 0; i < input_count; i++) {
        ret[i].shape.dims[0] = rows;
        if (!(ret[i].data = staging_reserve(runner, i, tensor_bytes(&ret[i]))))
            return 0;
    }

    for (int job = 0; job < count; job++) {
        job_inputs(runner->model, (const struct job *)items[job], inputs);
        for (int i = 0; i < input_count; i++) {
            size_t bytes = tensor_bytes(&inputs[i]);
            memcpy((char *)ret[i].data + used[i], inputs[i].data, bytes);
            used[i] += bytes;
        }
    }
    for (int i = 0; i < input_count; i++)
        memset((char *)ret[i].data + used[i], 0, tensor_bytes(&ret[i]) - used[i]);
    return input_count;
}

/* A job's answer out of the outputs for `rows` rows, of which its own begin at `first`. */
static void hand_back(struct batch_runner *runner, struct job *job, int64_t first, int64_t rows) {
    int classes = model_class_count(runner->model);
    bool alone = first == 0 && (job->item.batch <= 1 || job->item.rows >= rows);

    if (job->kind == JOB_TENSORS) {
        inference_take(job->inference, runner->outputs, alone ? -1 : first, job->item.rows, &job->failure);
        return;
    }
    job->prediction_count = job->top < classes ? job->top : classes;
    model_classifier_read(runner->classifier, runner->outputs, rows, first, job->prediction_count,
                          job->predictions, &job->failure);
}

static bool run_engine(struct batch_runner *runner, const struct tensor *inputs, int input_count,
                       struct error *error) {
    return engine_run(runner->context, inputs, input_count, runner->outputs,
                      engine_output_count(model_engine(runner->model)), error);
}

/* Does a job bring more rows than one run takes, and may they be run in pieces? */
static bool wants_pieces(const struct batch_runner *runner, const struct job *job) {
    const struct inference *inference = job->inference;
    if (job->kind != JOB_TENSORS || inference->input_count == 0 || inference->inputs[0].shape.rank == 0)
        return false;

    int64_t rows = inference->inputs[0].shape.dims[0];
    for (int i = 1; i < inference->input_count; i++)
        if (inference->inputs[i].shape.rank == 0 || inference->inputs[i].shape.dims[0] != rows)
            return false;
    return rows > runner->most_rows && engine_rows_are_apart(model_engine(runner->model), inference->inputs,
                                                             inference->input_count, rows);
}

/* In powers of two, for which there are plans. */
static bool run_in_pieces(struct batch_runner *runner, struct job *job, struct error *error) {
    struct inference *inference = job->inference;
    struct tensor piece[INFERENCE_PORTS];
    int64_t rows = inference->inputs[0].shape.dims[0], count = 1;
    while (count * 2 <= runner->most_rows)
        count *= 2;

    for (int64_t first = 0; first < rows; first += count) {
        while (count > rows - first)
            count /= 2;
        inference_rows(inference, first, count, piece);
        if (!inference_is_wanted(inference, error) ||
            !run_engine(runner, piece, inference->input_count, error) ||
            !inference_put(inference, runner->outputs, first, rows, error))
            return false;
    }
    return true;
}

static bool run_together(struct batch_runner *runner, struct batcher_item **items, int count,
                         struct error *error) {
    struct engine *engine = model_engine(runner->model);
    struct tensor inputs[INFERENCE_PORTS];
    int64_t wanted = model_input(runner->model)->batch, rows = 0;
    bool are_photos = ((struct job *)items[0])->kind == JOB_PHOTO;

    for (int i = 0; i < count; i++)
        rows += items[i]->rows > 1 ? items[i]->rows : 1;
    if (are_photos && wanted > rows) /* the network insists on so many */
        rows = wanted;

    int input_count = gather(runner, items, count, rows, inputs);
    if (input_count == 0 && engine_input_count(engine) > 0)
        return error_set(error, ERROR_MEMORY, "not enough memory for a batch of %d requests", count);
    if (!run_engine(runner, inputs, input_count, error))
        return false;

    int64_t first = 0;
    for (int i = 0; i < count; i++) {
        hand_back(runner, (struct job *)items[i], first, rows);
        first += items[i]->rows > 1 ? items[i]->rows : 1;
    }
    return true;
}

/* At most as many as the network takes at once, where it says how many photos. */
static bool run_in_steps(struct batch_runner *runner, struct batcher_item **items, int count,
                         struct error *error) {
    int64_t wanted = model_input(runner->model)->batch;
    bool are_photos = ((struct job *)items[0])->kind == JOB_PHOTO;
    if (count == 1 && wants_pieces(runner, (const struct job *)items[0]))
        return run_in_pieces(runner, (struct job *)items[0], error);

    int step = are_photos && wanted > 0 && wanted < count ? (int)wanted : count;

    for (int done = 0; done < count; done += step)
        if (!run_together(runner, items + done, count - done < step ? count - done : step, error))
            return false;
    return true;
}

bool batch_run(struct batch_runner *runner, struct batcher_item **items, int count, struct error *error) {
    bool done = run_in_steps(runner, items, count, error);

    for (int i = 0; !done && count > 1 && i < count; i++) {
        struct job *job = (struct job *)items[i];
        job->failure.code = ERROR_NONE;
        run_in_steps(runner, &items[i], 1, &job->failure);
    }
    return done || count > 1;
}
