#include "ops/operator.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ops/family.h"

static const struct op_def *const families[] = {
    unary_operators,
    binary_operators,
    variadic_operators,
    cast_operators,
    conv_operators,
    conv_transpose_operators,
    integer_operators,
    gather_operators,
    scatter_operators,
    generate_operators,
    matmul_operators,
    einsum_operators,
    normalize_operators,
    group_normalize_operators,
    pool_operators,
    quantize_operators,
    qlinear_operators,
    reduce_operators,
    select_operators,
    resize_operators,
    reshape_operators,
    move_operators,
    pad_operators,
    slice_operators,
    softmax_operators,
    microsoft_operators,
    det_operators,
    grid_sample_operators,
    control_operators,
    recurrent_operators,
    ml_tree_operators,
    ml_linear_operators,
    ml_column_operators,
    loss_operators,
    detect_operators,
    optimizer_operators,
    unique_operators,
    spectrum_operators,
    tfidf_operators,
    rms_operators,
    rotary_operators,
    attention_operators,
    attention_microsoft_operators,
    attention_grouped_operators,
    nbits_operators,
    col2im_operators,
    deform_operators,
    random_operators,
};

#define TABLE_ENTRIES 512

/* All families' entries, put together once. */
static struct op_def table[TABLE_ENTRIES];
static int table_count;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* An entry with what its family leaves out. */
static struct op_def entry_complete(const struct op_def *entry) {
    struct op_def complete = *entry;

    if (!complete.domain)
        complete.domain = "";
    if (!complete.until) /* other domains have one version */
        complete.until = *complete.domain ? complete.since : OPSET_LATEST;
    if (!complete.outputs.most)
        complete.outputs = (struct op_count){1, 1};

    return complete;
}

static void table_make(void) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        for (const struct op_def *entry = families[i]; entry->op_type && table_count < TABLE_ENTRIES; entry++)
            table[table_count++] = entry_complete(entry);
}

const struct op_def *operator_table(int *ret_count) {
    pthread_once(&table_once, table_make);
    *ret_count = table_count;
    return table;
}

static const struct op_def *own_find(const char *op_type) {
    static const struct op_def *const own[] = {fused_operators, gradient_element_operators,
                                               gradient_window_operators, gradient_move_operators};

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        for (const struct op_def *entry = own[i]; entry->op_type; entry++)
            if (strcmp(entry->op_type, op_type) == 0)
                return entry;

    return NULL;
}

const struct op_def *operator_find(const char *domain, const char *op_type, int opset) {
    int count;
    const struct op_def *entries = operator_table(&count);

    if (strcmp(domain, OPERATORS_OWN) == 0)
        return own_find(op_type);

    if (strcmp(domain, "ai.onnx") == 0)
        domain = "";
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i].op_type, op_type) == 0 && strcmp(entries[i].domain, domain) == 0 &&
            opset >= entries[i].since && opset <= entries[i].until)
            return &entries[i];

    return NULL;
}

#undef node_error /* operator.h defines it for the analyser */

bool node_error(const struct node *node, struct error *error, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    return error_set(error, ERROR_MODEL, "node %s (%s): %s", node->name, node->op_type, text);
}

static bool counts_check(const struct node *node, const struct op_def *op, struct error *error) {
    if (node->input_count < op->inputs.least || (op->inputs.most >= 0 && node->input_count > op->inputs.most))
        return node_error(node, error, "has %d inputs", node->input_count);
    if (node->output_count < op->outputs.least ||
        (op->outputs.most >= 0 && node->output_count > op->outputs.most))
        return node_error(node, error, "has %d outputs", node->output_count);

    for (int i = 0; i < op->inputs.least; i++)
        if (!node->inputs[i])
            return node_error(node, error, "input %d is missing", i);

    for (int i = 0; i < op->outputs.least; i++)
        if (!node->outputs[i])
            return node_error(node, error, "output %d is missing", i);

    return true;
}

static bool missing_error(const struct node *first, int missing, struct error *error) {
    char others[48] = "";
    if (missing > 1)
        snprintf(others, sizeof others, " (and %d other nodes)", missing - 1);

    const char *domain = first->domain;
    if (!*domain && first->opset > OPSET_LATEST)
        return error_set(error, ERROR_MODEL, "opset %d is not supported: 1 to %d are (node %.100s)",
                         first->opset, OPSET_LATEST, first->name);
    return error_set(error, ERROR_MODEL, "operator %.100s%s%.100s (opset %d) is not supported: node %.100s%s",
                     domain, *domain ? "." : "", first->op_type, first->opset, first->name, others);
}

/* Sequences, maps and optional values have no dtype. */
static bool graph_types_supported(const struct graph *graph, struct error *error) {
    for (int i = 0; i < graph->input_count; i++)
        if (!dtype_size(graph->inputs[i]->dtype))
            return error_set(error, ERROR_MODEL, "input '%.128s' is of a type that is not supported (%s)",
                             graph->inputs[i]->name,
                             graph->inputs[i]->dtype == DTYPE_STRING ? "string" : "not a tensor");
    return true;
}

