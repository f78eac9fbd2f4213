/* Einsum: https://onnx.ai/onnx/operators/onnx__Einsum.html. Each label is a loop; those that the result lacks
 * are summed over. */
#include <ctype.h>
#include <string.h>

#include "ops/family.h"

#define OPERANDS 8
/* Labels: letters, and for the dimensions of an ellipsis digits, from '0' for the last one. */
#define LABELS 128

struct einsum {
    int operands;
    char terms[OPERANDS][LIMIT_TENSOR_RANK + 1]; /* a label each dimension */
    char result[LIMIT_TENSOR_RANK + 1];
    char summed[LABELS + 1];
    int64_t dims[LABELS];
    bool seen[LABELS];
    int ellipsis; /* dimensions of an ellipsis, the most of any operand */
};

/* One term of the equation for an operand of `rank` dimensions; rank -1: the result, whose ellipsis is as
 * wide as any. */
static const char *term_parse(struct einsum *e, const char *text, int rank, char *ret) {
    int letters = 0, count = 0;
    for (const char *at = text; *at && *at != ',' && *at != '-'; at++)
        letters += isalpha((unsigned char)*at) != 0;

    int wide = rank < 0 ? e->ellipsis : rank - letters;
    bool expanded = false;

    for (; *text && *text != ',' && *text != '-'; text++) {
        if (*text == ' ')
            continue;
        bool ellipsis = strncmp(text, "...", 3) == 0 && !expanded;
        if (!ellipsis && !isalpha((unsigned char)*text))
            return NULL;

        for (int i = ellipsis ? wide : 1; i > 0; i--) {
            if (count == LIMIT_TENSOR_RANK)
                return NULL;
            ret[count++] = ellipsis ? (char)('0' + i - 1) : *text;
        }

        if (ellipsis) {
            text += 2;
            expanded = true;
            if (wide > e->ellipsis)
                e->ellipsis = wide;
        }
    }

    ret[count] = 0;

    return rank < 0 || count == rank ? text : NULL;
}

/* A term without "->": the ellipsis, then every letter that occurs once, in alphabetical order. */
static bool result_implied(struct einsum *e) {
    int counts[LABELS] = {0}, position = 0;
    for (int k = 0; k < e->operands; k++)
        for (const char *at = e->terms[k]; *at; at++)
            counts[(unsigned char)*at]++;

    for (int i = e->ellipsis; i > 0; i--)
        e->result[position++] = (char)('0' + i - 1);

    for (int label = 'A'; label < LABELS; label++)
        if (counts[label] == 1) {
            if (position == LIMIT_TENSOR_RANK)
                return false;
            e->result[position++] = (char)label;
        }

    e->result[position] = 0;

    return true;
}

static bool dims_collect(const struct node *node, struct einsum *e, struct error *error) {
    for (int k = 0; k < e->operands; k++)
        for (int i = 0; e->terms[k][i]; i++) {
            int label = (unsigned char)e->terms[k][i];
            int64_t dim = node_shape(node, k)->dims[i];
            if (e->seen[label] && e->dims[label] != dim && e->dims[label] != 1 && dim != 1)
                return node_error(node, error, "label %c stands for %lld elements and for %lld", label,
                                  (long long)e->dims[label], (long long)dim);
            e->dims[label] = e->seen[label] && dim == 1 ? e->dims[label] : dim;
            e->seen[label] = true;
        }

    bool kept[LABELS] = {false};
    for (const char *at = e->result; *at; at++) {
        if (!e->seen[(unsigned char)*at] || kept[(unsigned char)*at])
            return node_error(node, error, "label %c of the result is repeated, or in no input", *at);
        kept[(unsigned char)*at] = true;
    }

    int position = 0;
    int64_t terms = 1;

    for (int label = 0; label < LABELS; label++)
        if (e->seen[label] && !kept[label]) {
            e->summed[position++] = (char)label;
            if (!extent_multiply(&terms, e->dims[label]))
                return node_error(node, error, "too many terms to sum");
        }

    return true;
}

