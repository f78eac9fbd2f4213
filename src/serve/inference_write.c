/* Inference requests beyond their reading: photos decoded, the model run, answers written. */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "serve/inference_private.h"

/* ---- Photos to tensors ---- */

/* One photo into its place in the batch, which is made with the first: all must come out in one size. */
static bool photo_decode(struct inference *inference, const struct model *model, int index, float **batch,
                         struct timing *timing, struct error *error) {
    const struct image_recipe *recipe = model_recipe(model);
    struct tensor *input = &inference->inputs[inference->photo_input];
    struct image image;
    int width = 0, height = 0;
    double start = clock_ms();
    if (!image_decode((const uint8_t *)inference->photos[index].bytes, inference->photos[index].size, &image,
                      error))
        return error_prefix(error, "photo %d", index);
    double decoded = clock_ms();
    bool good =
        image_recipe_size(recipe, image.width, image.height, &width, &height) ||
        error_set(error, ERROR_INVALID, "a photo of %dx%d is too long a strip", image.width, image.height);
    if (good && !index) {
        size_t bytes = 0;
        input->shape = (struct shape){.rank = 4, .dims = {inference->photo_count, 3, height, width}};
        if (size_multiply((size_t)width * (size_t)height * 3 * sizeof(float), (size_t)inference->photo_count,
                          &bytes))
            *batch = aligned_alloc(64, size_align(bytes, 64));
    }
    if (good && !*batch)
        good = error_set(error, ERROR_MEMORY, "no memory for %d photos", inference->photo_count);
    if (good && (input->shape.dims[2] != height || input->shape.dims[3] != width))
        good =
            error_set(error, ERROR_INVALID, "photo %d: the photos of one request must have one size", index);
    good = good && image_preprocess(&image, recipe,
                                    *batch + (size_t)index * 3 * (size_t)width * (size_t)height, error);
    image_release(&image);
    timing->decode += decoded - start;
    timing->preprocess += clock_ms() - decoded;
    return good;
}

/* [n, 3, h, w] float32 into the layout and type of the engine's input. */
static bool input_finish(struct inference *inference, const struct engine_port *port, float *batch,
                         struct error *error) {
    struct tensor *input = &inference->inputs[inference->photo_input];
    const int64_t *dims = input->shape.dims;
    int64_t n = dims[0], pixels = dims[2] * dims[3];
    bool channels_last = port->shape.dims[3] == 3 && port->shape.dims[1] != 3;
    float *turned = NULL;
    if (channels_last) {
        turned = malloc((size_t)(n * pixels) * 3 * sizeof *turned);
        for (int64_t i = 0; turned && i < n * pixels; i++)
            for (int64_t c = 0; c < 3; c++)
                turned[i * 3 + c] = batch[(i / pixels * 3 + c) * pixels + i % pixels];
        input->shape = (struct shape){.rank = 4, .dims = {n, dims[2], dims[3], 3}};
    }
    input->dtype = port->dtype;
    if (port->dtype == DTYPE_F32 && !channels_last) {
        input->data = batch;
        return true;
    }
    size_t bytes = tensor_bytes(input);
    input->data = bytes && (turned || !channels_last) ? aligned_alloc(64, size_align(bytes, 64)) : NULL;
    if (input->data)
        elements_convert(DTYPE_F32, turned ? turned : batch, port->dtype, input->data, n * pixels * 3);
    free(turned);
    free(batch);
    return input->data || error_set(error, ERROR_MEMORY, "no memory for the photos");
}

bool inference_decode(struct inference *inference, const struct model *model, struct timing *timing,
                      struct error *error) {
    if (inference->photo_input < 0)
        return true;
    float *batch = NULL;
    for (int i = 0; i < inference->photo_count; i++) {
        if (!photo_decode(inference, model, i, &batch, timing, error)) {
            free(batch);
            return false;
        }
    }
    const struct engine_port *port = engine_input(model_engine(model), inference->photo_input);
    if (!batch)
        return error_set(error, ERROR_INVALID, "there is no photo in the request");
    if (!input_finish(inference, port, batch, error))
        return false;
    int64_t fixed = port->shape.dims[0];
    return fixed < 0 || fixed == inference->photo_count ||
           error_set(error, ERROR_INVALID, "this model takes %lld photos at a time", (long long)fixed);
}

/* ---- Running ---- */

