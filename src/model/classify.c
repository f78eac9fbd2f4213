/* Photos and tensors through the network, and its outputs into predictions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "model/internal.h"

struct model_classifier {
    struct model *model;
    struct engine_context *context;
    struct tensor *outputs; /* [engine_output_count] */
    float *photo;           /* [3, h, w] of model_classify */
    size_t photo_size;      /* bytes */
    uint8_t *input;         /* what the network takes, where that is not [n, 3, h, w] float32 as given */
    size_t input_size;
    float *logits; /* [batch, classes], where the output is not float32 */
    size_t logits_size;
};

/* Make a buffer at least this large; its content is lost. */
static bool buffer_need(void *buffer, size_t *size, size_t wanted, struct error *error) {
    void **memory = buffer;
    if (*size >= wanted)
        return true;
    free(*memory);
    *size = 0;
    *memory = aligned_alloc(64, size_align(wanted, 64));
    if (!*memory)
        return error_set(error, ERROR_MEMORY, "no memory for a tensor of %zu bytes", wanted);
    *size = wanted;
    return true;
}

struct tensor model_input_tensor(const struct model *model, int64_t count, int64_t height, int64_t width,
                                 void *data) {
    struct tensor tensor = {.dtype = model->input_dtype, .shape = {.rank = 4}, .data = data};
    int64_t first[] = {count, 3, height, width}, last[] = {count, height, width, 3};
    memcpy(tensor.shape.dims, model->channels_last ? last : first, sizeof first);
    return tensor;
}

/* The plan for one photo is made here, so that the first one does not pay for it. */
static bool classifier_prepare(struct model_classifier *classifier, struct error *error) {
    const struct image_recipe *recipe = &classifier->model->recipe;
    bool exact = recipe->do_center_crop || (recipe->do_resize && recipe->resize_short <= 0);
    if (!exact)
        return true;
    int width, height;
    image_recipe_size(recipe, 1, 1, &width, &height);
    int64_t batch = classifier->model->batch > 0 ? classifier->model->batch : 1;
    struct tensor input = model_input_tensor(classifier->model, batch, height, width, NULL);
    return engine_prepare(classifier->context, &input, 1, error);
}

struct model_classifier *model_classifier_create(struct model *model, struct error *error) {
    struct model_classifier *classifier = calloc(1, sizeof *classifier);
    struct tensor *outputs = calloc((size_t)engine_output_count(model->engine), sizeof *outputs);
    if (!classifier || !outputs) {
        free(classifier);
        free(outputs);
        error_set(error, ERROR_MEMORY, "no memory for a classifier");
        return NULL;
    }
    classifier->model = model;
    classifier->outputs = outputs;
    classifier->context = engine_context_create(model->engine, error);
    if (!classifier->context || !classifier_prepare(classifier, error)) {
        error_prefix(error, "%s", model->path);
        model_classifier_free(classifier);
        return NULL;
    }
    return classifier;
}

void model_classifier_free(struct model_classifier *classifier) {
    if (!classifier)
        return;
    engine_context_free(classifier->context);
    free(classifier->outputs);
    free(classifier->photo);
    free(classifier->input);
    free(classifier->logits);
    free(classifier);
}

/* The same values, [count, 3, pixels] to [count, pixels, 3]. */
static void channels_to_last(const float *from, int64_t count, int64_t pixels, float *to) {
    for (int64_t n = 0; n < count; n++, from += 3 * pixels)
        for (int64_t i = 0; i < pixels; i++)
            for (int64_t c = 0; c < 3; c++)
                *to++ = from[c * pixels + i];
}

/* As the network takes them: `batch` photos (of which the last ones are black where `count` is less), its
 * layout, its type. */
static bool input_convert(struct model_classifier *classifier, const float *tensors, int64_t count,
                          int64_t batch, int64_t pixels, void **ret, struct error *error) {
    const struct model *model = classifier->model;
    size_t values = (size_t)(batch * pixels * 3);
    if (model->input_dtype == DTYPE_F32 && !model->channels_last && batch == count) {
        *ret = (void *)tensors;
        return true;
    }
    if (!buffer_need(&classifier->input, &classifier->input_size, values * dtype_size(model->input_dtype),
                     error))
        return false;
    cleanup(freep) float *turned = NULL;
    if (model->channels_last && !(turned = malloc((size_t)(count * pixels) * 3 * sizeof *turned)))
        return error_set(error, ERROR_MEMORY, "no memory for a tensor");
    if (turned)
        channels_to_last(tensors, count, pixels, turned);
    memset(classifier->input, 0, values * dtype_size(model->input_dtype));
    elements_convert(DTYPE_F32, turned ? turned : tensors, model->input_dtype, classifier->input,
                     count * pixels * 3);
    *ret = classifier->input;
    return true;
}

