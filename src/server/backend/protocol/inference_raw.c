/* Requests without JSON: a body of nothing but elements, or one photo. */
#include <string.h>

#include "server/backend/protocol/inference_private.h"

/* The model's shape, with its free dimension as long as the body makes it. */
static bool shape_of_body(const struct engine_port *port, size_t size, struct shape *ret,
                          struct error *error) {
    struct shape shape = port->shape;
    char text[SHAPE_TEXT];
    int free_axis = -1, count = 0;
    for (int d = 0; d < shape.rank; d++) {
        if (shape.dims[d] >= 0)
            continue;
        free_axis = d;
        count++;
    }

    if (shape.rank < 0 || count > 1)
        return error_set(
            error, ERROR_INVALID,
            "input \"%.100s\" has the shape %s: a request without JSON needs one with at most one "
            "free dimension",
            port->name, shape_format(&port->shape, text, sizeof text));

    if (free_axis >= 0)
        shape.dims[free_axis] = 1;
    struct tensor one = {port->dtype, shape, NULL};
    size_t bytes = tensor_bytes(&one);
    if (free_axis >= 0 && bytes && size / bytes <= LIMIT_TENSOR_ELEMENTS)
        shape.dims[free_axis] = (int64_t)(size / bytes);

    one.shape = shape;
    if (!size || tensor_bytes(&one) != size)
        return error_set(error, ERROR_INVALID,
                         "the body has %zu bytes, which input \"%.100s\" of shape %s cannot "
                         "have",
                         size, port->name, shape_format(&port->shape, text, sizeof text));
    *ret = shape;
    return true;
}

static bool read_body(struct inference *inference, const struct engine *engine, const char *body, size_t size,
                      struct error *error) {
    const struct engine_port *port = engine_input(engine, 0);
    struct tensor *input = &inference->inputs[0];
    if (engine_input_count(engine) != 1)
        return error_set(error, ERROR_INVALID,
                         "the model has %d inputs: a request without JSON can only give one",
                         engine_input_count(engine));
    if (!dtype_size(port->dtype))
        return error_set(error, ERROR_INVALID, "input \"%.100s\" is of type %s", port->name,
                         dtype_name(port->dtype));

    input->dtype = port->dtype;
    if (!shape_of_body(port, size, &input->shape, error) ||
        !inference_tensor_allocate(inference, input, error))
        return false;
    memcpy(input->data, body, size);

    for (int i = 0; i < engine_output_count(engine) && i < INFERENCE_PORTS; i++)
        inference->outputs[inference->output_count++] = (struct inference_output){.port = i, .binary = true};
    return true;
}

struct inference *inference_parse_raw(const struct model *model, const char *body, size_t size,
                                      const struct memory_wait *wait, struct error *error) {
    const struct engine *engine = model_engine(model);
    struct inference *inference = inference_create(engine, wait, error);
    if (inference && read_body(inference, engine, body, size, error))
        return inference;
    inference_free(inference);
    return NULL;
}