/* Output 0 is always there for the rest of the program; an LSTM may leave it out. */
static bool first_output_fill(struct graph *graph, struct node *node, struct error *error) {
    if (node->output_count < 1 || node->outputs[0])
        return true;

    node->outputs[0] = graph_add_value(graph, NULL);
    if (!node->outputs[0])
        return node_memory_error(node, error);
    node->outputs[0]->producer = node;
    return true;
}

static bool nodes_bind(struct graph *graph, struct error *error);

/* Graphs inside of nodes; the reader bounds how deep they lie. */
static bool bodies_bind(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first; node; node = node->next)
        for (int i = 0; i < node->attribute_count; i++)
            if (node->attributes[i].kind == ATTRIBUTE_GRAPH && !nodes_bind(node->attributes[i].graph, error))
                return false;
    return true;
}

static bool nodes_bind(struct graph *graph, struct error *error) {
    const struct node *first_missing = NULL;
    int missing = 0;

    for (struct node *node = graph->first; node; node = node->next) {
        /* Our own are bound as they are made: those of a file stay without an entry. */
        if (strcmp(node->domain, OPERATORS_OWN) != 0)
            node->op = operator_find(node->domain, node->op_type, node->opset);
        if (!node->op && !missing++)
            first_missing = node;
    }

    if (missing)
        return missing_error(first_missing, missing, error);

    for (struct node *node = graph->first; node; node = node->next)
        if (!first_output_fill(graph, node, error) || !counts_check(node, node->op, error) ||
            (node->op->check && !node->op->check(node, error)))
            return false;

    return bodies_bind(graph, error);
}

bool operators_bind(struct graph *graph, struct error *error) {
    return nodes_bind(graph, error) && graph_types_supported(graph, error);
}

bool operator_infer(struct node *node, struct error *error) {
    for (int i = 0; i < node->input_count; i++) {
        const struct value *value = node->inputs[i];
        if (!value)
            continue;

        char text[SHAPE_TEXT];
        if (!dtype_size(value->dtype) || shape_elements(&value->shape) < 0)
            return node_error(node, error, "input %d (%s) has type %s and shape %s", i, value->name,
                              dtype_name(value->dtype), shape_format(&value->shape, text, sizeof text));
        if (i < 32 && node->op->plan_inputs >> i & 1 && !value->constant)
            return node_error(node, error, "input %d (%s) must be constant", i, value->name);
    }

    return node->op->infer(node, error);
}

bool operator_prepare(struct node *node, struct arena *arena, struct error *error) {
    return !node->op->prepare || node->op->prepare(node, arena, error);
}

bool operator_compute(struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    if (!node->op->prepare)
        return node->op->compute(node, inputs, outputs, error);

    struct arena *arena = arena_create();
    if (!arena)
        return node_memory_error(node, error);

    bool done = node->op->prepare(node, arena, error) && node->op->compute(node, inputs, outputs, error);
    node->parameters = NULL;
    arena_free(arena);

    return done;
}

struct node *operator_add_node(struct graph *graph, struct node *before, const char *domain,
                               const char *op_type, int opset, struct value *const *inputs, int input_count,
                               struct value *output) {
    struct node *node = graph_add_node(graph, before, domain, op_type, before ? before->name : NULL, inputs,
                                       input_count, &output, 1);
    if (!node)
        return NULL;

    node->opset = opset;
    node->op = operator_find(domain, op_type, opset);
    return node;
}

bool node_has(const struct node *node, unsigned traits) {
    return node->op && (node->op->traits & traits) == traits;
}

bool node_is_elementwise(const struct node *node) {
    bool aligned = node->opset < 7 && !*node->domain && node_attribute(node, "axis");

    return node_has(node, OP_ELEMENTWISE) && !aligned;
}

int node_data_inputs(const struct node *node) {
    int inputs = node->op ? node->op->data_inputs : 0;

    return inputs < 0 || inputs > node->input_count ? node->input_count : inputs ? inputs : 1;
}

int node_along_axis(const struct node *node) {
    int64_t axis = node_int(node, "axis", node->op->default_axis);

    return (int)(axis < 0 ? axis + node->inputs[0]->shape.rank : axis);
}

bool node_post_op(const struct node *node, struct post_op *ret) {
    const struct op_def *op = node->op;
    if (!op || op->post == POST_NONE)
        return false;

    struct post_op post = {.kind = op->post, .input = -1};
    if (op->post_parameters && !op->post_parameters(node, &post))
        return false;

    *ret = post;

    return true;
}

bool node_is_own(const struct node *node, const char *op_type) {
    return strcmp(node->domain, OPERATORS_OWN) == 0 && strcmp(node->op_type, op_type) == 0;
}
