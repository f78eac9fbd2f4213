/* Reading inference requests. Writing the answers: inference_write.c. */
#include "server/backend/protocol/inference_private.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/json.h"

static const struct {
    const char *name;
    enum dtype dtype;
} types[] = {
    {"BOOL", DTYPE_BOOL},  {"UINT8", DTYPE_U8}, {"UINT16", DTYPE_U16}, {"UINT32", DTYPE_U32},
    {"UINT64", DTYPE_U64}, {"INT8", DTYPE_I8},  {"INT16", DTYPE_I16},  {"INT32", DTYPE_I32},
    {"INT64", DTYPE_I64},  {"FP16", DTYPE_F16}, {"BF16", DTYPE_BF16},  {"FP32", DTYPE_F32},
    {"FP64", DTYPE_F64},
};

const char *inference_type_name(enum dtype dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype)
            return types[i].name;
    return NULL;
}

static enum dtype type_parse(const char *name) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name))
            return types[i].dtype;
    return DTYPE_UNKNOWN;
}

void inference_free(struct inference *inference) {
    if (!inference)
        return;

    for (int i = 0; i < INFERENCE_PORTS; i++) {
        free(inference->inputs[i].data);
        free(inference->outputs[i].tensor.data);
    }

    free(inference->decoded);
    free(inference->id);
    memory_charge_release(&inference->charge);
    free(inference);
}

bool inference_charge(struct inference *inference, size_t bytes, struct error *error) {
    return memory_charge_wait(&inference->charge, bytes, &inference->wait, error);
}

size_t inference_count_numbers(const char *text, size_t size) {
    size_t count = 1;
    for (size_t i = 0; i < size; i++)
        count += text[i] == ',' || text[i] == '[' || text[i] == ':';
    return count;
}

bool inference_tensor_allocate(struct inference *inference, struct tensor *tensor, struct error *error) {
    size_t bytes = tensor_bytes(tensor);
    if (!inference_charge(inference, bytes, error))
        return false;
    tensor->data = bytes ? aligned_alloc(64, size_align(bytes, 64)) : NULL;
    return tensor->data ||
           error_set(error, ERROR_MEMORY, "not enough memory for a tensor of %zu bytes", bytes);
}

bool inference_shape_fits(const struct shape *shape, const struct engine_port *port, struct error *error) {
    bool fits = shape->rank == port->shape.rank;
    for (int i = 0; fits && i < shape->rank; i++)
        fits = port->shape.dims[i] < 0 || port->shape.dims[i] == shape->dims[i];
    char wanted[SHAPE_TEXT], given[SHAPE_TEXT];

    return fits ||
           error_set(error, ERROR_INVALID, "input \"%.100s\": the shape is %s, but the model takes %s",
                     port->name, shape_format(shape, given, sizeof given),
                     shape_format(&port->shape, wanted, sizeof wanted));
}

const struct numbers_span *inference_span(const struct reading *reading, const json_t *value) {
    const json_t *index =
        json_is_array(value) && json_array_size(value) == 1 ? json_array_get(value, 0) : NULL;
    json_int_t span = json_is_integer(index) ? json_integer_value(index) : -1;
    return span >= 0 && span < reading->span_count ? &reading->spans[span] : NULL;
}

/* ---- Photos ---- */

bool inference_photo_input(struct reading *reading, int port) {
    struct inference *inference = reading->inference;
    const struct engine_port *input = engine_input(reading->engine, port);
    if (engine_input_count(reading->engine) != 1 || input->shape.rank != 4)
        return error_set(reading->error, ERROR_INVALID, "this model's input \"%.100s\" is not a photo",
                         input->name);

    inference->photo_input = port;
    reading->filled[port] = true;
    return true;
}

static bool photo_add(struct reading *reading, const char *bytes, size_t size) {
    struct inference *inference = reading->inference;
    if (inference->photo_count == INFERENCE_PHOTOS)
        return error_set(reading->error, ERROR_INVALID, "more than %d photos in one request",
                         INFERENCE_PHOTOS);
    inference->photos[inference->photo_count++] = (struct inference_photo){bytes, size};
    return true;
}

