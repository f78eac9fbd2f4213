/* guichet run: a network on tensors from files, for trying it and for comparing with other runtimes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/engine_options.h"
#include "cli/run_image.h"
#include "cli/run_tensors.h"
#include "cli/shapes.h"
#include "cli/verbs.h"

static const char help[] =
    "Run a network on tensors.\n"
    "\n"
    "Usage: guichet run MODEL --input NAME=FILE… [OPTION…]\n"
    "       guichet run MODEL --image PHOTO --output X.png [OPTION…]\n"
    "       guichet run MODEL IN.f32 OUT.f32 --shape 1x3x224x224 [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx file or a name; 'guichet inspect' names its inputs. FILE is numpy's .npy,\n"
    "ONNX's .pb, or anything else: raw little-endian elements, row by row, without a header. Prints the\n"
    "outputs' types and shapes.\n"
    "\n"
    "  --input NAME=FILE  once for each input; FILE alone where there is only one\n"
    "  --shape NAME=DIMS  of a raw input, where the network leaves its shape free: 1x3x224x224\n"
    "  --output DIR       write every output to DIR/NAME.npy; odd characters of names become _\n"
    "  --check WHAT       compare outputs with NAME=FILE, or with all files of a folder (NAME.npy, NAME.pb,\n"
    "                     or ONNX's output_0.pb …); exit code 1 where one differs\n"
    "  --tolerance X      how far values may be off, as a part of the largest (0.0001)\n"
    "  --image PHOTO      a file, URL or '-' for a network that makes a picture of a photo (a mask, a larger "
    "or\n"
    "                     changed photo, depth), which is written to --output X.png\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        threads of the network (all processors)\n"
    "\n"
    "With --image the first output that is a picture is written: [1, 1 or 3, h, w], [1, h, w, 1 or 3], [1, "
    "h, w],\n"
    "or a mask [1, classes, h, w] in a color for each class. How photo and values were taken is printed.\n"
    "\n"
    "The last form takes one input as float32 and writes the first output so.\n"
    "\n"
    "Examples:\n"
    "  guichet run detector.onnx --input image=photo.npy --output boxes\n"
    "  guichet run encoder --input ids=ids.npy --input mask=mask.npy --check expected\n"
    "  guichet run upscaler.onnx --image photo.jpg --output larger.png\n"
    "  guichet run resnet50.onnx photo.f32 logits.f32 --shape 1x3x224x224 --precision f32\n";

static const struct command self = {"run", help};

struct tensor_run {
    struct engine *engine;
    struct option_list inputs, shapes, checks;
    const char *in, *out; /* of the form with one float32 input; NULL: the other */
    const char *image;    /* NULL: tensors go in */
    const char *output;
    double tolerance;
    struct tensor *tensors, *results; /* [engine_input_count], [engine_output_count] */
};

/* ---- Inputs ---- */

/* What follows "NAME=" in the word that is for this value; NULL: none is. FILE alone is for the only one. */
static const char *find_word(const struct option_list *words, const char *name, bool only) {
    for (int i = 0; i < words->count; i++) {
        size_t length = strlen(name);
        if (strncmp(words->words[i], name, length) == 0 && words->words[i][length] == '=')
            return words->words[i] + length + 1;
    }
    return only && words->count == 1 && !strchr(words->words[0], '=') ? words->words[0] : NULL;
}

static bool read_input(struct tensor_run *run, int index, struct error *error) {
    int count = engine_input_count(run->engine);
    const struct engine_port *port = engine_input(run->engine, index);
    const char *path = find_word(&run->inputs, port->name, count == 1);
    struct shape shape = port->shape;
    bool given;
    if (!path)
        return error_set(error, ERROR_INVALID, "input '%s' is missing: --input %s=FILE", port->name,
                         port->name);

    return cli_shape_given(run->engine, &run->shapes, index, &shape, &given, error) &&
           run_tensor_read(path, port->dtype, &shape, &run->tensors[index], error);
}

static bool read_inputs(struct tensor_run *run, struct error *error) {
    int count = engine_input_count(run->engine);
    if (!cli_shapes_check(run->engine, &run->shapes, error))
        return false;
    if (run->inputs.count > count)
        return error_set(error, ERROR_INVALID, "the network has %d input%s, but --input is given %d times",
                         count, count == 1 ? "" : "s", run->inputs.count);
    for (int i = 0; i < count; i++)
        if (!read_input(run, i, error))
            return false;
    return true;
}

