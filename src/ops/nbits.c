/* com.microsoft MatMulNBits: a product with weights of 2, 4 or 8 bits, in blocks that have a scale each.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
#include <string.h>

#include "ops/family.h"

enum { A, B, SCALES, ZEROS, GROUPS, BIAS };

struct nbits {
    int64_t depth, columns, block, blocks; /* K, N, elements of a block, blocks of a column */
    int bits;
};

static bool nbits_read(const struct node *node, struct nbits *ret, struct error *error) {
    int64_t bits = node_int(node, "bits", 4), block = node_int(node, "block_size", 0);
    struct nbits read = {.depth = node_int(node, "K", 0), .columns = node_int(node, "N", 0), .block = block};
    if (bits != 2 && bits != 4 && bits != 8)
        return node_error(node, error, "weights of %lld bits are not supported", (long long)bits);
    if (block < 16 || block > 1 << 16 || (block & (block - 1)))
        return node_error(node, error, "block_size is %lld, not a power of two from 16 on", (long long)block);
    if (read.depth < 1 || read.columns < 1 || read.depth > LIMIT_TENSOR_ELEMENTS ||
        read.columns > LIMIT_TENSOR_ELEMENTS)
        return node_error(node, error, "K is %lld and N is %lld", (long long)read.depth,
                          (long long)read.columns);
    read.bits = (int)bits;
    read.blocks = (read.depth + block - 1) / block;
    *ret = read;
    return true;
}

static bool nbits_check(const struct node *node, struct error *error) {
    struct nbits read;
    return nbits_read(node, &read, error) &&
           (!node_has_input(node, GROUPS) || node_error(node, error, "g_idx is not supported"));
}

/* Bytes of a column's zero points, packed. */
static int64_t zeros_row(const struct nbits *read) {
    return (read->blocks * read->bits + 7) / 8;
}

static bool nbits_infer(struct node *node, struct error *error) {
    struct nbits read;
    const struct shape *zeros = node_shape(node, ZEROS), *bias = node_shape(node, BIAS);
    struct shape y = *node_shape(node, A);
    if (!nbits_read(node, &read, error) || !node_want_types(node, A, TYPES_F32, error) ||
        !node_want_rank(node, A, 1, LIMIT_TENSOR_RANK, error) || !node_want_types(node, B, TYPE(U8), error) ||
        !node_want_same_type(node, SCALES, A, error) || !node_want_same_type(node, BIAS, A, error) ||
        !node_want_types(node, ZEROS, TYPE(U8) | TYPES_F32, error))
        return false;

    bool packed = zeros && node_dtype(node, ZEROS) == DTYPE_U8;
    if (y.dims[y.rank - 1] != read.depth ||
        shape_elements(node_shape(node, B)) != read.columns * read.blocks * (read.block * read.bits / 8) ||
        shape_elements(node_shape(node, SCALES)) != read.columns * read.blocks ||
        (zeros && shape_elements(zeros) != read.columns * (packed ? zeros_row(&read) : read.blocks)) ||
        (bias && shape_elements(bias) != read.columns))
        return node_error(node, error, "the shapes do not fit K %lld and N %lld in blocks of %lld",
                          (long long)read.depth, (long long)read.columns, (long long)read.block);

    y.dims[y.rank - 1] = read.columns;
    return infer_output(node, 0, node_dtype(node, A), &y, error);
}

/* Number `index` of those of `bits` bits, the first in the lowest. */
static inline int unpack(const uint8_t *packed, int64_t index, int bits) {
    int64_t at = index * bits;
    return packed[at >> 3] >> (at & 7) & ((1 << bits) - 1);
}

static float zero_of(const struct nbits *read, const struct tensor *zeros, int64_t column, int64_t block) {
    if (!zeros || !zeros->data)
        return (float)(1 << (read->bits - 1));
    if (zeros->dtype == DTYPE_U8)
        return (float)unpack((const uint8_t *)zeros->data + column * zeros_row(read), block, read->bits);
    return ((const float *)zeros->data)[column * read->blocks + block];
}

/* One column of the weights: [depth]. */
static void column_unpack(const struct nbits *read, const struct tensor *inputs, const struct tensor *zeros,
                          int64_t column, float *ret) {
    int64_t bytes = read->block * read->bits / 8;
    for (int64_t block = 0; block < read->blocks; block++) {
        const uint8_t *packed = (const uint8_t *)inputs[B].data + (column * read->blocks + block) * bytes;
        float scale = ((const float *)inputs[SCALES].data)[column * read->blocks + block];
        float zero = zero_of(read, zeros, column, block);
        int64_t start = block * read->block, left = read->depth - start;
        int64_t count = left < read->block ? left : read->block;
        if (read->bits == 4) {
            for (int64_t i = 0; i < count / 2; i++) {
                ret[start + 2 * i] = ((float)(packed[i] & 15) - zero) * scale;
                ret[start + 2 * i + 1] = ((float)(packed[i] >> 4) - zero) * scale;
            }
            if (count % 2)
                ret[start + count - 1] = ((float)(packed[count / 2] & 15) - zero) * scale;
            continue;
        }
        for (int64_t i = 0; i < count; i++)
            ret[start + i] = ((float)unpack(packed, i, read->bits) - zero) * scale;
    }
}

static bool nbits_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    struct nbits read;
    if (!nbits_read(node, &read, error))
        return false;

    const struct tensor *zeros = node->input_count > ZEROS ? &inputs[ZEROS] : NULL;
    const float *bias = node->input_count > BIAS ? inputs[BIAS].data : NULL, *a = inputs[A].data;
    int64_t rows = shape_elements(&inputs[A].shape) / read.depth;
    float *y = outputs[0].data;
    bool whole = true;

#pragma omp parallel if (rows * read.columns * read.depth > PARALLEL_ELEMENTS)
    {
        float *weights = malloc((size_t)read.depth * sizeof *weights + 64);
        if (!weights)
            __atomic_store_n(&whole, false, __ATOMIC_RELAXED);
#pragma omp for schedule(static)
        for (int64_t column = 0; column < read.columns; column++) {
            if (!weights)
                continue;
            column_unpack(&read, inputs, zeros, column, weights);
            for (int64_t row = 0; row < rows; row++) {
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < read.depth; i++)
                    sum += a[row * read.depth + i] * weights[i];
                y[row * read.columns + column] = sum + (bias ? bias[column] : 0);
            }
        }
        free(weights);
    }
    return whole || node_memory_error(node, error);
}

static bool nbits_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, nbits_wide);
}

const struct op_def nbits_operators[] = {
    {.domain = MICROSOFT,
     .op_type = "MatMulNBits",
     .since = 1,
     .inputs = {3, 6},
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     .check = nbits_check,
     FUNCTIONS(nbits)},
    {0},
};