bool inference_photo_base64(struct reading *reading, const json_t *text, size_t room, size_t *used) {
    struct inference *inference = reading->inference;
    size_t size = 0;

    if (!json_is_string(text))
        return error_set(reading->error, ERROR_INVALID, "a photo in JSON must be a string in base64");
    if (!inference->decoded && !inference_charge(inference, room, reading->error))
        return false;
    if (!inference->decoded && !(inference->decoded = malloc(room)))
        return error_set(reading->error, ERROR_MEMORY, "not enough memory for photos");
    if (sodium_base642bin((unsigned char *)inference->decoded + *used, room - *used, json_string_value(text),
                          json_string_length(text), "\r\n", &size, NULL, sodium_base64_VARIANT_ORIGINAL))
        return error_set(reading->error, ERROR_INVALID, "a photo in JSON is not base64");

    const char *start = inference->decoded + *used;
    *used += size;
    return photo_add(reading, start, size);
}

/* Each with its length before it, 4 bytes little-endian. */
static bool photos_read_binary(struct reading *reading, const char *bytes, size_t size) {
    while (size) {
        uint32_t length;
        if (size < 4)
            return error_set(reading->error, ERROR_INVALID, "a photo's length is cut off");
        memcpy(&length, bytes, 4);
        length = le32toh(length);
        if (length > size - 4)
            return error_set(reading->error, ERROR_INVALID,
                             "a photo's length is beyond the end of its tensor");
        if (!photo_add(reading, bytes + 4, length))
            return false;
        bytes += 4 + length;
        size -= 4 + length;
    }
    return true;
}

/* Photos in an array, or in arrays nested as the shape says; `level`: the dimension. */
static bool photos_read_level(struct reading *reading, const json_t *data, const struct shape *shape,
                              int level, size_t room, size_t *used) {
    size_t index;
    const json_t *item;
    bool nested = json_is_array(json_array_get(data, 0));

    if (!json_is_array(data))
        return error_set(reading->error, ERROR_INVALID, "\"data\" must be an array of photos in base64");
    if ((nested || level > 0) &&
        (level >= shape->rank || (int64_t)json_array_size(data) != shape->dims[level] ||
         nested != (level < shape->rank - 1)))
        return error_set(reading->error, ERROR_INVALID, "the photos are not nested as their shape says");

    json_array_foreach(data, index, item) {
        if (!(nested ? photos_read_level(reading, item, shape, level + 1, room, used)
                     : inference_photo_base64(reading, item, room, used)))
            return false;
    }
    return true;
}

static bool photos_read_json(struct reading *reading, const json_t *data, const struct shape *shape,
                             size_t room) {
    size_t used = 0;
    return photos_read_level(reading, data, shape, 0, room, &used);
}

/* ---- Tensors ---- */

/* Take the next `wanted` bytes of the binary part. */
static const char *binary_take(struct reading *reading, const json_t *size, const char *name, size_t *ret) {
    json_int_t wanted = json_is_integer(size) ? json_integer_value(size) : -1;
    if (wanted < 0 || (uint64_t)wanted > reading->binary_size) {
        error_set(reading->error, ERROR_INVALID,
                  "input \"%.100s\": binary_data_size is beyond the end of the body", name);
        return NULL;
    }

    const char *bytes = reading->binary;
    reading->binary += wanted;
    reading->binary_size -= (size_t)wanted;
    *ret = (size_t)wanted;

    return bytes;
}

/* What an element type holds. Whole numbers beyond 2^53 are no longer exact as they are read here. */
struct number_range {
    double least, most;
    bool whole;
};

