#include "teach/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "teach/samples.h"
#include "train/trainer.h"

enum { BATCH = 16, HELD_OUT_EACH = 5, TIMED_STEPS = 3 };
#define RATE 5e-4
#define DECAY 0.02
#define SMOOTHING 0.1 /* of the targets: shared by all classes */
#define SAVE_SECONDS 5.0
#define SEED 1

struct tuning_job {
    const struct teach_options *options;
    const struct teach_result *result;
    struct tune_samples samples;
    int *trained, *held_out; /* samples */
    int trained_count, held_out_count;
    struct ridge_head head; /* of the trained ones */
    struct graph *graph;    /* the network with that head */
    struct trainer *trainer;
    float *inputs;  /* [BATCH, elements] */
    float *targets; /* [BATCH, classes] */
    int *classes;   /* [BATCH] */
    char *checkpoint;
    double deadline; /* clock_ms; 0: none */
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to tune the network");
}

static void release(struct tuning_job *job) {
    trainer_free(job->trainer);
    ridge_head_release(&job->head);
    tune_samples_release(&job->samples);
    free(job->trained);
    free(job->held_out);
    free(job->inputs);
    free(job->targets);
    free(job->classes);
    free(job->checkpoint);
}

/* Every fifth photo of a class is held out; of less than five, one, as long as two are left. */
static bool split(struct tuning_job *job, struct error *error) {
    const struct tune_samples *samples = &job->samples;
    size_t count = (size_t)samples->count + 1;
    int classes = job->result->classes.count;
    cleanup(freep) int *seen = calloc((size_t)classes + 1, sizeof *seen);
    job->trained = calloc(count, sizeof(int));
    job->held_out = calloc(count, sizeof(int));
    if (!seen || !job->trained || !job->held_out)
        return no_memory(error);

    for (int i = 0; i < samples->count; i++) {
        bool held_out = seen[samples->classes[i]]++ % HELD_OUT_EACH == 2;
        if (held_out)
            job->held_out[job->held_out_count++] = i;
        else
            job->trained[job->trained_count++] = i;
    }
    return job->held_out_count ||
           error_set(error, ERROR_INVALID, "too few photos to tune on: a class needs three at least");
}

/* The head in closed form of the photos that are trained on. */
static bool fit_head(struct tuning_job *job, struct error *error) {
    const struct teach_features *features = &job->result->features;
    size_t width = (size_t)features->width, values;
    cleanup(freep) float *rows = NULL;
    cleanup(freep) int *classes = calloc((size_t)job->trained_count + 1, sizeof *classes);
    if (size_multiply((size_t)job->trained_count + 1, width * sizeof(float), &values))
        rows = malloc(values);
    if (!rows || !classes)
        return no_memory(error);

    for (int i = 0; i < job->trained_count; i++) {
        int feature = job->samples.features[job->trained[i]];
        memcpy(rows + (size_t)i * width, features->values + (size_t)feature * width, width * sizeof(float));
        classes[i] = features->classes[feature];
    }
    const struct ridge_samples samples = {rows, classes, job->trained_count, features->width,
                                          job->result->classes.count};
    return ridge_fit(&samples, job->options->threads, &job->head, error);
}

static bool make_trainer(struct tuning_job *job, int64_t steps, struct error *error) {
    const struct tune_samples *samples = &job->samples;
    const struct photo_input *input = &samples->input;
    const struct trainer_options options = {
        .optimizer =
            {.method = TRAIN_ADAMW, .rate = RATE, .decay = DECAY, .warm_up = steps / 20, .steps = steps},
        .input = photo_input_tensor(input, BATCH, samples->width, samples->height, NULL).shape,
        .threads = job->options->threads};
    trainer_free(job->trainer);
    job->trainer = trainer_create(job->graph, &options, error);
    return job->trainer != NULL;
}

static bool step(struct tuning_job *job, double *ret_loss, struct error *error) {
    int classes = job->result->classes.count;
    if (!tune_samples_draw(&job->samples, job->trained, job->trained_count, SEED,
                           trainer_step_count(job->trainer), BATCH, job->inputs, job->classes))
        return no_memory(error);

    for (int i = 0; i < BATCH; i++)
        for (int c = 0; c < classes; c++)
            job->targets[i * classes + c] =
                (float)((1 - SMOOTHING) * (job->classes[i] == c) + SMOOTHING / classes);
    return trainer_step(job->trainer, job->inputs, job->targets, ret_loss, error);
}

/* As many steps as fit into the minutes; the first few tell how long one takes. */
static bool count_steps(struct tuning_job *job, int64_t *ret, struct error *error) {
    double loss, start = 0, seconds = 60 * job->options->minutes;
    if (!make_trainer(job, 0, error))
        return false;
    for (int i = 0; i < TIMED_STEPS; i++) {
        if (i == 1) /* the first makes the plan */
            start = clock_ms();
        if (!step(job, &loss, error))
            return false;
    }

    double each = fmax((clock_ms() - start) / 1000 / (TIMED_STEPS - 1), 1e-4);
    *ret = (int64_t)fmax((seconds - each * TIMED_STEPS) / each, 10);
    return true;
}

