#include "cli/inspect_graph.h"

#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "plan/plan.h"

static int compare_counts(const void *a, const void *b) {
    const struct operator_count *x = a, *y = b;
    return x->count != y->count ? y->count - x->count : strcmp(x->name, y->name);
}

int inspect_operators(const struct graph *graph, struct operator_count ret[INSPECT_KINDS]) {
    int count = 0;
    for (const struct node *node = graph->first; node; node = node->next) {
        int i = 0;
        while (i < count && strcmp(ret[i].name, node->op_type) != 0)
            i++;
        if (i == count && count < INSPECT_KINDS)
            ret[count++] = (struct operator_count){node->op_type, 0};
        if (i < INSPECT_KINDS)
            ret[i].count++;
    }

    qsort(ret, (size_t)count, sizeof ret[0], compare_counts);
    return count;
}

int64_t inspect_parameters(const struct graph *graph, int64_t *ret_bytes) {
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

bool inspect_work(struct graph *graph, const struct shaped_inputs *inputs, double *ret, struct error *error) {
    if (!passes_expand_fused(graph, error) || !passes_expand_dynamic(graph, error) ||
        !passes_expand_qoperators(graph, error) || !operators_bind(graph, error) ||
        !passes_specialize(graph, inputs->inputs, inputs->count, error))
        return false;

    double work = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        work += count_node_work(node);
    *ret = 2 * work;
    return true;
}

/* ---- JSON ---- */

/* Free dimensions are null; null where nothing is known. */
static json_t *shape_json(const struct shape *shape) {
    if (shape->rank < 0)
        return json_null();
    json_t *dims = json_array();
    for (int d = 0; d < shape->rank; d++)
        json_array_append_new(dims, shape->dims[d] < 0 ? json_null() : json_integer(shape->dims[d]));
    return dims;
}

static json_t *values_json(struct value *const *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", values[i]->name, "type",
                                              dtype_name(values[i]->dtype), "shape",
                                              shape_json(&values[i]->shape)));
    return list;
}

static json_t *photos_json(const struct model *model) {
    struct model_description description;
    struct error error;
    if (!model_takes_photos(model, &error))
        return json_null();

    model_describe(model, &description);
    return json_pack("{s:s, s:i, s:s, s:s, s:s}", "preprocessing", description.preprocessing, "classes",
                     model_class_count(model), "scores", description.head, "scores_source",
                     description.head_source, "labels", description.labels);
}

json_t *inspect_network_json(const struct graph *graph, const struct model_files *files,
                             const struct model *model) {
    struct operator_count counts[INSPECT_KINDS];
    int kinds = inspect_operators(graph, counts);
    int64_t bytes, parameters = inspect_parameters(graph, &bytes);
    json_t *operators = json_object(), *opsets = json_object();

    for (int i = 0; i < kinds; i++)
        json_object_set_new(operators, counts[i].name, json_integer(counts[i].count));
    for (int i = 0; i < graph->import_count; i++)
        json_object_set_new(opsets, graph->imports[i].domain, json_integer(graph->imports[i].version));
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:o, s:s?, s:o}", "name", files->name, "kind",
                     "network", "file", files->network, "inputs",
                     values_json(graph->inputs, graph->input_count), "outputs",
                     values_json(graph->outputs, graph->output_count), "operators", operators, "parameters",
                     (json_int_t)parameters, "parameter_bytes", (json_int_t)bytes, "opset", opsets,
                     "producer", graph->producer, "photos", photos_json(model));
}

void inspect_add_plan(json_t *json, struct engine *engine, const struct engine_context *context,
                      const struct shaped_inputs *inputs, double work) {
    json_t *shapes = json_object();
    for (int i = 0; i < inputs->count; i++)
        json_object_set_new(shapes, engine_input(engine, i)->name, shape_json(&inputs->inputs[i].shape));
    json_object_set_new(json, "plan",
                        json_pack("{s:o, s:o, s:s, s:o, s:i}", "shapes", shapes, "guessed",
                                  inputs->guess ? json_integer(inputs->guess) : json_null(), "precision",
                                  engine_precision_used(engine), "gflop", cli_json_real(work / 1e9, 6),
                                  "steps", engine_context_plan(context)->step_count));
}