static struct number_range range_of(enum dtype dtype) {
    const double exact = 9007199254740992.0;
    switch (dtype) {
    case DTYPE_BOOL:
        return (struct number_range){0, 1, true};
    case DTYPE_U8:
        return (struct number_range){0, UINT8_MAX, true};
    case DTYPE_I8:
        return (struct number_range){INT8_MIN, INT8_MAX, true};
    case DTYPE_U16:
        return (struct number_range){0, UINT16_MAX, true};
    case DTYPE_I16:
        return (struct number_range){INT16_MIN, INT16_MAX, true};
    case DTYPE_U32:
        return (struct number_range){0, UINT32_MAX, true};
    case DTYPE_I32:
        return (struct number_range){INT32_MIN, INT32_MAX, true};
    case DTYPE_U64:
        return (struct number_range){0, exact, true};
    case DTYPE_I64:
        return (struct number_range){-exact, exact, true};
    case DTYPE_F16:
        return (struct number_range){-65504, 65504, false};
    case DTYPE_BF16:
        return (struct number_range){-0x1.fep127, 0x1.fep127, false};
    case DTYPE_F32:
        return (struct number_range){-FLT_MAX, FLT_MAX, false};
    default:
        return (struct number_range){-DBL_MAX, DBL_MAX, false};
    }
}

bool inference_check_values(const char *name, enum dtype dtype, const double *values, size_t count,
                            struct error *error) {
    const struct number_range range = range_of(dtype);
    for (size_t i = 0; i < count; i++) {
        double value = values[i];
        if (!(value >= range.least && value <= range.most))
            return error_set(error, ERROR_INVALID, "input \"%.100s\": %.17g is out of the range of %s%s",
                             name, value, inference_type_name(dtype),
                             dtype == DTYPE_I64 || dtype == DTYPE_U64 ? " in JSON (2^53): send it in binary"
                                                                      : "");
        if (range.whole && value != trunc(value))
            return error_set(error, ERROR_INVALID,
                             "input \"%.100s\": %.17g is not a whole number, but %s takes nothing else", name,
                             value, inference_type_name(dtype));
    }

    return true;
}

/* By way of float64, checked. *ret_count: the numbers; the tensor is filled where they are as many as its
 * elements. */
static bool numbers_read_as(struct inference *inference, const struct numbers_span *span,
                            struct tensor *tensor, const char *name, size_t *ret_count, struct error *error) {
    size_t elements = (size_t)shape_elements(&tensor->shape), bytes = elements * sizeof(double);
    struct memory_charge charge = {.purpose = MEMORY_TENSORS};
    int64_t dims[LIMIT_TENSOR_RANK];
    int rank;
    bool done = false;
    if (!memory_charge_wait(&charge, bytes, &inference->wait, error))
        return false;

    double *values = calloc(elements, sizeof *values);
    if (!values)
        error_set(error, ERROR_MEMORY, "not enough memory for a tensor");
    else if (!numbers_read_f64(span, values, elements, ret_count, dims, &rank, error))
        error_prefix(error, "input \"%.100s\"", name);
    else
        done =
            *ret_count != elements || inference_check_values(name, tensor->dtype, values, *ret_count, error);

    if (done && *ret_count == elements)
        elements_convert(DTYPE_F64, values, tensor->dtype, tensor->data, (int64_t)elements);
    free(values);
    memory_charge_release(&charge);
    return done;
}

/* A span's numbers into the memory of a tensor whose shape is known. */
static bool tensor_read_numbers(struct inference *inference, const struct numbers_span *span,
                                struct tensor *tensor, const char *name, struct error *error) {
    size_t count = 0, elements = (size_t)shape_elements(&tensor->shape);
    if (elements > inference_count_numbers(span->text, span->size))
        return error_set(error, ERROR_INVALID, "input \"%.100s\" has fewer values than its shape says", name);
    if (!inference_tensor_allocate(inference, tensor, error))
        return false;

    if (tensor->dtype == DTYPE_F32) {
        int64_t dims[LIMIT_TENSOR_RANK];
        int rank;
        if (!numbers_read_f32(span, tensor->data, elements, &count, dims, &rank, error))
            return error_prefix(error, "input \"%.100s\"", name);
    } else if (!numbers_read_as(inference, span, tensor, name, &count, error)) {
        return false;
    }

    return count == elements ||
           error_set(error, ERROR_INVALID, "input \"%.100s\" has %zu values, but its shape needs %zu", name,
                     count, elements);
}

