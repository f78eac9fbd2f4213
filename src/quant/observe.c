#include "quant/observe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"

#define SAMPLES_A_PHOTO 32768     /* values of a tensor that are counted, of each photo */
#define OUTPUT_BYTES (192u << 20) /* of all watched values together, in one batch */
#define BATCH 8
#define SAVE_NS (5 * 1000000000ll)

bool observations_create(const int *values, const int *axes, int count, struct observations *ret,
                         struct error *error) {
    struct observation *items = calloc((size_t)count + 1, sizeof *items);
    if (!items)
        return error_set(error, ERROR_MEMORY, "no memory for the statistics of %d tensors", count);
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
static void channel_split(const struct shape *shape, int axis, int64_t *ret_channels, int64_t *ret_inner) {
    int place = axis < 0 ? shape->rank - 1 : axis < shape->rank ? axis : shape->rank - 1;
    *ret_inner = 1;
    *ret_channels = place >= 0 ? shape->dims[place] : 1;
    for (int i = place + 1; i < shape->rank; i++)
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

/* Take in the first `photos` of a batch. False: not finite, out of memory, or another shape than before. */
static bool note_tensor(struct observation *observation, const struct tensor *tensor, int batch, int photos) {
    int64_t channels, inner, elements = shape_elements(&tensor->shape);
    channel_split(&tensor->shape, observation->axis, &channels, &inner);
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
    step = step > 1 ? step | 1 : 1; /* odd: in step with no width of an image */
    if (channels != observation->channels ||
        !histogram_add(&observation->histogram, tensor->data, count, step))
        return false;
    note_channels(observation, tensor->data, count / (channels * inner), inner);
    return true;
}

struct watch {
    const struct graph *graph;
    const struct photo_set *set;
    struct observations *observations;
    struct runner *runner;
    const int *places; /* [observations->count] which output shows the value; -1: it is the network's input */
    const struct observe_state *state;
    quant_progress progress;
    void *context;
    int batch, total;
    int64_t saved_at;
};

/* After one photo alone it is known how much room a photo's values take. */
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
    if (watch->places[item] >= 0)
        return outputs[watch->places[item]];
    const struct photo_set *set = watch->set;
    struct tensor input = {DTYPE_F32, {.rank = 4}, set->tensors + (samples[0] % set->count) * set->elements};
    int64_t first[] = {1, 3, set->height, set->width}, last[] = {1, set->height, set->width, 3};
    memcpy(input.shape.dims, set->channels_last ? last : first, sizeof first);
    return input;
}

/* The input's values lie in the photo set, photo by photo. */
static bool note_item(struct watch *watch, const struct tensor *outputs, int item, const int *samples,
                      int count, int rows) {
    struct observation *observation = &watch->observations->items[item];
    bool done = true;
    int runs = watch->places[item] < 0 ? count : 1;
    for (int i = 0; i < runs && done; i++) {
        struct tensor tensor = watched_tensor(watch, outputs, item, samples + i);
        done = tensor.dtype == DTYPE_F32 && note_tensor(observation, &tensor,
                                                        runs > 1                  ? 1
                                                        : watch->places[item] < 0 ? 1
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
        return error_set(error, ERROR_MODEL,
                         "value '%s' is not finite, or no tensor of one size, on photo %s",
                         watch->graph->values[observations->items[failed].value]->name,
                         watch->set->photos[samples[0] % watch->set->count].name);
    if (!observations->photos)
        choose_batch(watch, outputs, output_count);
    observations->photos += count;
    if (watch->progress && !watch->progress(watch->context, "calibrating", (uint64_t)observations->photos,
                                            (uint64_t)watch->total)) {
        (void)observations_save(observations, watch->state, error);
        return error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }
    if (clock_ns() - watch->saved_at < SAVE_NS)
        return true;
    watch->saved_at = clock_ns();
    return observations_save(observations, watch->state, error);
}

/* A copy of the graph that shows the watched values as outputs. */
static struct graph *watching_graph(const struct graph *graph, const struct observations *observations,
                                    int *places) {
    struct graph *copy = graph_clone(graph);
    for (int i = 0; copy && i < observations->count; i++) {
        struct value *value = copy->values[observations->items[i].value];
        places[i] = -1;
        if (value->is_input)
            continue;
        for (int j = 0; j < copy->output_count; j++)
            if (copy->outputs[j] == value)
                places[i] = j;
        if (places[i] >= 0)
            continue;
        places[i] = copy->output_count;
        if (!graph_add_output(copy, value)) {
            graph_free(copy);
            return NULL;
        }
    }
    return copy;
}

bool observe(const struct graph *graph, const struct photo_set *set, const int *samples, int count,
             int threads, struct runner *beside, const struct observe_state *state, quant_progress progress,
             void *context, struct observations *observations, struct error *error) {
    int *places = calloc((size_t)observations->count + 1, sizeof *places);
    struct graph *copy = places ? watching_graph(graph, observations, places) : NULL;
    struct runner *runner = NULL;
    bool done = copy || error_set(error, ERROR_MEMORY, "no memory to calibrate");
    if (done)
        done = (runner = runner_create(copy, set, 1, threads, beside, error)) != NULL;
    struct watch watch = {.graph = graph,
                          .set = set,
                          .observations = observations,
                          .runner = runner,
                          .places = places,
                          .state = state,
                          .progress = progress,
                          .context = context,
                          .batch = 1,
                          .total = count,
                          .saved_at = clock_ns()};
    observations->photos = 0;
    if (done)
        (void)observations_load(observations, state);
    while (done && observations->photos < count) {
        /* The first photo alone, then the rest in batches of the size that it told. */
        int from = observations->photos, part = watch.batch == 1 && from == 0 ? 1 : count - from;
        done = runner_run(runner, samples + from, part, note_batch, &watch, error);
    }
    runner_free(runner);
    free(places);
    return done && observations_save(observations, state, error);
}
