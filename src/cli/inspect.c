/* guichet inspect: what a network is made of. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/engine_options.h"
#include "cli/plan_table.h"
#include "cli/verbs.h"
#include "model/find.h"
#include "model/folder.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

enum { KINDS = 128, LINE_WIDTH = 96 };

struct settings {
    const char *precision;
    int size;
    bool steps;
};

static const char help[] =
    "Show what a network is made of.\n"
    "\n"
    "Usage: guichet inspect MODEL [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx file or a name. Printed are inputs, outputs, operators, parameters, the\n"
    "work of one photo (GFLOP: thousand million multiplications and additions), and the plan that it runs "
    "as\n"
    "here: what was fused, which kernels, how much memory.\n"
    "\n"
    "  --size N           height and width, where the network leaves them free (224)\n"
    "  --precision P      of the plan: auto, f32, bf16 or int8 (auto)\n"
    "  --steps            every step of the plan, too, with its layouts\n"
    "\n"
    "Examples:\n"
    "  guichet inspect animals\n"
    "  guichet inspect resnet50.onnx\n";

static void print_values(const char *head, struct value *const *values, int count) {
    char text[SHAPE_TEXT];
    for (int i = 0; i < count; i++)
        printf("  %-11s %s  %s  %s\n", i ? "" : head, values[i]->name, dtype_name(values[i]->dtype),
               shape_format(&values[i]->shape, text, sizeof text));
}

struct kind {
    const char *name;
    int count;
};

static int kinds_compare(const void *a, const void *b) {
    const struct kind *x = a, *y = b;
    return x->count != y->count ? y->count - x->count : strcmp(x->name, y->name);
}

/* Operators by how often they come. */
static void print_operators(const struct graph *graph) {
    struct kind kinds[KINDS];
    int count = 0, column = 0;
    for (const struct node *node = graph->first; node; node = node->next) {
        int i = 0;
        while (i < count && strcmp(kinds[i].name, node->op_type) != 0)
            i++;
        if (i == count && count < KINDS)
            kinds[count++] = (struct kind){node->op_type, 0};
        if (i < KINDS)
            kinds[i].count++;
    }
    qsort(kinds, (size_t)count, sizeof kinds[0], kinds_compare);
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

/* Numbers that were learnt: every constant but the scalars. */
static int64_t parameters_count(const struct graph *graph, int64_t *ret_bytes) {
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
static double node_work(const struct node *node) {
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

/* What an input's free dimensions become for one photo. */
static struct shape photo_shape(const struct shape *shape, int size) {
    struct shape known = *shape;
    for (int d = 0; d < known.rank; d++)
        if (known.dims[d] < 0)
            known.dims[d] = d == 0 ? 1 : d == 1 && known.rank == 4 ? 3 : size;
    return known;
}

static bool graph_work(struct graph *graph, int size, double *ret, struct error *error) {
    cleanup(freep) struct tensor *inputs = calloc((size_t)graph->input_count + 1, sizeof *inputs);
    if (!inputs)
        return error_set(error, ERROR_MEMORY, "no memory for %d inputs", graph->input_count);
    for (int i = 0; i < graph->input_count; i++)
        inputs[i] =
            (struct tensor){graph->inputs[i]->dtype, photo_shape(&graph->inputs[i]->shape, size), NULL};
    if (!passes_expand_qoperators(graph, error) || !operators_bind(graph, error) ||
        !passes_specialise(graph, inputs, graph->input_count, error))
        return false;
    double work = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        work += node_work(node);
    *ret = work;
    return true;
}

static void print_amount(double amount, const char *unit) {
    if (amount >= 1e9)
        printf("%.2f thousand million%s", amount / 1e9, unit);
    else if (amount >= 1e6)
        printf("%.2f million%s", amount / 1e6, unit);
    else
        printf("%.0f%s", amount, unit);
}

static void print_graph(const struct graph *graph, const struct model_files *files) {
    int64_t bytes, parameters = parameters_count(graph, &bytes);
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

static bool context_print(struct engine *engine, struct engine_context *context,
                          const struct settings *settings, struct error *error) {
    int count = engine_input_count(engine);
    cleanup(freep) struct tensor *inputs = calloc((size_t)count + 1, sizeof *inputs);
    if (!inputs)
        return error_set(error, ERROR_MEMORY, "no memory for %d inputs", count);
    for (int i = 0; i < count; i++) {
        const struct engine_port *port = engine_input(engine, i);
        inputs[i] = (struct tensor){port->dtype, photo_shape(&port->shape, settings->size), NULL};
    }
    if (!engine_prepare(context, inputs, count, error))
        return false;
    printf("  %-11s %s\n", "precision", engine_precision_used(engine));
    plan_print(engine_context_plan(context), settings->steps);
    return true;
}

/* The plan for one photo. */
static bool inspect_plan(const char *path, const struct engine_options *options,
                         const struct settings *settings, struct error *error) {
    struct engine *engine = engine_load(path, options, error);
    struct engine_context *context = engine ? engine_context_create(engine, error) : NULL;
    bool done = context && context_print(engine, context, settings, error);
    engine_context_free(context);
    engine_free(engine);
    return done;
}

static bool inspect_files(const struct model_files *files, int size, struct error *error) {
    double work = 0;
    struct graph *graph = onnx_graph_read(files->network, error);
    if (!graph)
        return false;
    print_graph(graph, files);
    bool done = graph_work(graph, size, &work, error);
    if (done)
        printf("  %-11s %.3f GFLOP for one photo\n", "work", 2 * work / 1e9);
    graph_free(graph);
    return done;
}

static const struct command self = {"inspect", help};

int verb_inspect(int argc, char **argv) {
    struct settings settings = {.size = 224};
    const struct option_spec options[] = {{"size", OPTION_INT, &settings.size, 1, 4096},
                                          {"precision", OPTION_TEXT, &settings.precision, 0, 0},
                                          {"steps", OPTION_FLAG, &settings.steps, 0, 0},
                                          {0}};
    int words, code;
    struct engine_options engine_options;
    struct error error = {0};
    struct model_files files;
    cleanup(freep) char *path = NULL;
    cleanup(freep) char *variant = NULL;
    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code) ||
        !cli_engine_options(&self, settings.precision, 0, &engine_options, &code))
        return code;
    if (!model_find(argv[1], &path, &variant, &error) || !model_files_find(path, variant, &files, &error))
        return cli_fail(&error);
    bool done = inspect_files(&files, settings.size, &error) &&
                inspect_plan(files.network, &engine_options, &settings, &error);
    model_files_release(&files);
    return done ? EXIT_DONE : cli_fail(&error);
}
