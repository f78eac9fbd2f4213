/* guichet run: a network on a raw tensor, for comparing with other runtimes. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"

static const char help[] =
    "Run a network on a raw tensor.\n"
    "\n"
    "Usage: guichet run MODEL IN.f32 OUT.f32 --shape 1x3x224x224 [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx file or a name. IN.f32 is the input as little-endian float32, row by row, "
    "without a header; the network's\n"
    "first output is written to OUT.f32 in the same form. Prints the output's shape.\n"
    "\n"
    "  --shape DIMS       of the input: 1x3x224x224\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        threads of the network (all processors)\n"
    "\n"
    "Example:\n"
    "  guichet run resnet50.onnx photo.f32 logits.f32 --shape 1x3x224x224 --precision f32\n";

static bool parse_shape(const char *text, struct shape *ret) {
    struct shape shape = {0};
    const char *at = text;
    for (;; at++) {
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

/* The file's floats as the type that the network takes; malloc'ed. */
static void *read_input(const char *path, const struct shape *shape, enum dtype dtype, struct error *error) {
    size_t size, count = (size_t)shape_elements(shape), bytes;
    cleanup(freep) char *values = file_read(path, LIMIT_MODEL_BYTES, &size, error);
    char text[SHAPE_TEXT];

    if (!values)
        return NULL;

    if (!size_multiply(count, sizeof(float), &bytes) || bytes != size) {
        error_set(error, ERROR_INVALID, "%s has %zu bytes, but a float32 tensor of shape %s has %zu", path,
                  size, shape_format(shape, text, sizeof text), count * sizeof(float));
        return NULL;
    }

    void *converted = aligned_alloc(64, size_align(count * dtype_size(dtype) + 1, 64));
    if (converted)
        elements_convert(DTYPE_F32, values, dtype, converted, (int64_t)count);
    else
        error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", path);

    return converted;
}

static bool write_output(const char *path, const struct tensor *output, struct error *error) {
    int64_t count = shape_elements(&output->shape);
    char text[SHAPE_TEXT];
    cleanup(freep) float *values = malloc((size_t)count * sizeof *values + 1);
    if (!values)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", path);

    elements_convert(output->dtype, output->data, DTYPE_F32, values, count);
    if (!file_write(path, values, (size_t)count * sizeof *values, error))
        return false;

    printf("%s\n", shape_format(&output->shape, text, sizeof text));
    return true;
}

static bool run_network(struct engine *engine, const char *in, const char *out, const struct shape *shape,
                        struct error *error) {
    if (engine_input_count(engine) != 1)
        return error_set(error, ERROR_INVALID, "the network has %d inputs, but 'run' supplies only one",
                         engine_input_count(engine));

    struct tensor input = {engine_input(engine, 0)->dtype, *shape, NULL};
    cleanup(freep) void *data = read_input(in, shape, input.dtype, error);
    cleanup(freep) struct tensor *outputs = calloc((size_t)engine_output_count(engine), sizeof *outputs);

    if (!data)
        return false;
    if (!outputs)
        return error_set(error, ERROR_MEMORY, "not enough memory for the outputs");

    input.data = data;
    struct engine_context *context = engine_context_create(engine, error);
    bool done = context && engine_run(context, &input, 1, outputs, engine_output_count(engine), error) &&
                write_output(out, &outputs[0], error);

    engine_context_free(context);
    return done;
}

static const struct command self = {"run", help};

int verb_run(int argc, char **argv) {
    const char *shape_text = NULL, *precision = NULL;
    int threads = 0, words, code;
    const struct option_spec options[] = {
        {.name = "shape", .kind = OPTION_TEXT, .value = &shape_text},
        {.name = "precision", .kind = OPTION_TEXT, .value = &precision},
        {.name = "threads", .kind = OPTION_INT, .value = &threads, .minimum = 1, .maximum = 1024},
        {0},
    };
    struct engine_options engine_options;
    struct shape shape;
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 3, 3, &words, &code) ||
        !cli_engine_options(&self, precision, threads, &engine_options, &code))
        return code;
    if (!shape_text || !parse_shape(shape_text, &shape))
        return cli_usage(&self, shape_text ? "'%s' is not a shape like 1x3x224x224" : "--shape is needed%s",
                         shape_text ? shape_text : "");

    struct model *model = cli_network_load(argv[1], &engine_options, &error);
    bool done = model && run_network(model_engine(model), argv[2], argv[3], &shape, &error);
    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
