/* Photos through the network, and its outputs into predictions. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "model/internal.h"
#include "model/outputs.h"

struct model_classifier {
    struct model *model;
    struct engine_context *context;
    struct tensor *outputs; /* [engine_output_count] */
    void *photo;            /* model_classify's, prepared */
    size_t photo_size;      /* bytes */
    void *padded;           /* a batch of photos, where the network wants more than there are */
    size_t padded_size;
    double *scores; /* [classes] of one photo */
    double *raw;    /* [classes] the same before they became probabilities */
    int *best;      /* [classes] */
};

/* Make a buffer at least this large; its content is lost. */
static bool buffer_need(void **buffer, size_t *size, size_t wanted, struct error *error) {
    if (*size >= wanted && *buffer)
        return true;

    free(*buffer);
    *size = 0;
    *buffer = wanted ? aligned_alloc(64, size_align(wanted, 64)) : NULL;
    if (!*buffer)
        return error_set(error, ERROR_MEMORY, "not enough memory for a tensor of %zu bytes", wanted);

    *size = wanted;
    return true;
}

/* Plan for one photo now, so that the first one does not wait for it. */
static bool plan_one(struct model_classifier *classifier, struct error *error) {
    const struct photo_input *format = &classifier->model->input;
    int width, height;
    if (!photo_input_size(format, &width, &height))
        return true;

    struct tensor input =
        photo_input_tensor(format, format->batch > 0 ? format->batch : 1, width, height, NULL);
    return engine_prepare(classifier->context, &input, 1, error);
}

struct model_classifier *model_classifier_create(struct model *model, struct error *error) {
    struct model_classifier *classifier = calloc(1, sizeof *classifier);
    if (!classifier) {
        error_set(error, ERROR_MEMORY, "not enough memory for a classifier");
        return NULL;
    }

    classifier->model = model;
    classifier->outputs = calloc((size_t)engine_output_count(model->engine), sizeof *classifier->outputs);
    classifier->scores = calloc((size_t)model->labels.count, sizeof *classifier->scores);
    classifier->raw = calloc((size_t)model->labels.count, sizeof *classifier->raw);
    classifier->best = calloc((size_t)model->labels.count, sizeof *classifier->best);
    if (!classifier->outputs || !classifier->scores || !classifier->raw || !classifier->best) {
        error_set(error, ERROR_MEMORY, "not enough memory for a classifier");
        goto fail;
    }

    classifier->context = engine_context_create(model->engine, error);
    if (!classifier->context || !plan_one(classifier, error)) {
        error_prefix(error, "%s", model->path);
        goto fail;
    }
    return classifier;

fail:
    model_classifier_free(classifier);
    return NULL;
}

void model_classifier_free(struct model_classifier *classifier) {
    if (!classifier)
        return;

    engine_context_free(classifier->context);
    free(classifier->outputs);
    free(classifier->photo);
    free(classifier->padded);
    free(classifier->scores);
    free(classifier->raw);
    free(classifier->best);
    free(classifier);
}

/* `count` photos filled up with zeros to the `batch` that the network insists on. */
static bool batch_pad(struct model_classifier *classifier, const void *tensors, size_t photo_bytes,
                      int64_t count, int64_t batch, const void **ret, struct error *error) {
    size_t used, all;
    *ret = tensors;
    if (count == batch)
        return true;

    if (!size_multiply(photo_bytes, (size_t)batch, &all))
        return error_set(error, ERROR_MEMORY, "not enough memory for %lld photos", (long long)batch);
    if (!buffer_need(&classifier->padded, &classifier->padded_size, all, error))
        return false;

    used = photo_bytes * (size_t)count;
    memcpy(classifier->padded, tensors, used);
    memset((char *)classifier->padded + used, 0, all - used);
    *ret = classifier->padded;
    return true;
}

/* Are there scores for each of `rows` photos? */
static bool check_scores(const struct model *model, const struct tensor *output, int64_t rows,
                         struct error *error) {
    int64_t classes = model->labels.count, values = shape_elements(&output->shape);
    return values == rows * classes ||
           error_set(error, ERROR_MODEL,
                     "%s: the network gives %lld values for this photo, but %lld for others", model->path,
                     (long long)(values / (rows ? rows : 1)), (long long)classes);
}

/* Run up to one batch of the network; *ret_scores: its output for them, until the next run. */
static bool batch_run(struct model_classifier *classifier, const void *tensors, int64_t count, int width,
                      int height, const struct tensor **ret_scores, struct error *error) {
    const struct model *model = classifier->model;
    int64_t batch = model->input.batch > 0 ? model->input.batch : count;
    const void *data;
    if (!batch_pad(classifier, tensors, photo_input_bytes(&model->input, width, height), count, batch, &data,
                   error))
        return false;

    struct tensor input = photo_input_tensor(&model->input, batch, width, height, (void *)data);
    if (!engine_run(classifier->context, &input, 1, classifier->outputs, engine_output_count(model->engine),
                    error))
        return false;

    const struct tensor *output = &classifier->outputs[model->output];
    *ret_scores = output;
    return check_scores(model, output, batch, error);
}

