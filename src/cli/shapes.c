#include "cli/shapes.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/onnx.h"

enum { GUESSES = 48, LONGEST_GUESS = 1 << 16 };

bool cli_shape_parse(const char *text, struct shape *ret) {
    struct shape shape = {0};
    if (strcmp(text, "scalar") == 0) {
        *ret = shape;
        return true;
    }

    for (const char *at = text;; at++) {
        char *end;
        long long dim = strtoll(at, &end, 10);
        if (end == at || dim < 1 || shape.rank == LIMIT_TENSOR_RANK || (*end && *end != 'x'))
            return false;
        shape.dims[shape.rank++] = dim;
        at = end;
        if (!*end)
            break;
    }

    if (shape_elements(&shape) < 0)
        return false;
    *ret = shape;
    return true;
}

/* The input that a word of --shape is for; -1: there is none. *ret_dims: what follows the name. */
static int find_input(const struct engine *engine, const char *word, const char **ret_dims) {
    const char *equals = strrchr(word, '=');
    *ret_dims = equals ? equals + 1 : word;
    if (!equals)
        return engine_input_count(engine) == 1 ? 0 : -1;

    for (int i = 0; i < engine_input_count(engine); i++) {
        const char *name = engine_input(engine, i)->name;
        if (strlen(name) == (size_t)(equals - word) && strncmp(name, word, strlen(name)) == 0)
            return i;
    }
    return -1;
}

bool cli_shapes_check(const struct engine *engine, const struct option_list *shapes, struct error *error) {
    struct shape shape;
    const char *dims;

    for (int i = 0; i < shapes->count; i++) {
        const char *word = shapes->words[i];
        if (find_input(engine, word, &dims) < 0)
            return error_set(error, ERROR_INVALID,
                             "--shape %s: the network has no such input; 'inspect' names its %d, as in "
                             "--shape %s=1x3x224x224",
                             word, engine_input_count(engine), engine_input(engine, 0)->name);
        if (!cli_shape_parse(dims, &shape))
            return error_set(error, ERROR_INVALID, "--shape %s: '%s' is not a shape like 1x3x224x224", word,
                             dims);
    }
    return true;
}

bool cli_shape_given(const struct engine *engine, const struct option_list *shapes, int input,
                     struct shape *ret, bool *ret_given, struct error *error) {
    const char *dims;
    *ret_given = false;
    for (int i = 0; i < shapes->count && !*ret_given; i++)
        *ret_given = find_input(engine, shapes->words[i], &dims) == input;
    if (!*ret_given)
        return true;

    char is[SHAPE_TEXT], wants[SHAPE_TEXT];
    const struct engine_port *port = engine_input(engine, input);
    struct shape shape = {0};
    bool fits = cli_shape_parse(dims, &shape) && (port->shape.rank < 0 || port->shape.rank == shape.rank);
    for (int d = 0; fits && d < port->shape.rank; d++)
        fits = port->shape.dims[d] < 0 || port->shape.dims[d] == shape.dims[d];
    if (!fits)
        return error_set(error, ERROR_INVALID, "--shape: input '%s' is %s, and cannot be %s", port->name,
                         shape_format(&port->shape, wants, sizeof wants),
                         shape_format(&shape, is, sizeof is));

    *ret = shape;
    return true;
}

/* ---- Guesses ---- */

static void add_guess(int guesses[GUESSES], int *count, int64_t length) {
    if (length < 1 || length > LONGEST_GUESS || *count == GUESSES)
        return;
    for (int i = 0; i < *count; i++)
        if (guesses[i] == length)
            return;
    guesses[(*count)++] = (int)length;
}

/* Lengths worth a try, the likeliest first. */
static int list_guesses(const char *path, int guesses[GUESSES]) {
    static const int usual[] = {224, 16, 64, 128, 256, 512, 1024};
    int count = 0;
    struct error ignored;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        add_guess(guesses, &count, usual[i]);

    struct graph *graph = onnx_graph_read(path, &ignored);
    for (int i = 0; graph && i < graph->value_count; i++) {
        const struct tensor *constant = graph->values[i] ? graph->values[i]->constant : NULL;
        for (int d = 0; constant && count < GUESSES - 2 && d < constant->shape.rank; d++)
            add_guess(guesses, &count, constant->shape.dims[d]);
    }
    graph_free(graph);

    add_guess(guesses, &count, 16000); /* a second of sound */
    add_guess(guesses, &count, 1);
    return count;
}

/* Repeatable noise around zero, in any numeric type. */
static void fill_noise(enum dtype dtype, void *data, int64_t count) {
    uint32_t state = 1;
    uint8_t *at = data;
    for (int64_t i = 0; i < count; i++, at += dtype_size(dtype)) {
        state = state * 1664525u + 1013904223u;
        float value = dtype_is_float(dtype) ? (float)(state >> 8) / (1 << 23) - 1 : (float)(state >> 25);
        elements_convert(DTYPE_F32, &value, dtype, at, 1);
    }
}

