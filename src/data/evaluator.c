#include "data/evaluator.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct evaluator {
    struct model *model;
    struct model_classifier *classifier;
    evaluator_visit visit;
    void *context;
    int limit, count, top, width, height;
    size_t photo_bytes;
    size_t *photos;                 /* [limit] */
    char *tensors;                  /* [limit] of photo_bytes each */
    struct prediction *predictions; /* [limit, top] */
    float *probabilities;           /* [limit, classes] */
};

void hits_add(struct hits *hits, const struct prediction *best, int top, int class_index) {
    if (class_index < 0)
        return;

    hits->count++;
    hits->first += best[0].index == class_index;
    hits->before += best[0].index == class_index - 1;
    hits->after += best[0].index == class_index + 1;
    for (int i = 0; i < top; i++)
        hits->five += best[i].index == class_index;
}

int hits_find_offset(const struct hits *hits) {
    int neighbour = hits->after > hits->before ? hits->after : hits->before;
    if (hits->count < 4 || 2 * neighbour <= hits->count)
        return 0;
    return neighbour == hits->after ? 1 : -1;
}

struct evaluator *evaluator_create(struct model *model, int batch, evaluator_visit visit, void *context,
                                   struct error *error) {
    struct evaluator *evaluator = calloc(1, sizeof *evaluator);
    if (!evaluator) {
        error_set(error, ERROR_MEMORY, "not enough memory to evaluate a model");
        return NULL;
    }

    size_t limit = batch > 1 ? (size_t)batch : 1, classes = (size_t)model_class_count(model);
    *evaluator = (struct evaluator){.model = model, .visit = visit, .context = context, .limit = (int)limit};
    evaluator->top = classes < EVALUATOR_TOP ? (int)classes : EVALUATOR_TOP;
    evaluator->photos = calloc(limit, sizeof *evaluator->photos);
    evaluator->predictions = calloc(limit * (size_t)evaluator->top, sizeof *evaluator->predictions);
    evaluator->probabilities = calloc(limit * classes, sizeof *evaluator->probabilities);
    if (!evaluator->photos || !evaluator->predictions || !evaluator->probabilities) {
        error_set(error, ERROR_MEMORY, "not enough memory for a batch of %zu photos", limit);
        goto fail;
    }

    evaluator->classifier = model_classifier_create(model, error);
    if (evaluator->classifier)
        return evaluator;

fail:
    evaluator_free(evaluator);
    return NULL;
}

void evaluator_free(struct evaluator *evaluator) {
    if (!evaluator)
        return;

    model_classifier_free(evaluator->classifier);
    free(evaluator->photos);
    free(evaluator->tensors);
    free(evaluator->predictions);
    free(evaluator->probabilities);
    free(evaluator);
}

static bool run_part(struct evaluator *evaluator, int from, int count, struct error *error) {
    int classes = model_class_count(evaluator->model);
    if (!model_classify_fully(evaluator->classifier,
                              evaluator->tensors + evaluator->photo_bytes * (size_t)from, count,
                              evaluator->width, evaluator->height, evaluator->top, evaluator->predictions,
                              evaluator->probabilities, error))
        return false;

    for (int i = 0; i < count; i++) {
        const struct evaluated_photo photo = {
            .photo = evaluator->photos[from + i],
            .best = evaluator->predictions + (size_t)i * (size_t)evaluator->top,
            .top = evaluator->top,
            .probabilities = evaluator->probabilities + (size_t)i * (size_t)classes};
        evaluator->visit(evaluator->context, &photo);
    }
    return true;
}

/* A whole batch at once. What is left at the end goes one by one, so that no plan is made for its odd size; a
 * network of fixed batches has one plan anyway. */
static bool run_batch(struct evaluator *evaluator, struct error *error) {
    bool whole = evaluator->count == evaluator->limit || model_input(evaluator->model)->batch > 0;
    int step = whole && evaluator->count ? evaluator->count : 1;
    for (int i = 0; i < evaluator->count; i += step)
        if (!run_part(evaluator, i, step, error))
            return false;

    evaluator->count = 0;
    return true;
}

/* Begin an empty batch of photos of another size. */
static bool set_size(struct evaluator *evaluator, int width, int height, struct error *error) {
    size_t bytes = photo_input_bytes(model_input(evaluator->model), width, height), all;
    free(evaluator->tensors);
    evaluator->tensors = NULL;
    evaluator->width = evaluator->height = 0;
    if (bytes && size_multiply(bytes, (size_t)evaluator->limit, &all))
        evaluator->tensors = aligned_alloc(64, size_align(all, 64));
    if (!evaluator->tensors)
        return error_set(error, ERROR_MEMORY, "not enough memory for a batch of %d photos", evaluator->limit);

    evaluator->width = width;
    evaluator->height = height;
    evaluator->photo_bytes = bytes;
    return true;
}

bool evaluator_add(struct evaluator *evaluator, size_t photo, const void *tensor, int width, int height,
                   struct error *error) {
    bool other_size = evaluator->width != width || evaluator->height != height;
    if ((other_size || evaluator->count == evaluator->limit) && !run_batch(evaluator, error))
        return false;
    if (other_size && !set_size(evaluator, width, height, error))
        return false;

    size_t bytes = evaluator->photo_bytes;
    memcpy(evaluator->tensors + bytes * (size_t)evaluator->count, tensor, bytes);
    evaluator->photos[evaluator->count++] = photo;
    return true;
}

bool evaluator_finish(struct evaluator *evaluator, struct error *error) {
    return run_batch(evaluator, error);
}