static bool run_steps(struct tuning_job *job, int64_t steps, struct error *error) {
    const struct teach_options *options = job->options;
    struct error ignored;
    double saved = clock_ms(), loss;
    if (access(job->checkpoint, F_OK) == 0 && !trainer_restore(job->trainer, job->checkpoint, &ignored))
        unlink(job->checkpoint); /* of another training */

    while (trainer_step_count(job->trainer) < steps) {
        int64_t done = trainer_step_count(job->trainer);
        if (options->report && !options->report(options->context, "tuning", (uint64_t)done, (uint64_t)steps))
            return error_set(error, ERROR_UNAVAILABLE,
                             "interrupted; nothing was written, and with --steps the same command continues");
        if (!step(job, &loss, error))
            return false;
        if (clock_ms() - saved > 1000 * SAVE_SECONDS) {
            if (!trainer_save(job->trainer, job->checkpoint, error))
                return false;
            saved = clock_ms();
        }
    }
    return true;
}

/* ---- Is it better? ---- */

struct verdict {
    int right;
    double loss;
};

/* Scores of one held-out photo. */
static void judge(const float *logits, int classes, int class_index, struct verdict *verdict) {
    int best = 0;
    double sum = 0;
    for (int c = 1; c < classes; c++)
        if (logits[c] > logits[best])
            best = c;
    for (int c = 0; c < classes; c++)
        sum += exp((double)logits[c] - logits[best]);
    verdict->right += best == class_index;
    verdict->loss += log(sum) - ((double)logits[class_index] - logits[best]);
}

/* A network, which is taken over, on the photos that were held out. */
static bool judge_network(const struct tuning_job *job, struct graph *graph, struct verdict *ret,
                          struct error *error) {
    const struct engine_options options = {
        .precision = PRECISION_F32, .threads = job->options->threads, .no_baked = true};
    const struct tune_samples *samples = &job->samples;
    struct engine *engine = engine_load_graph(graph, &options, error);
    struct engine_context *context = engine ? engine_context_create(engine, error) : NULL;
    struct verdict verdict = {0};
    bool done = context != NULL;

    for (int i = 0; done && i < job->held_out_count; i++) {
        int sample = job->held_out[i];
        struct tensor output, input = photo_input_tensor(&samples->input, 1, samples->width, samples->height,
                                                         samples->tensors + sample * samples->elements);
        done = engine_run(context, &input, 1, &output, 1, error);
        if (done)
            judge(output.data, job->result->classes.count, samples->classes[sample], &verdict);
    }

    engine_context_free(context);
    engine_free(engine);
    verdict.loss /= job->held_out_count;
    *ret = verdict;
    return done;
}

static bool compare(struct tuning_job *job, struct teach_result *result, struct error *error) {
    struct verdict head, tuned;
    struct graph *before = graph_clone(job->graph), *after = trainer_graph(job->trainer, error);
    if (!before || !after) {
        graph_free(before);
        graph_free(after);
        return no_memory(error);
    }
    if (!judge_network(job, before, &head, error) || !judge_network(job, after, &tuned, error))
        return false;

    struct teach_tuning *tuning = &result->tuning;
    tuning->held_out = job->held_out_count;
    tuning->trained = job->trained_count;
    tuning->head_right = head.right;
    tuning->head_loss = head.loss;
    tuning->right = tuned.right;
    tuning->loss = tuned.loss;
    tuning->steps = trainer_step_count(job->trainer);
    tuning->kept = tuned.loss < head.loss && tuned.right >= head.right;
    if (!tuning->kept)
        return true;
    result->tuned = trainer_graph(job->trainer, error);
    return result->tuned != NULL;
}

static bool run(struct tuning_job *job, const struct model *model, struct teach_result *result,
                struct error *error) {
    const struct teach_options *options = job->options;
    int classes = result->classes.count;
    const char *slash = strrchr(options->output, '/');
    int folder = slash ? (int)(slash - options->output) + 1 : 0;
    int64_t steps = options->steps;

    if (!tune_samples_load(model, &result->list, &result->features, options->threads, options->report,
                           options->context, &job->samples, error) ||
        !split(job, error) || !fit_head(job, error))
        return false;

    job->inputs = calloc((size_t)job->samples.elements * BATCH, sizeof *job->inputs);
    job->targets = calloc((size_t)classes * BATCH, sizeof *job->targets);
    job->classes = calloc(BATCH, sizeof *job->classes);
    if (!job->inputs || !job->targets || !job->classes ||
        asprintf(&job->checkpoint, "%.*s.%s.tuning", folder, options->output, options->output + folder) < 0)
        return no_memory(error);

    const struct teach_layer layer = {
        .weights = job->head.weights, .bias = job->head.bias, .classes = classes};
    result->headed = job->graph = teach_network_with_head(&result->network, &layer, error);
    if (!job->graph || (!steps && !count_steps(job, &steps, error)) || !make_trainer(job, steps, error) ||
        !run_steps(job, steps, error) || !compare(job, result, error))
        return false;
    unlink(job->checkpoint);
    return true;
}

bool teach_tune(const struct model *model, const struct teach_options *options, struct teach_result *result,
                struct error *error) {
    struct tuning_job job = {.options = options, .result = result};
    double start = clock_ms();
    bool done = run(&job, model, result, error);
    release(&job);
    result->tuning.seconds = (clock_ms() - start) / 1000;
    return done;
}