static bool shape_read(const json_t *json, const char *name, struct shape *ret, struct error *error) {
    struct shape shape = {.rank = (int)json_array_size(json)};
    bool good = json_is_array(json) && json_array_size(json) <= LIMIT_TENSOR_RANK;
    for (int i = 0; good && i < shape.rank; i++) {
        const json_t *dim = json_array_get(json, (size_t)i);
        shape.dims[i] = json_integer_value(dim);
        good = json_is_integer(dim) && shape.dims[i] > 0 && shape.dims[i] <= LIMIT_TENSOR_ELEMENTS;
    }

    if (!good || shape_elements(&shape) < 1)
        return error_set(error, ERROR_INVALID,
                         "input \"%.100s\": \"shape\" is not an array of positive numbers", name);

    *ret = shape;
    return true;
}

static bool photos_read(struct reading *reading, int port, const json_t *input, const json_t *size,
                        size_t room) {
    const char *name = engine_input(reading->engine, port)->name;
    struct shape shape;
    size_t bytes_size = 0;

    if (!inference_photo_input(reading, port) ||
        !shape_read(json_object_get(input, "shape"), name, &shape, reading->error))
        return false;

    if (size) {
        const char *bytes = binary_take(reading, size, name, &bytes_size);
        if (!bytes || !photos_read_binary(reading, bytes, bytes_size))
            return false;
    } else if (!photos_read_json(reading, json_object_get(input, "data"), &shape, room)) {
        return false;
    }

    return shape_elements(&shape) == reading->inference->photo_count ||
           error_set(reading->error, ERROR_INVALID, "input \"%.100s\" has %d photos, but its shape says %lld",
                     name, reading->inference->photo_count, (long long)shape_elements(&shape));
}

int inference_port_find(const struct engine *engine, const char *name, bool input) {
    int count = input ? engine_input_count(engine) : engine_output_count(engine);
    for (int i = 0; i < count && i < INFERENCE_PORTS; i++)
        if (!strcmp((input ? engine_input(engine, i) : engine_output(engine, i))->name, name))
            return i;
    return -1;
}

static bool input_read(struct reading *reading, const json_t *input, size_t room) {
    struct error *error = reading->error;
    const char *name = json_string_value(json_object_get(input, "name"));
    const char *type = json_string_value(json_object_get(input, "datatype"));
    if (!name || !type)
        return error_set(error, ERROR_INVALID, "every input needs a \"name\" and a \"datatype\"");

    int port = inference_port_find(reading->engine, name, true);
    if (port < 0)
        return error_set(error, ERROR_INVALID, "the model has no input \"%.100s\"; its first is \"%.100s\"",
                         name, engine_input(reading->engine, 0)->name);
    if (reading->filled[port])
        return error_set(error, ERROR_INVALID, "input \"%.100s\" is given twice", name);

    const json_t *size = json_object_get(json_object_get(input, "parameters"), "binary_data_size");
    if (!strcmp(type, "BYTES"))
        return photos_read(reading, port, input, size, room);

    const struct engine_port *wanted = engine_input(reading->engine, port);
    struct tensor *tensor = &reading->inference->inputs[port];
    tensor->dtype = type_parse(type);
    if (tensor->dtype != wanted->dtype || !dtype_size(tensor->dtype))
        return error_set(error, ERROR_INVALID,
                         "input \"%.100s\": the datatype is %.20s, but the model takes %s", name, type,
                         inference_type_name(wanted->dtype));
    if (!shape_read(json_object_get(input, "shape"), name, &tensor->shape, error) ||
        !inference_shape_fits(&tensor->shape, wanted, error))
        return false;

    reading->filled[port] = true;
    if (size) {
        size_t given = 0;
        const char *bytes = binary_take(reading, size, name, &given);
        if (!bytes)
            return false;
        if (given != tensor_bytes(tensor))
            return error_set(error, ERROR_INVALID, "input \"%.100s\" has %zu bytes, but its shape needs %zu",
                             name, given, tensor_bytes(tensor));
        if (!inference_tensor_allocate(reading->inference, tensor, error))
            return false;
        memcpy(tensor->data, bytes, given);
        return true;
    }

    const struct numbers_span *span = inference_span(reading, json_object_get(input, "data"));
    if (!span)
        return error_set(error, ERROR_INVALID,
                         "input \"%.100s\" has no \"data\": an array of numbers is needed", name);

    return tensor_read_numbers(reading->inference, span, tensor, name, error);
}