/* The only input, as float32 whatever its type. */
static bool read_float_input(struct tensor_run *run, struct error *error) {
    struct shape shape;
    size_t size;
    if (engine_input_count(run->engine) != 1)
        return error_set(error, ERROR_INVALID, "the network has %d inputs: give each with --input NAME=FILE",
                         engine_input_count(run->engine));
    cli_shape_parse(run->shapes.words[0], &shape); /* it was checked */

    cleanup(freep) char *bytes = file_read(run->in, LIMIT_MODEL_BYTES, &size, error);
    struct tensor *input = run->tensors;
    char text[SHAPE_TEXT];
    if (!bytes)
        return false;
    if (size != (size_t)shape_elements(&shape) * sizeof(float))
        return error_set(error, ERROR_INVALID, "%s has %zu bytes, but a float32 tensor of shape %s has %zu",
                         run->in, size, shape_format(&shape, text, sizeof text),
                         (size_t)shape_elements(&shape) * sizeof(float));

    *input = (struct tensor){engine_input(run->engine, 0)->dtype, shape, NULL};
    input->data = malloc(tensor_bytes(input) + 64);
    if (!input->data)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", run->in);
    elements_convert(DTYPE_F32, bytes, input->dtype, input->data, shape_elements(&shape));
    return true;
}

/* ---- Outputs ---- */

static bool write_float_output(const struct tensor_run *run, struct error *error) {
    const struct tensor *output = &run->results[0];
    int64_t count = shape_elements(&output->shape);
    char text[SHAPE_TEXT];
    cleanup(freep) float *values = malloc((size_t)count * sizeof *values + 1);
    if (!values)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", run->out);

    elements_convert(output->dtype, output->data, DTYPE_F32, values, count);
    if (!file_write(run->out, values, (size_t)count * sizeof *values, error))
        return false;

    printf("%s\n", shape_format(&output->shape, text, sizeof text));
    return true;
}

/* FOLDER/FILE.npy, .pb, or ONNX's output_I.pb; malloc'ed. NULL: there is none. */
static char *find_expected(const char *folder, const char *file, int index) {
    for (int form = 0; form < 3; form++) {
        char *path = NULL;
        int length = form == 2 ? asprintf(&path, "%s/output_%d.pb", folder, index)
                               : asprintf(&path, "%s/%s.%s", folder, file, form ? "pb" : "npy");
        if (length >= 0 && access(path, F_OK) == 0)
            return path;
        if (length >= 0)
            free(path);
    }
    return NULL;
}

/* The file to compare output `index` with, malloc'ed; NULL: it is not compared. */
static bool choose_expected(const struct tensor_run *run, int index, const char *file, char **ret,
                            struct error *error) {
    const char *name = engine_output(run->engine, index)->name, *first = run->checks.words[0];
    const char *word = find_word(&run->checks, name, engine_output_count(run->engine) == 1);
    struct stat status;
    *ret = NULL;
    if (run->checks.count == 1 && stat(first, &status) == 0 && S_ISDIR(status.st_mode)) {
        *ret = find_expected(first, file, index);
        return *ret ||
               error_set(error, ERROR_NOT_FOUND, "%s: it has neither %s.npy nor %s.pb nor output_%d.pb",
                         first, file, file, index);
    }

    if (word && !(*ret = strdup(word)))
        return error_set(error, ERROR_MEMORY, "not enough memory for a path");
    return true;
}

/* Prints the end of the output's line. */
static bool check_output(const struct tensor_run *run, int index, const char *file, int *compared, int *wrong,
                         struct error *error) {
    const struct tensor *output = &run->results[index];
    cleanup(freep) char *path = NULL;
    struct tensor expected;
    if (!choose_expected(run, index, file, &path, error))
        return false;
    if (!path)
        return true;
    if (!run_tensor_read(path, output->dtype, &output->shape, &expected, error))
        return false;

    double off = run_tensor_difference(output, &expected);
    char text[SHAPE_TEXT];
    ++*compared;
    *wrong += !(off >= 0 && off <= run->tolerance);
    if (off < 0)
        printf("  wrong: %s is expected", shape_format(&expected.shape, text, sizeof text));
    else
        printf("  %s: off by %.2g of the largest value", off <= run->tolerance ? "right" : "wrong", off);
    free(expected.data);
    return true;
}

static bool report_output(const struct tensor_run *run, int index, int *compared, int *wrong,
                          struct error *error) {
    const struct tensor *output = &run->results[index];
    const char *name = engine_output(run->engine, index)->name;
    char file[200], shape[SHAPE_TEXT];
    run_file_name(name, file, sizeof file);
    for (int i = 0; i < index; i++) { /* two names may become one */
        char other[sizeof file];
        run_file_name(engine_output(run->engine, i)->name, other, sizeof other);
        if (strcmp(file, other) == 0)
            snprintf(file, sizeof file, "output_%d", index);
    }

    printf("%s  %s  %s", name, dtype_name(output->dtype), shape_format(&output->shape, shape, sizeof shape));
    bool done = (!run->output || run_tensor_write(run->output, file, output, error)) &&
                (!run->checks.count || check_output(run, index, file, compared, wrong, error));
    putchar('\n');
    fflush(stdout);
    return done;
}

