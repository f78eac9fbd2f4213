/* RotaryEmbedding, ONNX's and com.microsoft's: each head's row turned by its position.
 * https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html */
#include <string.h>

#include "ops/heads.h"

/* Which inputs are what. */
struct rotary_form {
    int positions, cosines, sines;
};
static const struct rotary_form onnx_form = {3, 1, 2}, microsoft_form = {1, 2, 3};

/* What a node says, with every shape checked. */
struct rotary_node {
    int64_t batches, heads, rows, size; /* of the input */
    bool by_head;                       /* [b, heads, rows, size], else [b, rows, heads * size] */
    struct rotary turn;
    int64_t lines; /* of the caches */
};

static bool rotary_check(const struct node *node, struct error *error) {
    if (node_int(node, "is_packed_batching", 0))
        return node_error(node, error, "is_packed_batching is not supported");
    return node_float(node, "scale", 1) == 1 || node_error(node, error, "a scale is not supported");
}

static bool sizes_read(const struct node *node, const struct shape *x, const struct shape *cosines,
                       struct rotary_node *ret, struct error *error) {
    int64_t heads = node_int(node, "num_heads", 0), turned = node_int(node, "rotary_embedding_dim", 0);
    int64_t half = cosines->rank ? cosines->dims[cosines->rank - 1] : 0;
    struct rotary_node sizes = {.batches = x->dims[0], .by_head = x->rank == 4};
    if (sizes.by_head) {
        sizes.heads = x->dims[1];
        sizes.rows = x->dims[2];
        sizes.size = x->dims[3];
    } else {
        sizes.rows = x->dims[1];
        sizes.size = heads > 0 ? x->dims[2] / heads : 2 * half;
        sizes.heads = sizes.size > 0 ? x->dims[2] / sizes.size : 0;
        if (sizes.size <= 0 || sizes.heads * sizes.size != x->dims[2])
            return node_error(node, error, "%lld elements do not make %lld heads", (long long)x->dims[2],
                              (long long)heads);
    }

    sizes.turn =
        (struct rotary){(turned > 0 ? turned : sizes.size) / 2, node_int(node, "interleaved", 0) != 0};
    if (turned < 0 || sizes.turn.half * 2 > sizes.size || sizes.turn.half != half)
        return node_error(node, error, "the caches have %lld columns, and %lld of a head are turned",
                          (long long)half, (long long)sizes.turn.half * 2);
    *ret = sizes;
    return true;
}

static bool node_read(const struct node *node, const struct shape *x, const struct shape *cosines,
                      const struct shape *positions, struct rotary_node *ret, struct error *error) {
    if (!sizes_read(node, x, cosines, ret, error))
        return false;

    int64_t of_batch = ret->batches * ret->rows;
    ret->lines = shape_product(cosines, 0, cosines->rank - 1);
    if (!positions && (cosines->rank != 3 || ret->lines != of_batch))
        return node_error(node, error, "without positions the caches are [batch, rows, half]");
    if (positions && cosines->rank != 2)
        return node_error(node, error, "with positions the caches are [positions, half]");
    if (positions && shape_elements(positions) != of_batch && shape_elements(positions) != 1)
        return node_error(node, error, "there is no position for each row");
    return true;
}

static bool rotary_infer(struct node *node, struct error *error) {
    const struct rotary_form *form = node->op->family;
    struct rotary_node read = {.batches = 0};
    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_rank(node, 0, 3, 4, error) ||
        !node_want_same_type(node, form->cosines, 0, error) ||
        !node_want_same_type(node, form->sines, 0, error) ||
        !node_want_rank(node, form->cosines, 2, 3, error) ||
        !node_want_types(node, form->positions, TYPE(I64), error))
        return false;
    if (!shape_equal(node_shape(node, form->cosines), node_shape(node, form->sines)))
        return node_error(node, error, "the caches have different shapes");

    return node_read(node, node_shape(node, 0), node_shape(node, form->cosines),
                     node_shape(node, form->positions), &read, error) &&
           infer_same(node, error);
}

/* The line of the caches for row `row` of batch `batch`; -1: the position is out of them. */
static int64_t line_of(const struct rotary_node *read, const struct tensor *positions, int64_t batch,
                       int64_t row) {
    int64_t index = batch * read->rows + row;
    if (!positions)
        return index;

    const int64_t *at = positions->data;
    int64_t line;
    if (shape_elements(&positions->shape) == read->batches * read->rows && positions->shape.rank == 2)
        line = at[index];
    else if (__builtin_add_overflow(at[0], row, &line))
        return -1;
    return line >= 0 && line < read->lines ? line : -1;
}

static bool rotary_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    const struct rotary_form *form = node->op->family;
    bool given = node->input_count > form->positions && inputs[form->positions].data;
    const struct tensor *positions = given ? &inputs[form->positions] : NULL;
    const float *cosines = inputs[form->cosines].data, *sines = inputs[form->sines].data;
    struct rotary_node read = {.batches = 0};
    if (!node_read(node, &inputs[0].shape, &inputs[form->cosines].shape, given ? &positions->shape : NULL,
                   &read, error))
        return false;

    for (int64_t i = 0; i < read.batches * read.rows; i++) {
        int64_t batch = i / read.rows, row = i % read.rows, line = line_of(&read, positions, batch, row);
        if (line < 0)
            return node_error(node, error, "a position is not in the caches of %lld lines",
                              (long long)read.lines);
        for (int64_t head = 0; head < read.heads; head++) {
            int64_t at = read.by_head ? (batch * read.heads + head) * read.rows + row : i * read.heads + head;
            rotary_turn(&read.turn, (const float *)inputs[0].data + at * read.size,
                        cosines + line * read.turn.half, sines + line * read.turn.half, read.size,
                        (float *)outputs[0].data + at * read.size);
        }
    }
    return true;
}

static bool rotary_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, rotary_wide);
}

const struct op_def rotary_operators[] = {
    {.op_type = "RotaryEmbedding",
     .since = 23,
     .inputs = {3, 4},
     .types = NAMES_F32,
     .check = rotary_check,
     .family = &onnx_form,
     FUNCTIONS(rotary)},
    {.domain = MICROSOFT,
     .op_type = "RotaryEmbedding",
     .since = 1,
     .inputs = {4, 4},
     .types = NAMES_F32,
     .check = rotary_check,
     .family = &microsoft_form,
     FUNCTIONS(rotary)},
    {0},
};