/* ---- Outputs ---- */

static bool output_read(struct reading *reading, const json_t *output, bool binary) {
    struct inference *inference = reading->inference;
    const char *name = json_string_value(json_object_get(output, "name"));
    const json_t *parameters = json_object_get(output, "parameters");
    const json_t *wants_binary = json_object_get(parameters, "binary_data");
    const json_t *classes = json_object_get(parameters, "classification");
    int port = name ? inference_port_find(reading->engine, name, false) : -1;
    if (port < 0)
        return error_set(reading->error, ERROR_INVALID,
                         "the model has no output \"%.100s\"; its first is \"%.100s\"", name ? name : "",
                         engine_output(reading->engine, 0)->name);

    for (int i = 0; i < inference->output_count; i++)
        if (inference->outputs[i].port == port)
            return error_set(reading->error, ERROR_INVALID, "output \"%.100s\" is asked for twice", name);

    if (inference->output_count == INFERENCE_PORTS)
        return error_set(reading->error, ERROR_INVALID, "more than %d outputs are asked for",
                         INFERENCE_PORTS);
    if (wants_binary && !json_is_boolean(wants_binary))
        return error_set(reading->error, ERROR_INVALID,
                         "output \"%.100s\": \"binary_data\" is not true or false", name);
    if (classes && (!json_is_integer(classes) || json_integer_value(classes) < 1 ||
                    json_integer_value(classes) > LIMIT_CLASSES))
        return error_set(reading->error, ERROR_INVALID,
                         "output \"%.100s\": \"classification\" is not a number of classes", name);

    inference->outputs[inference->output_count++] =
        (struct inference_output){.port = port,
                                  .binary = wants_binary ? json_is_true(wants_binary) : binary,
                                  .classes = (int)json_integer_value(classes)};

    return true;
}

static bool outputs_read(struct reading *reading, const json_t *request) {
    bool binary = json_is_true(json_object_get(json_object_get(request, "parameters"), "binary_data_output"));
    const json_t *outputs = json_object_get(request, "outputs"), *output;
    size_t index;

    if (outputs && !json_is_array(outputs))
        return error_set(reading->error, ERROR_INVALID, "\"outputs\" must be an array");

    json_array_foreach(outputs, index, output) if (!output_read(reading, output, binary)) return false;
    struct inference *inference = reading->inference;
    int count = engine_output_count(reading->engine);

    if (!inference->output_count)
        for (int i = 0; i < count && i < INFERENCE_PORTS; i++)
            inference->outputs[inference->output_count++] =
                (struct inference_output){.port = i, .binary = binary};

    return true;
}

/* ---- Parameters of the request ---- */

static bool parameter_read_count(const json_t *parameters, const char *name, json_int_t *ret,
                                 struct error *error) {
    const json_t *value = json_object_get(parameters, name);
    *ret = json_integer_value(value);
    return !value || (json_is_integer(value) && *ret >= 0) ||
           error_set(error, ERROR_INVALID, "parameter \"%s\" is not a whole number from 0 on", name);
}

/* Those that would change the answer or its time are heeded or refused; what other servers know may stand
 * there, too. */
