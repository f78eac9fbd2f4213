/* For test_operators: whole nodes of operators with many inputs and attributes that must fit together. A
 * random node is given one of these half of the time, with a part of it left random. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

/* Inputs: F float32, B bytes, I int64, J int32, with their sizes; "J=7" and "I=5,5" are numbers; "-" left
 * out. */
static const struct node_form {
    const char *domain, *op_type, *inputs, *attributes;
} node_forms[] = {
    {"", "RotaryEmbedding", "F2x3x5x4 F9x2 F9x2 I2x5", ""},
    {"", "RotaryEmbedding", "F2x5x12 F2x5x2 F2x5x2", "num_heads=3 interleaved=1"},
    {"com.microsoft", "RotaryEmbedding", "F2x3x12 I1 F9x2 F9x2", "num_heads=3"},
    {"com.microsoft", "RotaryEmbedding", "F2x3x5x4 I2x5 F9x2 F9x2", ""},
    {"", "Attention", "F2x4x3x4 F2x2x5x4 F2x2x5x6 F3x8 F2x2x3x4 F2x2x3x6", "is_causal=1"},
    {"", "Attention", "F2x3x8 F2x5x4 F2x5x4 - - - I2", "q_num_heads=4 kv_num_heads=2"},
    {"com.microsoft", "MultiHeadAttention", "F2x3x8 F2x5x8 F2x5x6 F22 J2x5 F1x2x3x5", "num_heads=2"},
    {"com.microsoft", "MultiHeadAttention", "F2x3x8 F2x5x8 F2x5x8 - J2 - F2x2x4x4 F2x2x4x4", "num_heads=2"},
    {"com.microsoft", "Attention", "F2x3x5 F5x24 F24 J2x3", "num_heads=2 unidirectional=1"},
    {"com.microsoft", "Attention", "F2x3x5 F5x24 F24 J2x7 F2x2x2x4x4", "num_heads=2"},
    {"com.microsoft", "GroupQueryAttention", "F1x2x16 F1x2x8 F1x2x8 F1x2x6x4 F1x2x6x4 J1 J=7",
     "num_heads=4 kv_num_heads=2"},
    {"com.microsoft", "GroupQueryAttention", "F2x5x32 - - - - J2 J=5 F9x2 F9x2",
     "num_heads=4 kv_num_heads=2 do_rotary=1 local_window_size=2"},
    {"com.microsoft", "MatMulNBits", "F2x20 B3x2x8 F3x2 B3x1", "K=20 N=3 bits=4 block_size=16"},
    {"", "Col2Im", "F2x12x16 I=5,5 I=2,2", ""},
    {"", "Col2Im", "F1x6x6 I=3,5 I=2,3", ""},
    {"", "AffineGrid", "F2x2x3 I=2,3,4,5", ""},
    {"", "AffineGrid", "F1x3x4 I=1,3,2,3,4", "align_corners=1"},
    {"", "DeformConv", "F1x4x6x6 F6x4x3x2 F1x12x4x5", ""},
    {"", "DeformConv", "F1x4x6x6 F6x2x3x2 F1x24x4x5 F6 F1x12x4x5", "group=2 offset_group=2"},
    {"", "DequantizeLinear", "B6x4 F3x4 B3x4", "axis=0 block_size=2"},
    {"", "QuantizeLinear", "F6x4 F6x2 B6x2", "axis=1 block_size=3"},
    {"com.microsoft", "MatMulNBits", "F1x20 B3x2x4 F3x2", "K=20 N=3 bits=2 block_size=16"},
};
#define NODE_FORMS ((int)(sizeof node_forms / sizeof node_forms[0]))

static enum dtype form_dtype(char letter) {
    return letter == 'F' ? DTYPE_F32 : letter == 'B' ? DTYPE_U8 : letter == 'I' ? DTYPE_I64 : DTYPE_I32;
}

/* Set one input as a word of a form has it; `make` fills a tensor. */
static void form_input(struct graph *graph, struct value *value, const char *word,
                       struct tensor *(*make)(struct graph *, enum dtype, const struct shape *, bool)) {
    struct shape shape = {0};
    int64_t numbers[8] = {0};
    bool given = word[1] == '=';
    int count = 0;
    for (const char *at = word + 1 + given; *at && count < 8; at += *at == 'x' || *at == ',')
        numbers[count++] = strtol(at, (char **)&at, 10);
    shape.rank = given ? count > 1 : count;
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = given ? count : numbers[i];

    value->dtype = form_dtype(*word);
    value->shape = shape;
    struct tensor *tensor = make(graph, value->dtype, &shape, false);
    for (int64_t i = 0; (*word == 'J' || *word == 'I') && i < shape_elements(&shape); i++) {
        int64_t number = given ? numbers[i] : i % 6; /* small, so that some fit */
        if (*word == 'J')
            ((int32_t *)tensor->data)[i] = (int32_t)number;
        else
            ((int64_t *)tensor->data)[i] = number;
    }
    value->constant = tensor;
}

/* `below(n)`: a random number. */
static void form_apply(struct graph *graph, struct node *node, int most, int (*below)(int),
                       struct tensor *(*make)(struct graph *, enum dtype, const struct shape *, bool)) {
    const struct node_form *found = NULL;
    char copy[200], *rest = copy;
    for (int i = 0, seen = 0; i < NODE_FORMS; i++)
        if (strcmp(node_forms[i].op_type, node->op_type) == 0 &&
            strcmp(node_forms[i].domain, node->domain) == 0 && below(++seen) == 0)
            found = &node_forms[i];
    if (!found || !below(2))
        return;

    snprintf(copy, sizeof copy, "%s", found->inputs);
    struct value *inputs[16] = {0};
    int count = 0;
    for (char *word; count < most && (word = strtok_r(rest, " ", &rest)); count++) {
        if (*word == '-')
            continue;
        inputs[count] =
            node_input(node, count) && !below(12) ? node_input(node, count) : graph_add_value(graph, "x");
        if (!inputs[count]->constant || below(4))
            form_input(graph, inputs[count], word, make);
    }
    node->inputs = arena_allocate_array(graph->arena, 16, sizeof *node->inputs);
    memcpy(node->inputs, inputs, sizeof inputs);
    node->input_count = count;

    node->attribute_count = 0;
    snprintf(copy, sizeof copy, "%s", found->attributes);
    rest = copy;
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        char *equals = strchr(word, '=');
        *equals = 0;
        node_set_int(graph, node, arena_copy_string(graph->arena, word, strlen(word)),
                     below(15) ? atol(equals + 1) : below(40) - 3);
    }
}