/* Run up to one batch of the network; *ret_logits: [count, classes], until the next run. */
static bool batch_run(struct model_classifier *classifier, const float *tensors, int64_t count, int height,
                      int width, const float **ret_logits, struct error *error) {
    const struct model *model = classifier->model;
    int64_t batch = model->batch > 0 ? model->batch : count, classes = model->labels.count;
    void *data = NULL;
    if (!input_convert(classifier, tensors, count, batch, (int64_t)height * width, &data, error))
        return false;
    struct tensor input = model_input_tensor(model, batch, height, width, data);
    if (!engine_run(classifier->context, &input, 1, classifier->outputs, engine_output_count(model->engine),
                    error))
        return false;
    const struct tensor *output = &classifier->outputs[model->output];
    if (shape_elements(&output->shape) != batch * classes)
        return error_set(error, ERROR_MODEL,
                         "%s: the network answers with %lld values for this photo, and with %lld for others",
                         model->path, (long long)(shape_elements(&output->shape) / (batch ? batch : 1)),
                         (long long)classes);
    if (output->dtype == DTYPE_F32) {
        *ret_logits = output->data;
        return true;
    }
    if (!buffer_need(&classifier->logits, &classifier->logits_size, (size_t)(batch * classes) * sizeof(float),
                     error))
        return false;
    elements_convert(output->dtype, output->data, DTYPE_F32, classifier->logits, batch * classes);
    *ret_logits = classifier->logits;
    return true;
}

/* How values become probabilities: (exp(value - shift)) * scale, or as they are where scale is 0. */
struct softmax {
    double shift, scale;
};

/* A network that ends in a softmax gives shares of one; its rounding (bfloat16's at the worst) leaves them
 * near it. */
static bool softmax_find(const float *values, int count, struct softmax *ret) {
    double sum = 0, largest = -INFINITY;
    bool shares = true;
    for (int i = 0; i < count; i++) {
        sum += values[i];
        largest = values[i] > largest ? values[i] : largest;
        shares = shares && values[i] >= 0 && values[i] <= 1;
    }
    if (!isfinite(sum))
        return false;
    *ret = (struct softmax){0, 0};
    if (shares && fabs(sum - 1) < 0.01)
        return true;
    double total = 0;
    for (int i = 0; i < count; i++)
        total += exp(values[i] - largest);
    *ret = (struct softmax){largest, 1 / total};
    return true;
}

/* The best `top`, kept in order while walking; equal values stay in the order of their index. */
static void best_find(const struct model *model, const float *values, int top, struct prediction *ret) {
    int kept = 0;
    for (int i = 0; i < model->labels.count; i++) {
        if (kept == top && values[i] <= ret[kept - 1].probability)
            continue;
        int place = kept < top ? kept++ : top - 1;
        for (; place > 0 && ret[place - 1].probability < values[i]; place--)
            ret[place] = ret[place - 1];
        ret[place] = (struct prediction){.index = i, .probability = values[i]};
    }
}

static bool predictions_make(const struct model *model, const float *values, int top, struct prediction *ret,
                             struct error *error) {
    struct softmax softmax;
    if (!softmax_find(values, model->labels.count, &softmax))
        return error_set(error, ERROR_MODEL, "%s: the network's answer holds values that are not finite",
                         model->path);
    best_find(model, values, top, ret);
    for (int i = 0; i < top; i++) {
        if (softmax.scale > 0)
            ret[i].probability = (float)(exp(ret[i].probability - softmax.shift) * softmax.scale);
        ret[i].label = model->labels.names[ret[i].index];
    }
    return true;
}

bool model_classify_tensors(struct model_classifier *classifier, const float *tensors, int count, int height,
                            int width, int top, struct prediction *ret, struct error *error) {
    const struct model *model = classifier->model;
    top = top < model->labels.count ? top : model->labels.count;
    if (top < 1)
        return error_set(error, ERROR_INVALID, "at least one prediction must be asked for");
    int64_t pixels = (int64_t)height * width, step = model->batch > 0 ? model->batch : count;
    for (int64_t done = 0; done < count; done += step) {
        int64_t part = count - done < step ? count - done : step;
        const float *logits = NULL;
        if (!batch_run(classifier, tensors + done * pixels * 3, part, height, width, &logits, error))
            return false;
        for (int64_t i = 0; i < part; i++)
            if (!predictions_make(model, logits + i * model->labels.count, top, ret + (done + i) * top,
                                  error))
                return false;
    }
    return true;
}

bool model_classify(struct model_classifier *classifier, const uint8_t *bytes, size_t size, int top,
                    struct prediction *ret, int *ret_count, struct timing *timing, struct error *error) {
    const struct model *model = classifier->model;
    struct image image;
    int width, height;
    double start = clock_ms();
    if (!image_decode(bytes, size, &image, error))
        return false;
    double decoded = clock_ms();
    image_recipe_size(&model->recipe, image.width, image.height, &width, &height);
    bool done = buffer_need(&classifier->photo, &classifier->photo_size,
                            (size_t)width * (size_t)height * 3 * sizeof(float), error) &&
                image_preprocess(&image, &model->recipe, classifier->photo, error);
    image_release(&image);
    double prepared = clock_ms();
    if (!done || !model_classify_tensors(classifier, classifier->photo, 1, height, width, top, ret, error))
        return false;
    *ret_count = top < model->labels.count ? top : model->labels.count;
    timing->decode += decoded - start;
    timing->preprocess += prepared - decoded;
    timing->infer += clock_ms() - prepared;
    return true;
}