static bool einsum_read(const struct node *node, struct einsum *ret, struct error *error) {
    const char *equation = node_string(node, "equation", ""), *at = equation;
    *ret = (struct einsum){.operands = node->input_count};
    for (int k = 0; k < node->input_count && at; k++) {
        if (!node_has_input(node, k))
            return node_error(node, error, "input %d is missing", k);
        at = term_parse(ret, at, node_shape(node, k)->rank, ret->terms[k]);
        if (at && k < node->input_count - 1)
            at = *at == ',' ? at + 1 : NULL;
    }

    bool fits = at && (*at == 0 ? result_implied(ret) : strncmp(at, "->", 2) == 0);
    if (fits && *at) {
        at = term_parse(ret, at + 2, -1, ret->result);
        fits = at && *at == 0;
    }

    if (!fits)
        return node_error(node, error, "equation '%.80s' does not fit the inputs", equation);
    return dims_collect(node, ret, error);
}

static bool einsum_infer(struct node *node, struct error *error) {
    struct einsum e;
    for (int i = 0; i < node->input_count; i++)
        if (!node_want_types(node, i, TYPES_FLOAT | TYPES_SIGNED, error) ||
            !node_want_same_type(node, i, 0, error))
            return false;

    if (!einsum_read(node, &e, error))
        return false;
    struct shape shape = {.rank = (int)strlen(e.result)};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = e.dims[(unsigned char)e.result[i]];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* Strides of an operand along the given labels; a label that it has twice follows its diagonal. */
static void label_strides(const char *term, const struct shape *shape, const char *labels, int64_t *ret) {
    int64_t own[LIMIT_TENSOR_RANK];
    shape_strides(shape, own);
    for (int j = 0; labels[j]; j++) {
        ret[j] = 0;
        for (int i = 0; term[i]; i++)
            if (term[i] == labels[j] && shape->dims[i] != 1)
                ret[j] += own[i];
    }
}

static void offsets_at(const struct einsum *e, const char *labels, int64_t strides[OPERANDS][LABELS],
                       int64_t number, int64_t *offsets) {
    for (int j = (int)strlen(labels) - 1; j >= 0; j--) {
        int64_t dim = e->dims[(unsigned char)labels[j]], position = number % dim;
        number /= dim;
        for (int k = 0; k < e->operands; k++)
            offsets[k] += position * strides[k][j];
    }
}

static bool einsum_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct einsum *e = arena_allocate(arena, sizeof *e);
    if (!e)
        return node_memory_error(node, error);

    node->parameters = e;
    return einsum_read(node, e, error);
}

static bool einsum_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct einsum *e = node->parameters;
    int64_t outer[OPERANDS][LABELS], inner[OPERANDS][LABELS], terms = 1,
                                                              count = shape_elements(&outputs[0].shape);

    for (int k = 0; k < e->operands; k++) {
        label_strides(e->terms[k], &inputs[k].shape, e->result, outer[k]);
        label_strides(e->terms[k], &inputs[k].shape, e->summed, inner[k]);
    }

    for (const char *at = e->summed; *at; at++)
        terms *= e->dims[(unsigned char)*at];

    bool floats = dtype_is_float(inputs[0].dtype);
    size_t size = dtype_size(outputs[0].dtype);

#pragma omp parallel for schedule(static) if (count * terms > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; i++) {
        int64_t start[OPERANDS] = {0};
        double sum = 0;
        uint64_t whole = 0;

        offsets_at(e, e->result, outer, i, start);
        for (int64_t t = 0; t < terms; t++) {
            int64_t offsets[OPERANDS];
            memcpy(offsets, start, sizeof offsets);
            offsets_at(e, e->summed, inner, t, offsets);

            double product = 1;
            uint64_t whole_product = 1;
            for (int k = 0; k < e->operands; k++)
                if (floats)
                    product *= tensor_get_f64(&inputs[k], offsets[k]);
                else
                    whole_product *= (uint64_t)tensor_get_i64(&inputs[k], offsets[k]);

            sum += product;
            whole += whole_product;
        }

        elements_convert(floats ? DTYPE_F64 : DTYPE_U64, floats ? (void *)&sum : (void *)&whole,
                         outputs[0].dtype, (char *)outputs[0].data + (size_t)i * size, 1);
    }

    return true;
}

const struct op_def einsum_operators[] = {
    {.op_type = "Einsum",
     .since = 12,
     .inputs = {1, OPERANDS},
     .traits = OP_HEAVY,
     .types = NAMES_FLOAT ", signed integers",
     .prepare = einsum_prepare,
     FUNCTIONS(einsum)},
    {0},
};
