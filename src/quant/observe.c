#include "quant/observe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"

#define SAMPLES_A_PHOTO 32768     /* values of a tensor that are counted for each photo */
#define OUTPUT_BYTES (192u << 20) /* of all watched values together, in one batch */
#define BATCH 8
#define SAVE_NS (5 * 1000000000ll)

bool observations_create(const int *values, const int *axes, int count, struct observations *ret,
                         struct error *error) {
    struct observation *items = calloc((size_t)count + 1, sizeof *items);
    if (!items)
        return error_set(error, ERROR_MEMORY, "not enough memory for the statistics of %d tensors", count);

    for (int i = 0; i < count; i++) {
        items[i].value = values[i];
        items[i].axis = axes[i];
    }

    *ret = (struct observations){items, count, 0};
    return true;
}

void observations_release(struct observations *observations) {
    for (int i = 0; i < observations->count; i++) {
        free(observations->items[i].sum);
        free(observations->items[i].high);
    }
    free(observations->items);
    *observations = (struct observations){0};
}

const struct observation *observations_find(const struct observations *observations, int value) {
    int low = 0, high = observations->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (observations->items[middle].value < value)
            low = middle + 1;
        else
            high = middle;
    }

    return low < observations->count && observations->items[low].value == value ? &observations->items[low]
                                                                                : NULL;
}

double observation_mean(const struct observation *observation, int64_t channel) {
    if (channel >= observation->channels || !(observation->per_channel > 0))
        return 0;
    return observation->sum[channel] / observation->per_channel;
}

/* The tensor as [outer, channels, inner]. */
static void split_channels(const struct shape *shape, int axis, int64_t *ret_channels, int64_t *ret_inner) {
    int position = axis < 0 ? shape->rank - 1 : axis < shape->rank ? axis : shape->rank - 1;
    *ret_inner = 1;
    *ret_channels = position >= 0 ? shape->dims[position] : 1;
    for (int i = position + 1; i < shape->rank; i++)
        *ret_inner *= shape->dims[i];
}

static void note_channels(struct observation *observation, const float *values, int64_t outer,
                          int64_t inner) {
    for (int64_t i = 0; i < outer; i++)
        for (int64_t c = 0; c < observation->channels; c++) {
            float sum = 0, high = observation->high[c];
            for (int64_t j = 0; j < inner; j++) {
                float value = *values++, magnitude = fabsf(value);
                sum += value;
                high = magnitude > high ? magnitude : high;
            }
            observation->sum[c] += sum;
            observation->high[c] = high;
        }

    observation->per_channel += (double)outer * (double)inner;
}

/* Add the first `photos` of a batch. False: not finite, out of memory, or of another shape than before. */
static bool note_tensor(struct observation *observation, const struct tensor *tensor, int batch, int photos) {
    int64_t channels, inner, elements = shape_elements(&tensor->shape);
    split_channels(&tensor->shape, observation->axis, &channels, &inner);
    if (elements <= 0)
        return true;

    if (!observation->channels) {
        observation->sum = calloc((size_t)channels, sizeof *observation->sum);
        observation->high = calloc((size_t)channels, sizeof *observation->high);
        if (!observation->sum || !observation->high)
            return false;
        observation->channels = channels;
    }

    observation->shape = tensor->shape;
    int64_t count =
        tensor->shape.rank && tensor->shape.dims[0] % batch == 0 ? elements / batch * photos : elements;
    int64_t step = count / ((int64_t)SAMPLES_A_PHOTO * photos);
    step = step > 1 ? step | 1 : 1; /* odd: not a divisor of an image's width */
    if (channels != observation->channels ||
        !histogram_add(&observation->histogram, tensor->data, count, step))
        return false;

    note_channels(observation, tensor->data, count / (channels * inner), inner);
    return true;
}

struct watch {
    const struct graph *graph;
    const struct observe_options *options;
    struct observations *observations;
    struct runner *runner;
    int *output_of; /* [observations->count] which output is the value; -1: it is the network's input */
    int batch;
    int64_t saved_at;
};

/* The first photo, alone, shows how much memory the values of a photo take. */
static void choose_batch(struct watch *watch, const struct tensor *outputs, int output_count) {
    size_t bytes = 1;
    for (int i = 0; i < output_count; i++)
        bytes += tensor_bytes(&outputs[i]) / (size_t)watch->batch;
    size_t fits = OUTPUT_BYTES / bytes;
    watch->batch = fits < 1 ? 1 : fits > BATCH ? BATCH : (int)fits;
    runner_set_batch(watch->runner, watch->batch);
}

