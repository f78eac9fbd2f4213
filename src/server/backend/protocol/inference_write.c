/* Inference requests beyond their reading: photos decoded, answers written. */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "model/outputs.h"
#include "server/backend/protocol/inference_private.h"

/* ---- Photos to tensors ---- */

/* One photo into its position in the batch, which is made with the first: all must come out in one size. */
static bool photo_place(struct inference *inference, const struct photo_input *format, int index,
                        struct timing *timing, struct error *error) {
    struct tensor *input = &inference->inputs[inference->photo_input];
    const struct inference_photo *photo = &inference->photos[index];
    const uint8_t *bytes = (const uint8_t *)photo->bytes;
    struct photo_plan plan;
    if (!photo_plan(format, bytes, photo->size, &plan, timing, error))
        return error_prefix(error, "photo %d", index);

    struct tensor batch =
        photo_input_tensor(format, inference->photo_count, plan.geometry.width, plan.geometry.height, NULL);

    if (index == 0) {
        *input = batch;
        if (!inference_tensor_allocate(inference, input, error))
            return false;
    }

    if (!shape_equal(&input->shape, &batch.shape))
        return error_set(error, ERROR_INVALID, "photo %d: the photos of one request must have one size",
                         index);

    struct memory_charge pixels = {.purpose = MEMORY_PIXELS};
    if (!memory_charge_wait(&pixels, (size_t)plan.cost, &inference->wait, error))
        return error_prefix(error, "photo %d", index);

    char *position = (char *)input->data + plan.tensor_bytes * (size_t)index;
    bool done = photo_write(format, bytes, photo->size, &plan, position, timing, error);
    memory_charge_release(&pixels);
    return done || error_prefix(error, "photo %d", index);
}

bool inference_decode(struct inference *inference, const struct model *model, struct timing *timing,
                      struct error *error) {
    const struct photo_input *format = model_input(model);
    struct error reason;
    if (inference->photo_input < 0)
        return true;
    if (!model_takes_photos(model, &reason))
        return error_set(error, ERROR_INVALID, "this model takes tensors, and no photos: %s", reason.message);
    if (inference->photo_count == 0)
        return error_set(error, ERROR_INVALID, "there is no photo in the request");
    if (format->batch >= 0 && format->batch != inference->photo_count)
        return error_set(error, ERROR_INVALID, "this model takes %lld photos at a time",
                         (long long)format->batch);

    for (int i = 0; i < inference->photo_count; i++)
        if (!inference_is_wanted(inference, error) || !photo_place(inference, format, i, timing, error))
            return false;
    return true;
}

/* ---- Writing ---- */

bool inference_check_finite(const char *name, const struct tensor *tensor, struct error *error) {
    int64_t elements = shape_elements(&tensor->shape);
    if (!dtype_is_float(tensor->dtype))
        return true;

    for (int64_t i = 0; i < elements; i++)
        if (!isfinite(tensor_get_f64(tensor, i)))
            return error_set(error, ERROR_MODEL,
                             "output \"%.100s\" holds a value that is not finite (NaN or infinity), which "
                             "JSON cannot express: ask for it in binary",
                             name);

    return true;
}

void inference_write_value(struct buffer *json, const struct tensor *tensor, int64_t index) {
    if (tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_F64 || dtype_is_float(tensor->dtype)) {
        buffer_printf(json, "%.*g", tensor->dtype == DTYPE_F64 ? 17 : 9, tensor_get_f64(tensor, index));
    } else if (tensor->dtype == DTYPE_BOOL) {
        buffer_append_string(json, tensor_get_i64(tensor, index) ? "true" : "false");
    } else {
        buffer_printf(json, "%lld", (long long)tensor_get_i64(tensor, index));
    }
}

static void write_shape(struct buffer *json, const struct shape *shape) {
    buffer_append_string(json, "[");
    for (int i = 0; i < shape->rank; i++)
        buffer_printf(json, "%s%lld", i ? ", " : "", (long long)shape->dims[i]);
    buffer_append_string(json, "]");
}

/* "score:index:label", as JSON or as BYTES; without the label where the output names no classes. */
static void write_class(const struct model *model, bool has_labels, double score, int index, bool as_bytes,
                        struct buffer *ret) {
    struct buffer text = {0};
    buffer_printf(&text, "%.9g:%d", score, index);
    if (has_labels && index < model_class_count(model))
        buffer_printf(&text, ":%s", model_label(model, index, "en"));

    uint32_t length = htole32((uint32_t)text.size);
    if (as_bytes) {
        buffer_append(ret, &length, sizeof length);
        buffer_append(ret, text.bytes, text.size);
    } else {
        json_append_string(ret, text.size ? text.bytes : "");
    }
    buffer_release(&text);
}

/* -infinity is the score of a class that cannot be. */
static bool are_usable(const double *scores, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (isnan(scores[i]) || scores[i] == (double)INFINITY)
            return false;
    return true;
}

