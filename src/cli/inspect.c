/* guichet inspect: what a model is made of. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/engine_options.h"
#include "cli/inspect_language.h"
#include "cli/plan_table.h"
#include "cli/verbs.h"
#include "model/find.h"
#include "model/model.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

enum { KINDS = 128, LINE_WIDTH = 96 };

struct inspect_settings {
    const char *precision;
    int size;
    bool steps, json;
};

static const char help[] =
    "Show what a model is made of.\n"
    "\n"
    "Usage: guichet inspect MODEL [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx or .gguf file or a name. Prints inputs, outputs, operators, parameters,\n"
    "the work of one photo (GFLOP: billion multiplications and additions), how photos are\n"
    "prepared and scores read and which file says so, and the plan for this machine: what is\n"
    "fused, which kernels run, how much memory they need. Of a language model: architecture,\n"
    "parameters, types of weights, context, vocabulary, template, memory.\n"
    "\n"
    "  --size N           height and width, where the network leaves them free (224)\n"
    "  --precision P      of the plan: auto, f32, bf16 or int8 (auto)\n"
    "  --steps            also print every step of the plan with its layouts\n"
    "  --json             one line of JSON; of language models only\n"
    "\n"
    "Examples:\n"
    "  guichet inspect animals\n"
    "  guichet inspect resnet50.onnx\n"
    "  guichet inspect smollm2:Q4_0 --json\n";

static void print_values(const char *head, struct value *const *values, int count) {
    char text[SHAPE_TEXT];
    for (int i = 0; i < count; i++)
        printf("  %-11s %s  %s  %s\n", i ? "" : head, values[i]->name, dtype_name(values[i]->dtype),
               shape_format(&values[i]->shape, text, sizeof text));
}

struct operator_count {
    const char *name;
    int count;
};

static int compare_counts(const void *a, const void *b) {
    const struct operator_count *x = a, *y = b;
    return x->count != y->count ? y->count - x->count : strcmp(x->name, y->name);
}

/* Operators, the most frequent first. */
static void print_operators(const struct graph *graph) {
    struct operator_count kinds[KINDS];
    int count = 0, column = 0;

    for (const struct node *node = graph->first; node; node = node->next) {
        int i = 0;
        while (i < count && strcmp(kinds[i].name, node->op_type) != 0)
            i++;
        if (i == count && count < KINDS)
            kinds[count++] = (struct operator_count){node->op_type, 0};
        if (i < KINDS)
            kinds[i].count++;
    }

    qsort(kinds, (size_t)count, sizeof kinds[0], compare_counts);
    printf("  %-11s %d:", "operators", graph->node_count);

    for (int i = 0; i < count; i++) {
        if (column > LINE_WIDTH - 24) {
            printf("\n  %-11s", "");
            column = 0;
        }
        column += printf(" %s %d%s", kinds[i].name, kinds[i].count, i + 1 < count ? "," : "");
    }

    putchar('\n');
}

/* Learnt numbers: every constant but scalars and integers. */
static int64_t count_parameters(const struct graph *graph, int64_t *ret_bytes) {
    int64_t count = 0;
    *ret_bytes = 0;

    for (int i = 0; i < graph->value_count; i++) {
        const struct tensor *constant = graph->values[i] ? graph->values[i]->constant : NULL;
        if (!constant || constant->shape.rank < 1 || constant->dtype == DTYPE_I64)
            continue;
        count += shape_elements(&constant->shape);
        *ret_bytes += (int64_t)tensor_bytes(constant);
    }

    return count;
}

/* Multiply-adds of a node whose shapes are all known. */
static double count_node_work(const struct node *node) {
    const struct value *weights = node_input(node, 1);
    if (!weights || !node->outputs[0])
        return 0;

    double outputs = (double)shape_elements(&node->outputs[0]->shape), per_output = 1;
    const struct shape *shape = &weights->shape, *input = &node->inputs[0]->shape;

    if (node_is(node, "Conv") || node_is(node, "ConvTranspose")) {
        if (node_is(node, "ConvTranspose"))
            outputs = (double)shape_elements(input);
        for (int i = 1; i < shape->rank; i++) /* [out, in / group, k…] */
            per_output *= (double)shape->dims[i];
    } else if (node_is(node, "Gemm")) {
        per_output = (double)(node_int(node, "transA", 0) ? input->dims[0] : input->dims[1]);
    } else if (node_is(node, "MatMul") && input->rank > 0) {
        per_output = (double)input->dims[input->rank - 1];
    } else {
        return 0;
    }

    return outputs * per_output;
}

static bool count_work(struct graph *graph, int size, double *ret, struct error *error) {
    cleanup(freep) struct tensor *inputs = calloc((size_t)graph->input_count + 1, sizeof *inputs);
    if (!inputs)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d inputs", graph->input_count);

    for (int i = 0; i < graph->input_count; i++) {
        const struct engine_port port = {.shape = graph->inputs[i]->shape};
        inputs[i] = (struct tensor){graph->inputs[i]->dtype, cli_input_shape(&port, 1, size), NULL};
    }

    if (!passes_expand_qoperators(graph, error) || !operators_bind(graph, error) ||
        !passes_specialize(graph, inputs, graph->input_count, error))
        return false;

    double work = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        work += count_node_work(node);

    *ret = work;
    return true;
}

static void print_amount(double amount, const char *unit) {
    if (amount >= 1e9)
        printf("%.2f billion%s", amount / 1e9, unit);
    else if (amount >= 1e6)
        printf("%.2f million%s", amount / 1e6, unit);
    else
        printf("%.0f%s", amount, unit);
}