static bool report_outputs(const struct tensor_run *run, struct error *error) {
    int compared = 0, wrong = 0, count = engine_output_count(run->engine);
    if (run->output && mkdir(run->output, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", run->output);

    for (int i = 0; i < count; i++)
        if (!report_output(run, i, &compared, &wrong, error))
            return false;
    if (run->checks.count && compared < run->checks.count)
        return error_set(error, ERROR_INVALID, "--check %s: no output is called so, and it is no folder",
                         run->checks.words[0]);
    return !wrong ||
           error_set(error, ERROR_MODEL, "%d of %d outputs are not what is expected", wrong, compared);
}

static bool run_network(struct tensor_run *run, struct error *error) {
    int inputs = engine_input_count(run->engine), outputs = engine_output_count(run->engine);
    run->tensors = calloc((size_t)inputs + 1, sizeof *run->tensors);
    run->results = calloc((size_t)outputs + 1, sizeof *run->results);
    struct engine_context *context = NULL;
    bool done = false;

    if (!run->tensors || !run->results)
        error_set(error, ERROR_MEMORY, "not enough memory for the tensors");
    else if ((run->in ? read_float_input(run, error) : read_inputs(run, error)) &&
             (context = engine_context_create(run->engine, error)) &&
             engine_run(context, run->tensors, inputs, run->results, outputs, error))
        done = run->in ? write_float_output(run, error) : report_outputs(run, error);

    for (int i = 0; run->tensors && i < inputs; i++)
        free(run->tensors[i].data);
    free(run->tensors);
    free(run->results);
    engine_context_free(context);
    return done;
}

static bool ends_in_png(const char *path) {
    size_t length = path ? strlen(path) : 0;
    return length > 4 && strcasecmp(path + length - 4, ".png") == 0;
}

/* Do the words and options make one of the forms? Else a usage error was printed. */
static bool check_form(const struct tensor_run *run, int words, int *ret_exit) {
    struct shape shape;
    if (run->image && (words != 1 || run->inputs.count || run->checks.count || run->shapes.count))
        *ret_exit = cli_usage(&self, "--image goes with --output X.png, and with no other input or check");
    else if (run->image && !ends_in_png(run->output))
        *ret_exit = cli_usage(&self, "--image needs --output X.png, the picture to write");
    else if (words == 2)
        *ret_exit = cli_usage(&self, "IN.f32 needs OUT.f32 behind it; or give --input NAME=FILE");
    else if (words == 3 && (run->inputs.count || run->checks.count || run->output))
        *ret_exit = cli_usage(&self, "--input, --output and --check do not go with IN.f32 and OUT.f32");
    else if (words == 3 && run->shapes.count != 1)
        *ret_exit = cli_usage(&self, "--shape is needed, once");
    else if (words == 3 && !cli_shape_parse(run->shapes.words[0], &shape))
        *ret_exit = cli_usage(&self, "'%s' is not a shape like 1x3x224x224", run->shapes.words[0]);
    else if (words == 1 && !run->inputs.count && !run->image)
        *ret_exit = cli_usage(&self, "--input NAME=FILE is needed, or --image PHOTO");
    else
        return true;
    return false;
}

static int run_verb(struct tensor_run *run, int argc, char **argv) {
    const char *precision = NULL;
    int threads = 0, words, code;
    const struct option_spec options[] = {
        {.name = "input", .kind = OPTION_LIST, .value = &run->inputs},
        {.name = "shape", .kind = OPTION_LIST, .value = &run->shapes},
        {.name = "image", .kind = OPTION_TEXT, .value = &run->image},
        {.name = "output", .kind = OPTION_TEXT, .value = &run->output},
        {.name = "check", .kind = OPTION_LIST, .value = &run->checks},
        {.name = "tolerance", .kind = OPTION_REAL, .value = &run->tolerance, .minimum = 0, .maximum = 1e9},
        {.name = "precision", .kind = OPTION_TEXT, .value = &precision},
        {.name = "threads", .kind = OPTION_INT, .value = &threads, .minimum = 1, .maximum = 1024},
        {0},
    };
    struct engine_options engine_options;
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 1, 3, &words, &code) || !check_form(run, words, &code) ||
        !cli_engine_options(&self, precision, threads, &engine_options, &code))
        return code;
    if (words == 3) {
        run->in = argv[2];
        run->out = argv[3];
    }

    struct model *model = cli_network_load(argv[1], &engine_options, &error);
    run->engine = model ? model_engine(model) : NULL;
    bool done =
        model && (run->image ? run_image(model, run->image, run->output, &error) : run_network(run, &error));
    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}

int verb_run(int argc, char **argv) {
    struct tensor_run run = {.tolerance = 1e-4};
    int code = run_verb(&run, argc, argv);
    free(run.inputs.words);
    free(run.shapes.words);
    free(run.checks.words);
    return code;
}