static bool add_noise(struct tensor *input, const char *name, struct error *error) {
    size_t bytes = tensor_bytes(input);
    free(input->data);
    input->data = aligned_alloc(64, size_align(bytes + 1, 64));
    if (!input->data)
        return error_set(error, ERROR_MEMORY, "not enough memory for input '%s'", name);
    fill_noise(input->dtype, input->data, shape_elements(&input->shape));
    return true;
}

/* The shape of one input. Sets ret->guess where `length` is taken for a free dimension. */
static bool settle_shape(const struct engine *engine, int input, const struct shape_wishes *wishes,
                         int length, struct shaped_inputs *ret, struct error *error) {
    const struct engine_port *port = engine_input(engine, input);
    struct shape *shape = &ret->inputs[input].shape;
    bool given;
    if (!cli_shape_given(engine, &wishes->shapes, input, shape, &given, error) || given)
        return given;
    if (port->shape.rank < 0)
        return error_set(error, ERROR_INVALID,
                         "the file does not say the shape of input '%s': give it with "
                         "--shape %s=1x3x224x224",
                         port->name, port->name);
    if (port->shape.rank > 0 && wishes->batch && port->shape.dims[0] > 0 &&
        port->shape.dims[0] != wishes->batch)
        return error_set(error, ERROR_INVALID, "input '%s' takes batches of %lld only", port->name,
                         (long long)port->shape.dims[0]);

    *shape = port->shape;
    for (int d = 0; d < shape->rank; d++) {
        if (shape->dims[d] >= 0)
            continue;
        bool rows = d == 0, channels = d == 1 && shape->rank == 4;
        shape->dims[d] = rows ? (wishes->batch ? wishes->batch : 1) : channels ? 3 : length;
        if (!rows && !channels && !wishes->size)
            ret->guess = length;
    }
    return true;
}

static bool try_length(struct engine *engine, struct engine_context *context,
                       const struct shape_wishes *wishes, int length, struct shaped_inputs *ret,
                       struct error *error) {
    ret->guess = 0;
    for (int i = 0; i < ret->count; i++) {
        const struct engine_port *port = engine_input(engine, i);
        ret->inputs[i].dtype = port->dtype;
        if (!settle_shape(engine, i, wishes, length, ret, error) ||
            (wishes->noise && !add_noise(&ret->inputs[i], port->name, error)))
            return false;
    }
    return engine_prepare(context, ret->inputs, ret->count, error);
}

bool cli_inputs_prepare(const struct model *model, struct engine_context *context,
                        const struct shape_wishes *wishes, struct shaped_inputs *ret, struct error *error) {
    struct engine *engine = model_engine(model);
    struct shaped_inputs inputs = {.count = engine_input_count(engine)};
    int length = wishes->size ? wishes->size : model_length(model);
    int guesses[GUESSES] = {length ? length : 224}, count = 1;
    inputs.inputs = calloc((size_t)inputs.count + 1, sizeof *inputs.inputs);
    if (!inputs.inputs)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d inputs", inputs.count);

    bool done = cli_shapes_check(engine, &wishes->shapes, error) &&
                try_length(engine, context, wishes, guesses[0], &inputs, error);
    inputs.guess = length ? 0 : inputs.guess;
    if (!done && inputs.guess)
        count = list_guesses(model_path(model), guesses);
    for (int i = 1; !done && i < count; i++) {
        struct error ignored;
        done = try_length(engine, context, wishes, guesses[i], &inputs, &ignored);
    }

    if (done) {
        *ret = inputs;
        return true;
    }
    if (count > 1)
        error_prefix(error,
                     "no length that was tried fits the free dimensions (--shape %s=… gives them); 224",
                     engine_input(engine, 0)->name);
    shaped_inputs_release(&inputs);
    return false;
}

void shaped_inputs_release(struct shaped_inputs *inputs) {
    for (int i = 0; i < inputs->count; i++)
        free(inputs->inputs[i].data);
    free(inputs->inputs);
    *inputs = (struct shaped_inputs){0};
}

char *shaped_inputs_text(const struct engine *engine, const struct shaped_inputs *inputs) {
    struct buffer text = {0};
    char shape[SHAPE_TEXT];
    for (int i = 0; i < inputs->count; i++)
        buffer_printf(&text, "%s%s %s", i ? ", " : "", engine_input(engine, i)->name,
                      shape_format(&inputs->inputs[i].shape, shape, sizeof shape));
    if (text.failed)
        buffer_release(&text);
    return text.bytes;
}