bool inference_run(struct inference *inference, struct engine *engine, struct engine_context *context,
                   struct error *error) {
    struct tensor all[INFERENCE_PORTS];
    int count = engine_output_count(engine);
    if (count > INFERENCE_PORTS)
        return error_set(error, ERROR_INTERNAL, "a model with more than %d outputs", INFERENCE_PORTS);
    if (!engine_run(context, inference->inputs, inference->input_count, all, count, error))
        return false;
    for (int i = 0; i < inference->output_count; i++) {
        struct inference_output *output = &inference->outputs[i];
        size_t bytes = tensor_bytes(&all[output->port]);
        output->tensor = all[output->port];
        output->tensor.data = aligned_alloc(64, size_align(bytes ? bytes : 1, 64));
        if (!output->tensor.data)
            return error_set(error, ERROR_MEMORY, "no memory for an output of %zu bytes", bytes);
        memcpy(output->tensor.data, all[output->port].data, bytes);
    }
    return true;
}

/* ---- Writing ---- */

void inference_write_value(struct buffer *json, const struct tensor *tensor, int64_t index) {
    if (tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_F64 || dtype_is_float(tensor->dtype)) {
        double value = tensor_get_f64(tensor, index);
        /* JSON has no infinities and no NaN. */
        buffer_printf(json, isfinite(value) ? "%.*g" : "null", tensor->dtype == DTYPE_F64 ? 17 : 9, value);
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

/* Indices of the best `top` of a row, equal ones in their order. */
static void find_best(const struct tensor *tensor, int64_t row, int64_t classes, int top, int *best) {
    int kept = 0;
    for (int64_t i = 0; i < classes; i++) {
        double value = tensor_get_f64(tensor, row * classes + i);
        int place = kept < top ? kept++ : top;
        while (place > 0 && tensor_get_f64(tensor, row * classes + best[place - 1]) < value) {
            if (place < top)
                best[place] = best[place - 1];
            place--;
        }
        if (place < top)
            best[place] = (int)i;
    }
}

/* "value:index:label", the best classes of every row. */
static bool write_classes(const struct inference_output *output, const struct model *model,
                          struct buffer *json, struct buffer *binary, struct error *error) {
    const struct tensor *tensor = &output->tensor;
    int64_t elements = shape_elements(&tensor->shape),
            rows = tensor->shape.rank > 1 ? tensor->shape.dims[0] : 1;
    int64_t classes = rows > 0 ? elements / rows : 0;
    int top = output->classes < classes ? output->classes : (int)classes;
    int *best = top > 0 ? calloc((size_t)top, sizeof *best) : NULL;
    if (!best)
        return error_set(error, ERROR_INVALID, "an output without values has no classes");
    buffer_printf(json, "\"datatype\": \"BYTES\", \"shape\": [%lld, %d], ", (long long)rows, top);
    if (!output->binary)
        buffer_append_string(json, "\"data\": [");
    size_t before = binary->size;
    struct buffer text = {0};
    for (int64_t row = 0; row < rows; row++) {
        find_best(tensor, row, classes, top, best);
        for (int i = 0; i < top; i++) {
            const char *label = best[i] < model_class_count(model) ? model_label(model, best[i], "en") : "";
            text.size = 0;
            buffer_printf(&text, "%.9g:%d:%s", tensor_get_f64(tensor, row * classes + best[i]), best[i],
                          label);
            uint32_t length = htole32((uint32_t)text.size);
            if (output->binary) {
                buffer_append(binary, &length, sizeof length);
                buffer_append(binary, text.bytes, text.size);
            } else {
                buffer_append_string(json, row || i ? ", " : "");
                json_append_string(json, text.size ? text.bytes : "");
            }
        }
    }
    buffer_release(&text);
    free(best);
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

bool inference_write(const struct inference *inference, const struct model *model, const char *name,
                     struct buffer *json, struct buffer *binary, struct error *error) {
    if (inference->tensorflow) {
        if (!inference_tensorflow_write(inference, model_engine(model), json, error))
            return false;
    } else {
        buffer_append_string(json, "{\"model_name\": ");
        json_append_string(json, name);
        buffer_append_string(json, ", \"model_version\": \"1\"");
        if (*inference->id) {
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
    return (!json->failed && !binary->failed) || error_set(error, ERROR_MEMORY, "no memory for the answer");
}
