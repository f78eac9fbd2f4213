/* guichet inspect: what a model is made of. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/engine_options.h"
#include "cli/inspect_graph.h"
#include "cli/inspect_language.h"
#include "cli/plan_table.h"
#include "cli/verbs.h"
#include "model/find.h"
#include "model/model.h"
#include "onnx/onnx.h"

enum { LINE_WIDTH = 96 };

struct inspect_settings {
    const char *precision;
    struct option_list shapes;
    int size;
    bool steps, json;
};

static const char help[] =
    "Show what a model is made of.\n"
    "\n"
    "Usage: guichet inspect MODEL [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx or .gguf file or a name. Prints inputs, outputs, operators, parameters,\n"
    "the work of one photo or run (GFLOP: billion multiplications and additions), how photos are\n"
    "prepared and scores read and which file says so, and the plan for this machine: what is\n"
    "fused, which kernels run, how much memory they need. Of a language model: architecture,\n"
    "parameters, types of weights, context, vocabulary, template, memory.\n"
    "\n"
    "  --size N           height, width or length, where the network leaves it free (224, or a length that\n"
    "                     fits)\n"
    "  --shape NAME=DIMS  an input's whole shape: 1x3x224x224; may come several times\n"
    "  --precision P      of the plan: auto, f32, bf16 or int8 (auto)\n"
    "  --steps            also print every step of the plan with its layouts\n"
    "  --json             one line of JSON\n"
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

/* Operators, the most frequent first. */
static void print_operators(const struct graph *graph) {
    struct operator_count kinds[INSPECT_KINDS];
    int count = inspect_operators(graph, kinds), column = 0;
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

static void print_amount(double amount, const char *unit) {
    if (amount >= 1e9)
        printf("%.2f billion%s", amount / 1e9, unit);
    else if (amount >= 1e6)
        printf("%.2f million%s", amount / 1e6, unit);
    else
        printf("%.0f%s", amount, unit);
}

static void print_graph(const struct graph *graph, const struct model_files *files) {
    int64_t bytes, parameters = inspect_parameters(graph, &bytes);
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

/* What a run takes: told where lengths had to be guessed. */
static void print_shapes(const struct engine *engine, const struct shaped_inputs *inputs) {
    cleanup(freep) char *text = shaped_inputs_text(engine, inputs);
    if (inputs->guess)
        printf("  %-11s %s: free dimensions were taken for %d, --shape NAME=… gives them\n", "shapes",
               text ? text : "", inputs->guess);
}

static void print_plan(const struct model *model, const struct engine_context *context,
                       const struct inspect_settings *settings, const struct shaped_inputs *inputs,
                       double work) {
    struct error error;
    print_shapes(model_engine(model), inputs);
    printf("  %-11s %.3f GFLOP for one %s\n", "work", work / 1e9,
           model_takes_photos(model, &error) ? "photo" : "run");
    printf("  %-11s %s\n", "precision", engine_precision_used(model_engine(model)));
    plan_print(engine_context_plan(context), settings->steps);
}

/* One run, planned; `json` NULL: as text. */
static bool tell_plan(const struct model *model, struct graph *graph, const struct inspect_settings *settings,
                      json_t *json, struct error *error) {
    const struct shape_wishes wishes = {.shapes = settings->shapes, .size = settings->size};
    struct engine *engine = model_engine(model);
    struct shaped_inputs inputs = {0};
    struct engine_context *context = engine_context_create(engine, error);
    double work = 0;
    bool done = context && cli_inputs_prepare(model, context, &wishes, &inputs, error) &&
                inspect_work(graph, &inputs, &work, error);

    if (done && json)
        inspect_add_plan(json, engine, context, &inputs, work);
    else if (done)
        print_plan(model, context, settings, &inputs, work);
    shaped_inputs_release(&inputs);
    engine_context_free(context);
    return done;
}

static bool tell_model(const struct model_files *files, struct graph *graph,
                       const struct engine_options *engine, const struct inspect_settings *settings,
                       struct error *error) {
    const struct model_options options = {.engine = *engine, .any_network = true};
    struct model *model = model_load(files->network, &options, error);
    json_t *json = model && settings->json ? inspect_network_json(graph, files, model) : NULL;
    bool done = false;

    if (model && settings->json && !json)
        error_set(error, ERROR_MEMORY, "not enough memory for the JSON");
    else if (model) {
        if (!json)
            print_meaning(model);
        done = tell_plan(model, graph, settings, json, error);
    }

    if (done && json)
        cli_print_json(json_incref(json));
    json_decref(json);
    model_free(model);
    return done;
}

static bool inspect_network(const struct model_files *files, const struct engine_options *engine,
                            const struct inspect_settings *settings, struct error *error) {
    struct graph *graph = onnx_graph_read(files->network, error);
    if (!graph)
        return false;

    if (!settings->json) {
        print_graph(graph, files);
        fflush(stdout); /* before an error about the plan */
    }
    bool done = tell_model(files, graph, engine, settings, error);
    graph_free(graph);
    return done;
}

static const struct command self = {"inspect", help};

int verb_inspect(int argc, char **argv) {
    struct inspect_settings settings = {0};
    const struct option_spec options[] = {
        {.name = "size", .kind = OPTION_INT, .value = &settings.size, .minimum = 1, .maximum = 1 << 24},
        {.name = "shape", .kind = OPTION_LIST, .value = &settings.shapes},
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
    else
        done = inspect_network(&files, &engine_options, &settings, &error);
    model_files_release(&files);
    free(settings.shapes.words);
    return done ? EXIT_DONE : cli_fail(&error);
}
