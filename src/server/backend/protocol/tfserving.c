/* TensorFlow Serving's predict: {"instances": …}, a value for each instance (rows), or {"inputs": …}, a whole
 * tensor for each input (columns); each bare where the model has one input, or named. Photos are {"b64":
 * "…"}. */
#include <stdlib.h>
#include <string.h>

#include "server/backend/protocol/inference_private.h"

#define SIGNATURE "serving_default"

/* An input while its values come, instance by instance. */
struct gathering {
    double *values; /* room for as many numbers as the request's text has */
    size_t count;
    struct shape shape; /* of the whole in columns, of one instance in rows */
    int instances;
};

struct tensorflow {
    struct reading reading;
    struct gathering inputs[INFERENCE_PORTS];
    size_t text_size;
    size_t number_count;         /* at most, in the text */
    struct memory_charge charge; /* of the inputs' values */
    size_t decoded;              /* bytes of photos so far */
    bool rows;
};

static const char *input_name(const struct tensorflow *request, int port) {
    return engine_input(request->reading.engine, port)->name;
}

/* ---- Values ---- */

static bool shape_same(const struct shape *a, const struct shape *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

/* An array of numbers, or (span NULL) a single one, for an input. */
static bool numbers_add(struct tensorflow *request, int port, const struct numbers_span *span,
                        const json_t *number) {
    struct gathering *input = &request->inputs[port];
    struct error *error = request->reading.error;
    size_t capacity = request->number_count, count = 1;
    struct shape shape = {0};

    /* Each number is of one input: the memory that is touched is as much for all of them as for one. */
    if (!request->charge.bytes && !memory_charge_wait(&request->charge, capacity * sizeof *input->values,
                                                      &request->reading.inference->wait, error))
        return false;
    if (!input->values && !(input->values = malloc(capacity * sizeof *input->values)))
        return error_set(error, ERROR_MEMORY, "not enough memory for a tensor");

    double *place = input->values + input->count;
    if (span &&
        !numbers_read_f64(span, place, capacity - input->count, &count, shape.dims, &shape.rank, error))
        return error_prefix(error, "input \"%.100s\"", input_name(request, port));

    if (!span)
        *place = json_number_value(number);
    if (input->instances > 0 && !shape_same(&shape, &input->shape))
        return error_set(error, ERROR_INVALID, "input \"%.100s\": the instances have different shapes",
                         input_name(request, port));

    input->shape = shape;
    input->count += count;
    input->instances++;

    return true;
}

static bool photo_add(struct tensorflow *request, int port, const json_t *text) {
    struct reading *reading = &request->reading;
    if (request->inputs[port].values)
        return error_set(reading->error, ERROR_INVALID, "photos and numbers are mixed in one request");
    request->inputs[port].instances++;
    return inference_photo_input(reading, port) &&
           inference_photo_base64(reading, text, request->text_size + 1, &request->decoded);
}

static const json_t *base64_of(const json_t *value) {
    return json_is_object(value) && json_object_size(value) == 1 ? json_object_get(value, "b64") : NULL;
}

/* What stands for one input: in rows an instance's part of it, in columns all. */
static bool value_add(struct tensorflow *request, int port, const json_t *value) {
    const struct numbers_span *span = inference_span(&request->reading, value);
    struct error *error = request->reading.error;
    size_t index;
    const json_t *item;

    if (span || json_is_number(value))
        return request->reading.inference->photo_count > 0
                   ? error_set(error, ERROR_INVALID, "photos and numbers are mixed in one request")
                   : numbers_add(request, port, span, value);
    if (base64_of(value))
        return photo_add(request, port, base64_of(value));

    bool good = !request->rows && json_is_array(value) && json_array_size(value) > 0;
    json_array_foreach(value, index, item) good =
        good && base64_of(item) && photo_add(request, port, base64_of(item));

    return good || error->code ||
           error_set(error, ERROR_INVALID, "input \"%.100s\" takes numbers in nested arrays%s",
                     input_name(request, port),
                     engine_input_count(request->reading.engine) == 1
                         ? ", or {\"b64\": \"…\"}, a photo in base64"
                         : "");
}

/* {"NAME": value, …}: every input, once. A model's one photo may go by any name, as clients are used to. */
static bool named_add(struct tensorflow *request, json_t *object) {
    struct reading *reading = &request->reading;
    int count = engine_input_count(reading->engine);
    const char *name;
    json_t *value;

    if (json_object_size(object) != (size_t)count && count > 1)
        return error_set(reading->error, ERROR_INVALID, "the model has %d inputs, but %zu were given", count,
                         json_object_size(object));

    json_object_foreach(object, name, value) {
        int port = inference_port_find(reading->engine, name, true);
        if (port < 0 && count == 1 && (base64_of(value) || base64_of(json_array_get(value, 0))))
            port = 0;
        if (port < 0)
            return error_set(reading->error, ERROR_INVALID,
                             "the model has no input \"%.100s\"; its first is \"%.100s\"", name,
                             input_name(request, 0));
        if (!value_add(request, port, value))
            return false;
    }

    return true;
}

static bool bare_add(struct tensorflow *request, const json_t *value) {
    if (engine_input_count(request->reading.engine) != 1)
        return error_set(request->reading.error, ERROR_INVALID,
                         "this model has several inputs: name each; the first is \"%.100s\"",
                         input_name(request, 0));
    return value_add(request, 0, value);
}

static bool entry_add(struct tensorflow *request, json_t *value) {
    return json_is_object(value) && !base64_of(value) ? named_add(request, value) : bare_add(request, value);
}

/* ---- The request ---- */

/* One of several instances: an object with names, or a photo. (Bare numbers are one array with all of them.)
 */
static bool instance_add(struct tensorflow *request, json_t *instance) {
    return json_is_object(instance) ? entry_add(request, instance)
                                    : error_set(request->reading.error, ERROR_INVALID,
                                                "the instances are neither numbers in nested arrays, nor "
                                                "objects: {\"b64\": \"…\"} for a "
                                                "photo, {\"%.60s\": …} else",
                                                input_name(request, 0));
}

/* Numbers in nested arrays are the whole tensor, in rows, too. */
static bool rows_read(struct tensorflow *request, json_t *instances) {
    struct error *error = request->reading.error;
    size_t index;
    json_t *instance;

    if (inference_span(&request->reading, instances)) {
        request->rows = false;
        return bare_add(request, instances);
    }
    if (!json_is_array(instances) || json_array_size(instances) == 0)
        return error_set(error, ERROR_INVALID, "\"instances\" must be an array that is not empty");

    json_array_foreach(instances, index, instance) {
        if (!instance_add(request, instance))
            return error_prefix(error, "instance %zu", index);
    }

    return true;
}

/* The numbers of an input into its tensor. */
static bool gathering_finish(struct tensorflow *request, int port, int instances) {
    struct gathering *input = &request->inputs[port];
    struct reading *reading = &request->reading;
    const struct engine_port *wanted = engine_input(reading->engine, port);
    struct tensor *tensor = &reading->inference->inputs[port];

    if (reading->inference->photo_input == port)
        return true;
    if (input->instances != instances)
        return error_set(reading->error, ERROR_INVALID, "input \"%.100s\" is missing", wanted->name);

    struct shape shape = input->shape;
    if (request->rows) {
        if (shape.rank == LIMIT_TENSOR_RANK)
            return error_set(reading->error, ERROR_INVALID, "input \"%.100s\" is nested too deeply",
                             wanted->name);
        memmove(shape.dims + 1, shape.dims, (size_t)shape.rank * sizeof shape.dims[0]);
        shape.dims[0] = instances;
        shape.rank++;
    }

    tensor->dtype = wanted->dtype;
    tensor->shape = shape;
    if (!inference_shape_fits(&shape, wanted, reading->error) ||
        !inference_tensor_allocate(reading->inference, tensor, reading->error))
        return false;
    if (!inference_check_values(wanted->name, tensor->dtype, input->values, input->count, reading->error))
        return false;

    elements_convert(DTYPE_F64, input->values, tensor->dtype, tensor->data, (int64_t)input->count);
    return true;
}

static bool signature_known(const json_t *json, struct error *error) {
    const json_t *signature = json_object_get(json, "signature_name");
    const char *name = json_string_value(signature);
    return !signature || (name && (!*name || strcmp(name, SIGNATURE) == 0)) ||
           error_set(error, ERROR_INVALID, "there is no signature \"%.100s\"; there is: " SIGNATURE,
                     name ? name : "");
}

static bool request_read(struct tensorflow *request, const json_t *json) {
    struct error *error = request->reading.error;
    json_t *rows = json_object_get(json, "instances"), *columns = json_object_get(json, "inputs");
    request->rows = rows != NULL;
    request->reading.inference->row_format = rows != NULL;
    if (!rows == !columns)
        return error_set(error, ERROR_INVALID,
                         rows ? "both \"instances\" and \"inputs\" are in the request"
                              : "there are no \"instances\" (or \"inputs\") in the request");
    if (!signature_known(json, error) || !(rows ? rows_read(request, rows) : entry_add(request, columns)))
        return false;

    int instances = request->rows ? (int)json_array_size(rows) : 1;
    for (int i = 0; i < request->reading.inference->input_count; i++)
        if (!gathering_finish(request, i, instances))
            return false;

    return true;
}

struct inference *inference_parse_tensorflow(const struct model *model, const char *body, size_t size,
                                             const struct memory_wait *wait, struct error *error) {
    struct tensorflow request = {.reading = {.engine = model_engine(model), .error = error},
                                 .text_size = size,
                                 .number_count = inference_count_numbers(body, size),
                                 .charge = {.purpose = MEMORY_TENSORS}};
    struct reading *reading = &request.reading;
    struct buffer rest = {0};
    struct memory_charge text = {.purpose = MEMORY_JSON}, tree = {0};
    json_t *json = NULL;
    struct inference *inference = reading->inference = inference_create(reading->engine, wait, error);
    if (!inference)
        return NULL;

    error->code = ERROR_NONE;
    inference->tensorflow = true;
    for (int i = 0; i < engine_output_count(reading->engine) && i < INFERENCE_PORTS; i++)
        inference->outputs[inference->output_count++] = (struct inference_output){.port = i};

    bool good = memory_charge_wait(&text, size, &inference->wait, error) &&
                numbers_extract(body, size, NULL, &rest, reading->spans, &reading->span_count, error);
    if (good)
        memory_charge_set(&text, rest.capacity);
    good = good && (json = json_parse(rest.size ? rest.bytes : "", rest.size, wait, &tree, error)) &&
           request_read(&request, json);

    for (int i = 0; i < INFERENCE_PORTS; i++)
        free(request.inputs[i].values);
    memory_charge_release(&request.charge);
    json_release(json, &tree);
    buffer_release(&rest);
    memory_charge_release(&text);
    if (good)
        return inference;

    inference_free(inference);
    return NULL;
}

/* ---- The answer ---- */

/* The dimensions from `first` on, as nested arrays; `offset`: its first element. No recursion: a bracket
 * opens and closes where an index rolls over. */
static void nested_write(struct buffer *json, const struct tensor *tensor, int first, int64_t offset) {
    int64_t elements = 1;
    for (int d = first; d < tensor->shape.rank; d++)
        elements *= tensor->shape.dims[d];
    if (elements == 0)
        buffer_append_string(json, "[]");
    for (int64_t i = 0; i < elements; i++) {
        int64_t inner = 1;
        buffer_append_string(json, i ? ", " : "");
        for (int d = tensor->shape.rank - 1; d >= first && !(i % (inner *= tensor->shape.dims[d])); d--)
            buffer_append_string(json, "[");
        inference_write_value(json, tensor, offset + i);
        inner = 1;
        for (int d = tensor->shape.rank - 1; d >= first && !((i + 1) % (inner *= tensor->shape.dims[d])); d--)
            buffer_append_string(json, "]");
    }
}

static void name_write(struct buffer *json, const struct inference *inference, const struct engine *engine,
                       int output) {
    buffer_append_string(json, output ? ", " : "{");
    json_append_string(json, engine_output(engine, inference->outputs[output].port)->name);
    buffer_append_string(json, ": ");
}

static bool rows_write(const struct inference *inference, const struct engine *engine, struct buffer *json,
                       struct error *error) {
    const struct shape *first = &inference->outputs[0].tensor.shape;
    int64_t rows = first->rank > 0 ? first->dims[0] : -1;

    for (int i = 0; i < inference->output_count; i++)
        if (inference->outputs[i].tensor.shape.rank < 1 || inference->outputs[i].tensor.shape.dims[0] != rows)
            return error_set(error, ERROR_INVALID,
                             "the model's outputs are not one for each instance: ask with \"inputs\"");

    buffer_append_string(json, "{\"predictions\": [");
    for (int64_t row = 0; row < rows; row++) {
        buffer_append_string(json, row ? ", " : "");
        for (int i = 0; i < inference->output_count; i++) {
            const struct tensor *tensor = &inference->outputs[i].tensor;
            if (inference->output_count > 1)
                name_write(json, inference, engine, i);
            nested_write(json, tensor, 1, row * (shape_elements(&tensor->shape) / rows));
        }
        buffer_append_string(json, inference->output_count > 1 ? "}" : "");
    }

    buffer_append_string(json, "]}\n");
    return true;
}

bool inference_tensorflow_write(const struct inference *inference, const struct engine *engine,
                                struct buffer *json, struct error *error) {
    for (int i = 0; i < inference->output_count; i++)
        if (!inference_check_finite(engine_output(engine, inference->outputs[i].port)->name,
                                    &inference->outputs[i].tensor, error))
            return false;

    if (inference->row_format)
        return rows_write(inference, engine, json, error);

    buffer_append_string(json, "{\"outputs\": ");
    for (int i = 0; i < inference->output_count; i++) {
        if (inference->output_count > 1)
            name_write(json, inference, engine, i);
        nested_write(json, &inference->outputs[i].tensor, 0, 0);
    }

    buffer_append_string(json, inference->output_count > 1 ? "}}\n" : "}\n");
    return true;
}