static struct tensor watched_tensor(const struct watch *watch, const struct tensor *outputs, int item,
                                    const int *samples) {
    if (watch->output_of[item] >= 0)
        return outputs[watch->output_of[item]];
    const struct photo_set *set = watch->options->set;
    return photo_input_tensor(&set->input, 1, set->width, set->height,
                              set->tensors + (samples[0] % set->count) * set->elements);
}

/* The input's values are in the photo set, photo by photo. */
static bool note_item(struct watch *watch, const struct tensor *outputs, int item, const int *samples,
                      int count, int rows) {
    struct observation *observation = &watch->observations->items[item];
    bool done = true;
    int runs = watch->output_of[item] < 0 ? count : 1;
    for (int i = 0; i < runs && done; i++) {
        struct tensor tensor = watched_tensor(watch, outputs, item, samples + i);
        done = tensor.dtype == DTYPE_F32 && note_tensor(observation, &tensor,
                                                        runs > 1                     ? 1
                                                        : watch->output_of[item] < 0 ? 1
                                                                                     : rows,
                                                        runs > 1 ? 1 : count);
    }

    return done;
}

static bool note_batch(void *context, const struct tensor *outputs, int output_count, const int *samples,
                       int count, struct error *error) {
    struct watch *watch = context;
    struct observations *observations = watch->observations;
    int failed = -1, rows = watch->batch;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < observations->count; i++)
        if (!note_item(watch, outputs, i, samples, count, rows)) {
#pragma omp atomic write
            failed = i;
        }
    if (failed >= 0)
        return error_set(error, ERROR_MODEL, "value '%s' is not finite, or changes its size, on photo %s",
                         watch->graph->values[observations->items[failed].value]->name,
                         watch->options->set->photos[samples[0] % watch->options->set->count].name);

    if (!observations->photos)
        choose_batch(watch, outputs, output_count);
    observations->photos += count;
    if (watch->options->progress &&
        !watch->options->progress(watch->options->context, "calibrating", (uint64_t)observations->photos,
                                  (uint64_t)watch->options->count)) {
        (void)observations_save(observations, watch->options->state, error);
        return error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }
    if (clock_ns() - watch->saved_at < SAVE_NS)
        return true;

    watch->saved_at = clock_ns();
    return observations_save(observations, watch->options->state, error);
}

/* A copy of the graph with the observed values as outputs. */
static struct graph *copy_watched(const struct graph *graph, const struct observations *observations,
                                  int *output_of) {
    struct graph *copy = graph_clone(graph);
    for (int i = 0; copy && i < observations->count; i++) {
        struct value *value = copy->values[observations->items[i].value];
        output_of[i] = -1;
        if (value->is_input)
            continue;
        for (int j = 0; j < copy->output_count; j++)
            if (copy->outputs[j] == value)
                output_of[i] = j;
        if (output_of[i] >= 0)
            continue;
        output_of[i] = copy->output_count;
        if (!graph_add_output(copy, value)) {
            graph_free(copy);
            return NULL;
        }
    }

    return copy;
}

bool observe(const struct graph *graph, const struct observe_options *options,
             struct observations *observations, struct error *error) {
    int count = options->count;
    bool done = false;
    struct watch watch = {
        .graph = graph, .options = options, .observations = observations, .batch = 1, .saved_at = clock_ns()};
    watch.output_of = calloc((size_t)observations->count + 1, sizeof *watch.output_of);
    struct graph *copy = watch.output_of ? copy_watched(graph, observations, watch.output_of) : NULL;
    if (!copy) {
        error_set(error, ERROR_MEMORY, "not enough memory to calibrate");
        goto out;
    }

    watch.runner = runner_create(copy, options->set, 1, options->threads, options->share_weights_with, error);
    if (!watch.runner)
        goto out;

    observations->photos = 0;
    (void)observations_load(observations, options->state);
    while (observations->photos < count) {
        /* The first photo alone, then the rest in batches of the size that it showed. */
        int from = observations->photos, part = watch.batch == 1 && from == 0 ? 1 : count - from;
        if (!runner_run(watch.runner, options->samples + from, part, note_batch, &watch, error))
            goto out;
    }
    done = observations_save(observations, options->state, error);

out:
    runner_free(watch.runner);
    free(watch.output_of);
    return done;
}