/* The predictions of one photo, and (not NULL) its probabilities. */
static bool predictions_make(struct model_classifier *classifier, const struct tensor *output, int64_t row,
                             int top, struct prediction *ret, float *ret_probabilities, struct error *error) {
    const struct model *model = classifier->model;
    const struct labels *labels = &model->labels;
    double *scores = classifier->scores;
    scores_read(output, row, labels->count, scores);
    memcpy(classifier->raw, scores, (size_t)labels->count * sizeof *scores);
    scores_find_best(scores, labels->count, top, classifier->best);
    if (!scores_to_probabilities(scores, labels->count, model->head.kind))
        return error_set(error, ERROR_MODEL,
                         "%s: the network's scores for this photo are not finite (NaN or infinity): it "
                         "cannot be classified",
                         model->name);

    enum model_knows knows =
        rejection_judge(&model->rejection, classifier->raw, labels->count, scores[classifier->best[0]]);
    for (int i = 0; i < top; i++) {
        int index = classifier->best[i];
        ret[i] = (struct prediction){
            .index = index,
            .label = labels->names[index],
            .probability = (float)scores[index],
            .knows = knows,
        };
    }

    for (int i = 0; ret_probabilities && i < labels->count; i++)
        ret_probabilities[i] = (float)scores[i];
    return true;
}

/* Where predictions go; what is NULL is not wanted. */
struct destination {
    int top;
    struct prediction *predictions;
    float *probabilities;
};

static bool classify(struct model_classifier *classifier, const void *tensors, int count, int width,
                     int height, const struct destination *to, struct error *error) {
    const struct model *model = classifier->model;
    size_t photo_bytes = photo_input_bytes(&model->input, width, height);
    int64_t step = model->input.batch > 0 ? model->input.batch : count, classes = model->labels.count;
    int top = to->top < classes ? to->top : (int)classes;

    if (!model_check_classifier(model, error))
        return false;
    if (top < 1)
        return error_set(error, ERROR_INVALID, "at least one prediction must be asked for");

    for (int64_t done = 0; done < count; done += step) {
        int64_t part = count - done < step ? count - done : step;
        const char *first = (const char *)tensors + photo_bytes * (size_t)done;
        const struct tensor *scores = NULL;
        if (!batch_run(classifier, first, part, width, height, &scores, error))
            return false;

        for (int64_t i = 0; i < part; i++) {
            int64_t photo = done + i;
            float *probabilities = to->probabilities ? to->probabilities + photo * classes : NULL;
            if (!predictions_make(classifier, scores, i, top, to->predictions + photo * top, probabilities,
                                  error))
                return false;
        }
    }
    return true;
}

bool model_classify_fully(struct model_classifier *classifier, const void *tensors, int count, int width,
                          int height, int top, struct prediction *ret, float *ret_probabilities,
                          struct error *error) {
    const struct destination to = {.top = top, .predictions = ret, .probabilities = ret_probabilities};
    return classify(classifier, tensors, count, width, height, &to, error);
}

struct engine_context *model_classifier_context(struct model_classifier *classifier) {
    return classifier->context;
}

bool model_classifier_read(struct model_classifier *classifier, const struct tensor *outputs, int64_t rows,
                           int64_t row, int top, struct prediction *ret, struct error *error) {
    const struct model *model = classifier->model;
    const struct tensor *scores = &outputs[model->output];
    int classes = model->labels.count;
    return check_scores(model, scores, rows, error) &&
           predictions_make(classifier, scores, row, top < classes ? top : classes, ret, NULL, error);
}

bool model_classifier_warm_up(struct model_classifier *classifier, int count, struct error *error) {
    const struct photo_input *input = &classifier->model->input;
    int width, height;
    photo_input_size(input, &width, &height);
    size_t bytes = photo_input_bytes(input, width, height);
    int64_t step = input->batch > 0 ? input->batch : count;
    void *tensors = calloc((size_t)count, bytes ? bytes : 1);
    if (!tensors)
        return error_set(error, ERROR_MEMORY, "not enough memory to warm the model up");

    bool done = true;
    for (int64_t at = 0; done && at < count; at += step) {
        const struct tensor *scores = NULL;
        done = batch_run(classifier, (char *)tensors + bytes * (size_t)at,
                         count - at < step ? count - at : step, width, height, &scores, error);
    }

    free(tensors);
    return done;
}

bool model_classify_prepared(struct model_classifier *classifier, const void *tensors, int count, int width,
                             int height, int top, struct prediction *ret, struct error *error) {
    return model_classify_fully(classifier, tensors, count, width, height, top, ret, NULL, error);
}

bool model_classify(struct model_classifier *classifier, const uint8_t *bytes, size_t size, int top,
                    struct prediction *ret, int *ret_count, struct timing *timing, struct error *error) {
    const struct model *model = classifier->model;
    const struct photo_input *input = &model->input;
    struct photo_plan plan;

    if (!model_check_classifier(model, error))
        return false;
    if (!photo_plan(input, bytes, size, &plan, timing, error) ||
        !buffer_need(&classifier->photo, &classifier->photo_size, plan.tensor_bytes, error) ||
        !photo_write(input, bytes, size, &plan, classifier->photo, timing, error))
        return false;

    int width = plan.geometry.width, height = plan.geometry.height;
    double start = clock_ms();

    if (!model_classify_prepared(classifier, classifier->photo, 1, width, height, top, ret, error))
        return false;

    timing->infer += clock_ms() - start;
    *ret_count = top < model->labels.count ? top : model->labels.count;
    return true;
}
