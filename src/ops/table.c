#include "ops/operator.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ops/family.h"

static const struct operator* const families[] = {
    unary_operators,     binary_operators,
    variadic_operators,  cast_operators,
    conv_operators,      conv_transpose_operators,
    integer_operators,   gather_operators,
    scatter_operators,   generate_operators,
    matmul_operators,    einsum_operators,
    normalise_operators, group_normalise_operators,
    pool_operators,      quantise_operators,
    quantised_operators, reduce_operators,
    select_operators,    resize_operators,
    reshape_operators,   move_operators,
    pad_operators,       slice_operators,
    softmax_operators,   microsoft_operators,
};

#define TABLE_ENTRIES 512

/* The families' tables one after another, put together once. */
static struct operator table[TABLE_ENTRIES];
static int table_count;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_make(void) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        for (const struct operator* entry = families[i]; entry->op_type && table_count < TABLE_ENTRIES;
             entry++)
            table[table_count++] = *entry;
}

const struct operator* operator_table(int *ret_count) {
    pthread_once(&table_once, table_make);
    *ret_count = table_count;
    return table;
}

const struct operator* operator_find(const char *domain, const char *op_type, int opset) {
    int count;
    const struct operator* entries = operator_table(&count);
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

static bool node_check_counts(const struct node *node, const struct operator* operator,
                              struct error * error) {
    if (node->input_count <
        operator->min_inputs ||(operator->max_inputs >= 0 && node->input_count> operator->max_inputs))
        return node_error(node, error, "has %d inputs", node->input_count);
    if (node->output_count <
        operator->min_outputs ||(operator->max_outputs >= 0 && node->output_count> operator->max_outputs))
        return node_error(node, error, "has %d outputs", node->output_count);
    for (int i = 0; i < operator->min_inputs; i++)
        if (!node->inputs[i])
            return node_error(node, error, "input %d is missing", i);
    for (int i = 0; i < operator->min_outputs; i++)
        if (!node->outputs[i])
            return node_error(node, error, "output %d is missing", i);
    return true;
}

static bool missing_error(const struct node *first, int missing, struct error *error) {
    char others[48] = "";
    if (missing > 1)
        snprintf(others, sizeof others, " (and %d other nodes)", missing - 1);
    const char *domain = first->domain;
    return error_set(error, ERROR_MODEL, "operator %.100s%s%.100s (opset %d) is not supported: node %.100s%s",
                     domain, *domain ? "." : "", first->op_type, first->opset, first->name, others);
}

/* Sequences, maps and optional values read as no type at all. */
static bool graph_types_supported(const struct graph *graph, struct error *error) {
    for (int i = 0; i < graph->input_count; i++)
        if (!dtype_size(graph->inputs[i]->dtype))
            return error_set(error, ERROR_MODEL, "input '%.128s' is of a type that is not supported (%s)",
                             graph->inputs[i]->name,
                             graph->inputs[i]->dtype == DTYPE_STRING ? "string" : "not a tensor");
    return true;
}

bool operators_bind(struct graph *graph, struct error *error) {
    const struct node *first_missing = NULL;
    int missing = 0;
    for (struct node *node = graph->first; node; node = node->next) {
        node->operator= operator_find(node->domain, node->op_type, node->opset);
        if (!node->operator&& !missing++)
            first_missing = node;
    }
    if (missing)
        return missing_error(first_missing, missing, error);
    if (!graph_types_supported(graph, error))
        return false;
    for (struct node *node = graph->first; node; node = node->next)
        if (!node_check_counts(node, node->operator, error) ||
            (node->operator->check && !node->operator->check(node, error)))
            return false;
    return true;
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
        if (i < 32 && node->operator->plan_inputs>> i & 1 && !value->constant)
            return node_error(node, error, "input %d (%s) has to be constant", i, value->name);
    }
    return node->operator->infer(node, error);
}
