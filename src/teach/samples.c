#include "teach/samples.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "data/loader.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the photos to tune on");
}

void tune_samples_release(struct tune_samples *samples) {
    free(samples->tensors);
    free(samples->classes);
    free(samples->features);
    *samples = (struct tune_samples){0};
}

static bool begin(const struct model *model, int count, struct tune_samples *samples, struct error *error) {
    samples->input = *model_input(model);
    if (samples->input.dtype != DTYPE_F32 ||
        !photo_input_size(&samples->input, &samples->width, &samples->height))
        return error_set(error, ERROR_MODEL,
                         "%s cannot be tuned: only networks that take float32 photos of one size can",
                         model_name(model));

    size_t bytes = photo_input_bytes(&samples->input, samples->width, samples->height), all;
    samples->elements = (int64_t)(bytes / sizeof(float));
    samples->classes = calloc((size_t)count + 1, sizeof *samples->classes);
    samples->features = calloc((size_t)count + 1, sizeof *samples->features);
    if (bytes && size_multiply(bytes, (size_t)count + 1, &all))
        samples->tensors = malloc(all);
    return (samples->tensors && samples->classes && samples->features) || no_memory(error);
}

static bool add(struct tune_samples *samples, const struct loaded_photo *photo, int feature, int class_index,
                struct error *error) {
    const struct prepared_photo *prepared = &photo->prepared;
    if (!prepared->tensor || prepared->width != samples->width || prepared->height != samples->height)
        return error_set(error, ERROR_IO, "%s",
                         prepared->tensor ? "a photo changed while it was read" : photo->error.message);
    memcpy(samples->tensors + samples->count * samples->elements, prepared->tensor, prepared->bytes);
    samples->classes[samples->count] = class_index;
    samples->features[samples->count++] = feature;
    return true;
}

/* The list of those photos alone; names stay the other list's. */
static bool choose(const struct photo_list *list, const struct teach_features *features, int count,
                   struct photo_list *ret, struct error *error) {
    *ret =
        (struct photo_list){.folder = list->folder, .files = calloc((size_t)count + 1, sizeof *ret->files)};
    if (!ret->files)
        return no_memory(error);
    for (int i = 0; i < count; i++)
        ret->files[ret->count++] = list->files[features->photos[(int64_t)i * features->count / count]];
    return true;
}

bool tune_samples_load(const struct model *model, const struct photo_list *list,
                       const struct teach_features *features, int threads, progress_report report,
                       void *context, struct tune_samples *ret, struct error *error) {
    struct tune_samples samples = {0};
    struct photo_list chosen = {0};
    struct photo_loader *loader = NULL;
    struct loaded_photo photo;
    int width = 1, height = 1, count = features->count;
    (void)photo_input_size(model_input(model), &width, &height);
    size_t bytes = photo_input_bytes(model_input(model), width, height);
    if (bytes && TUNE_BYTES / bytes < (size_t)count)
        count = (int)(TUNE_BYTES / bytes);

    bool done = begin(model, count, &samples, error) && choose(list, features, count, &chosen, error);
    if (done) {
        loader = photo_loader_create(&chosen, &samples.input, threads, error);
        done = loader != NULL;
    }
    while (done && photo_loader_take(loader, &photo)) {
        int feature = (int)((int64_t)photo.index * features->count / count);
        done = add(&samples, &photo, feature, features->classes[feature], error);
        free(photo.prepared.tensor);
        if (done && report && !report(context, "reading photos", photo.index + 1, chosen.count))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }

    photo_loader_free(loader);
    free(chosen.files);
    if (done)
        *ret = samples;
    else
        tune_samples_release(&samples);
    return done;
}

/* ---- Batches ---- */

/* Steele, Lea and Flood, 2014: splitmix64. */
static uint64_t draw(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int draw_below(uint64_t *state, int limit) {
    return (int)(draw(state) % (uint64_t)limit);
}

static void shuffle(const int *order, int count, uint64_t seed, int *ret) {
    memcpy(ret, order, (size_t)count * sizeof *ret);
    for (int i = count - 1; i > 0; i--) {
        int other = draw_below(&seed, i + 1), kept = ret[i];
        ret[i] = ret[other];
        ret[other] = kept;
    }
}

static int within(int value, int limit) {
    return value < 0 ? 0 : value >= limit ? limit - 1 : value;
}

/* Moved and perhaps mirrored; what comes in from outside repeats the edge. */
static void copy_moved(const struct tune_samples *samples, const float *from, uint64_t *state, float *to) {
    int width = samples->width, height = samples->height;
    int reach_x = width / 16, reach_y = height / 16;
    int dx = draw_below(state, 2 * reach_x + 1) - reach_x, dy = draw_below(state, 2 * reach_y + 1) - reach_y;
    bool mirror = draw_below(state, 2), last = samples->input.channels_last;

    for (int c = 0; c < 3; c++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                int64_t row = within(y + dy, height),
                        column = within(mirror ? width - 1 - x + dx : x + dx, width);
                int64_t source =
                    last ? (row * width + column) * 3 + c : ((int64_t)c * height + row) * width + column;
                int64_t target =
                    last ? ((int64_t)y * width + x) * 3 + c : ((int64_t)c * height + y) * width + x;
                to[target] = from[source];
            }
}

bool tune_samples_draw(const struct tune_samples *samples, const int *order, int count, uint64_t seed,
                       int64_t batch, int size, float *inputs, int *ret_classes) {
    cleanup(freep) int *shuffled = malloc(((size_t)count + 1) * sizeof *shuffled);
    int64_t round = -1;
    if (!shuffled)
        return false;

    for (int i = 0; i < size; i++) {
        int64_t position = batch * size + i;
        if (position / count != round) {
            round = position / count;
            shuffle(order, count, seed + (uint64_t)round * 0x632be59bd9b4e019u, shuffled);
        }
        int sample = shuffled[position % count];
        uint64_t state = seed ^ ((uint64_t)position * 0xd6e8feb86659fd93u);
        copy_moved(samples, samples->tensors + sample * samples->elements, &state,
                   inputs + i * samples->elements);
        ret_classes[i] = samples->classes[sample];
    }
    return true;
}