static void print_graph(const struct graph *graph, const struct model_files *files) {
    int64_t bytes, parameters = count_parameters(graph, &bytes);
    printf("%s (%s)\n", files->name, files->network);
    print_values("input", graph->inputs, graph->input_count);
    print_values("output", graph->outputs, graph->output_count);
    print_operators(graph);
    printf("  %-11s ", "parameters");
    print_amount((double)parameters, "");
    printf(", %.1f MB\n  %-11s", (double)bytes / 1e6, "opset");

    for (int i = 0; i < graph->import_count; i++)
        printf(" %s%s%d", graph->imports[i].domain, *graph->imports[i].domain ? " " : "",
               graph->imports[i].version);

    printf("%s%s\n", graph->producer && *graph->producer ? ", written by " : "",
           graph->producer ? graph->producer : "");
}

static bool print_context(struct engine *engine, struct engine_context *context,
                          const struct inspect_settings *settings, struct error *error) {
    int count = engine_input_count(engine);
    cleanup(freep) struct tensor *inputs = cli_inputs(engine, settings->size, error);
    if (!inputs)
        return false;

    if (!engine_prepare(context, inputs, count, error))
        return false;

    printf("  %-11s %s\n", "precision", engine_precision_used(engine));
    plan_print(engine_context_plan(context), settings->steps);
    return true;
}

/* The plan for one photo. */
static bool print_plan(struct engine *engine, const struct inspect_settings *settings, struct error *error) {
    struct engine_context *context = engine_context_create(engine, error);
    bool done = context && print_context(engine, context, settings, error);
    engine_context_free(context);
    return done;
}

static void print_sides(const char *what, bool done, int shorter, int width, int height) {
    if (done && shorter > 0)
        printf(", %s the shorter side to %d", what, shorter);
    else if (done)
        printf(", %s to %dx%d", what, width, height);
}

static void print_preprocessing(const struct preprocessing *config) {
    static const char *const filters[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
    printf("  %-11s %s", "", config->flip_channels ? "BGR" : "RGB");
    print_sides("resize", config->do_resize, config->resize_short, config->resize_width,
                config->resize_height);
    if (config->do_resize)
        printf(" (%s)", filters[config->filter]);
    print_sides("crop", config->do_center_crop, 0, config->crop_width, config->crop_height);
    if (config->do_rescale)
        printf(", times %.6g", config->rescale_factor);
    if (config->rescale_offset != 0)
        printf(", minus %.6g", config->rescale_offset);
    if (config->do_normalize)
        printf(", mean %.4g %.4g %.4g, deviation %.4g %.4g %.4g", config->mean[0], config->mean[1],
               config->mean[2], config->standard_deviation[0], config->standard_deviation[1],
               config->standard_deviation[2]);
    putchar('\n');
}

/* What is made of photos and scores, and where that is stated. Networks that take no photo have none of it.
 */
static void print_meaning(const struct model *model) {
    struct model_description description;
    struct error error;
    if (!model_takes_photos(model, &error)) {
        printf("  %-11s none: %s\n", "photos", error.message);
        return;
    }

    model_describe(model, &description);
    printf("  %-11s %s\n", "photos", description.preprocessing);
    print_preprocessing(&model_input(model)->preprocessing);
    printf("  %-11s %d: %s (%s)\n", "scores", model_class_count(model), description.head,
           description.head_source);
    printf("  %-11s %s", "labels", description.labels);
    for (int i = 0; i < model_class_count(model) && i < 3; i++)
        printf("%s%s", i ? ", " : ": ", model_label(model, i, "en"));
    printf("%s\n", model_class_count(model) > 3 ? ", …" : "");
}

static bool print_model(const char *path, const struct engine_options *engine,
                        const struct inspect_settings *settings, struct error *error) {
    const struct model_options options = {.engine = *engine, .any_network = true};
    struct model *model = model_load(path, &options, error);
    if (!model)
        return false;

    print_meaning(model);
    bool done = print_plan(model_engine(model), settings, error);
    model_free(model);
    return done;
}

static bool print_files(const struct model_files *files, int size, struct error *error) {
    double work = 0;
    struct graph *graph = onnx_graph_read(files->network, error);
    if (!graph)
        return false;

    print_graph(graph, files);
    bool done = count_work(graph, size, &work, error);
    if (done)
        printf("  %-11s %.3f GFLOP for one photo\n", "work", 2 * work / 1e9);
    graph_free(graph);

    return done;
}

static const struct command self = {"inspect", help};

int verb_inspect(int argc, char **argv) {
    struct inspect_settings settings = {.size = 224};
    const struct option_spec options[] = {
        {.name = "size", .kind = OPTION_INT, .value = &settings.size, .minimum = 1, .maximum = 4096},
        {.name = "precision", .kind = OPTION_TEXT, .value = &settings.precision},
        {.name = "steps", .kind = OPTION_FLAG, .value = &settings.steps},
        {.name = "json", .kind = OPTION_FLAG, .value = &settings.json},
        {0}};
    int words, code;
    struct engine_options engine_options;
    struct error error = {0};
    struct model_files files;

    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code) ||
        !cli_engine_options(&self, settings.precision, 0, &engine_options, &code))
        return code;
    if (!model_find_files(argv[1], &files, &error))
        return cli_fail(&error);

    bool done, is_language = files.kind == MODEL_LANGUAGE;
    if (is_language)
        done = inspect_language(&files, settings.json, &error);
    else if (settings.json)
        done = error_set(&error, ERROR_INVALID, "%s is a network: --json is for language models", files.name);
    else
        done = print_files(&files, settings.size, &error) &&
               print_model(files.network, &engine_options, &settings, &error);
    model_files_release(&files);
    return done ? EXIT_DONE : cli_fail(&error);
}