/* The best classes of every row. */
static bool write_classes(const struct inference_output *output, const struct model *model,
                          struct buffer *json, struct buffer *binary, struct error *error) {
    const struct tensor *tensor = &output->tensor;
    int64_t elements = shape_elements(&tensor->shape),
            rows = tensor->shape.rank > 1 ? tensor->shape.dims[0] : 1;
    int64_t classes = rows > 0 ? elements / rows : 0;
    int top = output->classes < classes ? output->classes : (int)classes;
    if (top < 1)
        return error_set(error, ERROR_INVALID, "an output without values has no classes");

    cleanup(freep) int *best = calloc((size_t)top, sizeof *best);
    cleanup(freep) double *scores = calloc((size_t)classes, sizeof *scores);
    if (!best || !scores)
        return error_set(error, ERROR_MEMORY, "not enough memory for %lld classes", (long long)classes);

    buffer_printf(json, "\"datatype\": \"BYTES\", \"shape\": [%lld, %d], ", (long long)rows, top);
    if (!output->binary)
        buffer_append_string(json, "\"data\": [");
    bool has_labels = output->port == model_output(model) && model_head(model) != HEAD_NONE;
    size_t before = binary->size;

    for (int64_t row = 0; row < rows; row++) {
        scores_read(tensor, row, classes, scores);
        if (!are_usable(scores, classes))
            return error_set(error, ERROR_MODEL,
                             "output \"%.100s\" holds a value that is not finite: it has no classes",
                             engine_output(model_engine(model), output->port)->name);
        scores_find_best(scores, classes, top, best);
        for (int i = 0; i < top; i++) {
            if (!output->binary && (row || i))
                buffer_append_string(json, ", ");
            write_class(model, has_labels, scores[best[i]], best[i], output->binary,
                        output->binary ? binary : json);
        }
    }

    if (output->binary)
        buffer_printf(json, "\"parameters\": {\"binary_data_size\": %zu}", binary->size - before);
    else
        buffer_append_string(json, "]");
    return true;
}

static bool write_output(const struct inference_output *output, const struct model *model,
                         struct buffer *json, struct buffer *binary, struct error *error) {
    const struct tensor *tensor = &output->tensor;
    buffer_append_string(json, "{\"name\": ");
    json_append_string(json, engine_output(model_engine(model), output->port)->name);
    buffer_append_string(json, ", ");
    if (output->classes) {
        if (!write_classes(output, model, json, binary, error))
            return false;
    } else {
        const char *type = inference_type_name(tensor->dtype);
        buffer_printf(json, "\"datatype\": \"%s\", \"shape\": ", type ? type : "BYTES");
        write_shape(json, &tensor->shape);
        if (output->binary) {
            buffer_printf(json, ", \"parameters\": {\"binary_data_size\": %zu}", tensor_bytes(tensor));
            buffer_append(binary, tensor->data, tensor_bytes(tensor));
        } else {
            int64_t elements = shape_elements(&tensor->shape);
            const char *name = engine_output(model_engine(model), output->port)->name;
            if (!inference_check_finite(name, tensor, error))
                return false;
            buffer_append_string(json, ", \"data\": [");
            for (int64_t i = 0; i < elements; i++) {
                buffer_append_string(json, i ? ", " : "");
                inference_write_value(json, tensor, i);
            }
            buffer_append_string(json, "]");
        }
    }

    buffer_append_string(json, "}");
    return true;
}

size_t inference_answer_bytes(const struct inference *inference) {
    enum { HEAD = 4096, NUMBER = 28 /* the longest, with what stands around it */, CLASS = 128, ESCAPE = 6 };
    size_t bytes = HEAD + (inference->id ? strlen(inference->id) * ESCAPE : 0);

    for (int i = 0; i < inference->output_count; i++) {
        const struct inference_output *output = &inference->outputs[i];
        size_t elements = (size_t)shape_elements(&output->tensor.shape);
        if (output->binary && !output->classes)
            bytes += 2 * tensor_bytes(&output->tensor); /* it is put behind the JSON */
        else
            bytes += elements * (output->classes ? CLASS : NUMBER);
    }
    return bytes;
}

bool inference_write(const struct inference *inference, const struct model *model, const char *name,
                     struct buffer *json, struct buffer *binary, struct error *error) {
    if (inference->tensorflow) {
        if (!inference_tensorflow_write(inference, model_engine(model), json, error))
            return false;
    } else {
        buffer_append_string(json, "{\"model_name\": ");
        json_append_string(json, name);
        buffer_append_string(json, ", \"model_version\": \"1\"");
        if (inference->id && *inference->id) {
            buffer_append_string(json, ", \"id\": ");
            json_append_string(json, inference->id);
        }
        buffer_append_string(json, ", \"outputs\": [");
        for (int i = 0; i < inference->output_count; i++) {
            buffer_append_string(json, i ? ", " : "");
            if (!write_output(&inference->outputs[i], model, json, binary, error))
                return false;
        }
        buffer_append_string(json, "]}");
    }
    return (!json->failed && !binary->failed) ||
           error_set(error, ERROR_MEMORY, "not enough memory for the answer");
}