static bool parameters_read(struct reading *reading, const json_t *request) {
    static const char *const sequences[] = {"sequence_id", "sequence_start", "sequence_end"};
    const json_t *parameters = json_object_get(request, "parameters");
    const json_t *binary = json_object_get(parameters, "binary_data_output");
    struct error *error = reading->error;
    json_int_t timeout = 0, priority = 0;

    if (parameters && !json_is_object(parameters))
        return error_set(error, ERROR_INVALID, "\"parameters\" must be an object");
    if (binary && !json_is_boolean(binary))
        return error_set(error, ERROR_INVALID, "parameter \"binary_data_output\" is not true or false");
    if (!parameter_read_count(parameters, "timeout", &timeout, error) ||
        !parameter_read_count(parameters, "priority", &priority, error))
        return false;
    if (priority > 0)
        return error_set(error, ERROR_INVALID,
                         "parameter \"priority\": all requests have the same here: leave it out, or 0");

    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        const json_t *value = json_object_get(parameters, sequences[i]);
        bool is_default = json_is_false(value) ||
                          (json_is_integer(value) && json_integer_value(value) == 0) ||
                          (json_is_string(value) && json_string_length(value) == 0);
        if (value && !is_default)
            return error_set(error, ERROR_INVALID,
                             "parameter \"%s\": models keep nothing from one request to the next",
                             sequences[i]);
    }

    reading->inference->timeout_us = timeout;
    return true;
}

/* A string, given back as it came. */
static bool id_read(struct reading *reading, const json_t *id) {
    if (!id || json_is_null(id))
        return true;
    if (!json_is_string(id))
        return error_set(reading->error, ERROR_INVALID, "\"id\" is not a string");

    if (!inference_charge(reading->inference, json_string_length(id), reading->error))
        return false;
    reading->inference->id = strdup(json_string_value(id));
    return reading->inference->id ||
           error_set(reading->error, ERROR_MEMORY, "not enough memory for a request");
}

static bool request_read(struct reading *reading, const json_t *request, size_t room) {
    const json_t *inputs = json_object_get(request, "inputs"), *input;
    size_t index;

    if (!json_is_array(inputs) || !json_array_size(inputs))
        return error_set(reading->error, ERROR_INVALID, "the request has no \"inputs\"");
    if (!id_read(reading, json_object_get(request, "id")) || !parameters_read(reading, request))
        return false;

    json_array_foreach(inputs, index, input) if (!input_read(reading, input, room)) return false;
    for (int i = 0; i < reading->inference->input_count; i++)
        if (!reading->filled[i])
            return error_set(reading->error, ERROR_INVALID, "input \"%.100s\" is missing",
                             engine_input(reading->engine, i)->name);

    if (reading->binary_size)
        return error_set(reading->error, ERROR_INVALID, "%zu bytes are left over after the binary tensors",
                         reading->binary_size);

    return outputs_read(reading, request);
}

struct inference *inference_create(const struct engine *engine, const struct memory_wait *wait,
                                   struct error *error) {
    struct inference *inference = calloc(1, sizeof *inference);
    if (!inference || engine_input_count(engine) > INFERENCE_PORTS) {
        free(inference);
        error_set(error, ERROR_MEMORY, "not enough memory for a request, or a model with more than %d inputs",
                  INFERENCE_PORTS);
        return NULL;
    }

    inference->input_count = engine_input_count(engine);
    inference->photo_input = -1;
    inference->charge.purpose = MEMORY_TENSORS;
    if (wait)
        inference->wait = *wait;
    return inference;
}

struct inference *inference_parse(const struct model *model, const char *body, size_t size, size_t json_size,
                                  const struct memory_wait *wait, struct error *error) {
    struct reading reading = {.engine = model_engine(model),
                              .binary = body + json_size,
                              .binary_size = size - json_size,
                              .error = error};
    struct buffer rest = {0};
    struct memory_charge text = {.purpose = MEMORY_JSON}, tree = {0};
    json_t *request = NULL;
    bool good = false;
    reading.inference = inference_create(reading.engine, wait, error);
    if (reading.inference && memory_charge_wait(&text, json_size, &reading.inference->wait, error) &&
        numbers_extract(body, json_size, "data", &rest, reading.spans, &reading.span_count, error)) {
        memory_charge_set(&text, rest.capacity);
        request = json_parse(rest.size ? rest.bytes : "", rest.size, wait, &tree, error);
    }

    if (request)
        good = request_read(&reading, request, json_size + 1);
    json_release(request, &tree);
    buffer_release(&rest);
    memory_charge_release(&text);
    if (good)
        return reading.inference;

    inference_free(reading.inference);
    return NULL;
}
