#include "teach/features.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "data/loader.h"

enum { BATCH = 8 };

/* Photos that are run together. */
struct feature_run {
    const struct photo_input *input;
    struct engine *engine;
    struct engine_context *context;
    int limit, count, width, height;
    size_t photo_bytes;
    char *tensors; /* [limit] of photo_bytes each */
    int photos[BATCH];
    const struct photo_list *list;
    struct teach_features *features;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for what the network sees in the photos");
}

void teach_features_release(struct teach_features *features) {
    for (int i = 0; i < features->skipped_count; i++)
        free(features->skipped[i]);
    free(features->skipped);
    free(features->values);
    free(features->photos);
    free(features->classes);
    *features = (struct teach_features){0};
}

static bool allocate(struct teach_features *features, size_t count, int width, struct error *error) {
    size_t values;
    features->width = width;
    features->photos = calloc(count + 1, sizeof *features->photos);
    features->classes = calloc(count + 1, sizeof *features->classes);
    features->skipped = calloc(count + 1, sizeof *features->skipped);
    if (size_multiply(count + 1, (size_t)width, &values))
        features->values = calloc(values, sizeof(float));
    return (features->photos && features->classes && features->skipped && features->values) ||
           no_memory(error);
}

/* What was gathered, in a batch of the one size that there is a plan for: places that no photo has hold what
 * was there before. */
static bool run_batch(struct feature_run *run, struct error *error) {
    struct teach_features *features = run->features;
    struct tensor input = photo_input_tensor(run->input, run->limit, run->width, run->height, run->tensors);
    struct tensor output;
    if (!run->count)
        return true;
    if (!engine_run(run->context, &input, 1, &output, 1, error))
        return false;

    if (shape_elements(&output.shape) != (int64_t)run->limit * features->width)
        return error_set(error, ERROR_MODEL, "the input of its last layer has an unexpected shape");
    float *to = features->values + (size_t)features->count * (size_t)features->width;
    elements_convert(output.dtype, output.data, DTYPE_F32, to, (int64_t)run->count * features->width);

    for (int i = 0; i < run->count; i++) {
        features->photos[features->count] = run->photos[i];
        features->classes[features->count++] = run->list->files[run->photos[i]].class_index;
    }
    run->count = 0;
    return true;
}

static bool set_size(struct feature_run *run, int width, int height, struct error *error) {
    size_t bytes = photo_input_bytes(run->input, width, height), all;
    free(run->tensors);
    run->tensors = NULL;
    if (bytes && size_multiply(bytes, (size_t)run->limit, &all)) {
        run->tensors = aligned_alloc(64, size_align(all, 64));
        if (run->tensors)
            memset(run->tensors, 0, all);
    }
    run->width = width;
    run->height = height;
    run->photo_bytes = bytes;
    return run->tensors || no_memory(error);
}

static bool add_photo(struct feature_run *run, const struct loaded_photo *photo, struct error *error) {
    const struct prepared_photo *prepared = &photo->prepared;
    struct teach_features *features = run->features;
    if (!prepared->tensor) {
        char *line = strdup(photo->error.message);
        if (!line)
            return no_memory(error);
        features->skipped[features->skipped_count++] = line;
        return true;
    }

    bool other_size = run->width != prepared->width || run->height != prepared->height;
    if ((other_size || run->count == run->limit) && !run_batch(run, error))
        return false;
    if (other_size && !set_size(run, prepared->width, prepared->height, error))
        return false;

    memcpy(run->tensors + run->photo_bytes * (size_t)run->count, prepared->tensor, run->photo_bytes);
    run->photos[run->count++] = (int)photo->index;
    return true;
}

static bool run_all(struct feature_run *run, int threads, progress_report report, void *context,
                    struct error *error) {
    struct photo_loader *loader = photo_loader_create(run->list, run->input, threads, error);
    struct loaded_photo photo;
    bool done = loader != NULL;

    while (done && photo_loader_take(loader, &photo)) {
        done = add_photo(run, &photo, error);
        free(photo.prepared.tensor);
        if (done && report && !report(context, "looking at photos", photo.index + 1, run->list->count))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }

    photo_loader_free(loader);
    return done && run_batch(run, error);
}

bool teach_features_compute(const struct model *model, const struct teach_network *network,
                            const struct photo_list *list, int threads, progress_report report, void *context,
                            struct teach_features *ret, struct error *error) {
    const struct engine_options options = {
        .precision = engine_precision(model_engine(model)), .threads = threads, .no_baked = true};
    struct teach_features features = {0};
    struct feature_run run = {.input = model_input(model),
                              .limit = model_input(model)->batch == 1 ? 1 : BATCH,
                              .list = list,
                              .features = &features};
    struct graph *graph = teach_network_features(network, error);
    run.engine = graph ? engine_load_graph(graph, &options, error) : NULL;
    run.context = run.engine ? engine_context_create(run.engine, error) : NULL;
    bool done = run.context && allocate(&features, list->count, network->width, error) &&
                run_all(&run, threads, report, context, error);

    engine_context_free(run.context);
    engine_free(run.engine);
    free(run.tensors);
    if (done)
        *ret = features;
    else
        teach_features_release(&features);
    return done;
}
