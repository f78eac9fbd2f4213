/* Attention: for each batch and head, two small matrix products in registers around a softmax. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/checked.h"
#include "base/multiversion.h"
#include "plan/kernels.h"

typedef float vector __attribute__((vector_size(64), aligned(4)));
#define VECTOR_FLOATS 16
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define TILE_COLUMNS (TILE_VECTORS * VECTOR_FLOATS)

/* Row-major; `stride` floats from row to row. */
struct matrix {
    float *data;
    int64_t rows, columns, stride;
};

/* c = a b for TILE_ROWS rows of a and TILE_COLUMNS columns of b, from where the pointers point. */
static inline __attribute__((always_inline)) void tile_multiply(const float *a, int64_t a_stride,
                                                                const float *b, int64_t b_stride,
                                                                int64_t depth, float *c, int64_t c_stride) {
    vector sums[TILE_ROWS][TILE_VECTORS] = {0};

    for (int64_t k = 0; k < depth; k++) {
        const vector *row = (const vector *)(b + k * b_stride);
        vector b0 = row[0], b1 = row[1];
        for (int i = 0; i < TILE_ROWS; i++) {
            float factor = a[i * a_stride + k];
            sums[i][0] += b0 * factor;
            sums[i][1] += b1 * factor;
        }
    }

    for (int i = 0; i < TILE_ROWS; i++) {
        vector *row = (vector *)(c + i * c_stride);
        row[0] = sums[i][0];
        row[1] = sums[i][1];
    }
}

/* c = a b. Rows of a and c: a multiple of TILE_ROWS; columns of b and c: of TILE_COLUMNS. */
MULTIVERSION static void matrix_multiply(const struct matrix *a, const struct matrix *b,
                                         const struct matrix *c) {
    int64_t a_stride = a->stride, b_stride = b->stride, c_stride = c->stride, depth = a->columns;

    for (int64_t j = 0; j < c->columns; j += TILE_COLUMNS)
        for (int64_t i = 0; i < c->rows; i += TILE_ROWS)
            tile_multiply(a->data + i * a_stride, a_stride, b->data + j, b_stride, depth,
                          c->data + i * c_stride + j, c_stride);
}

/* e^x for x <= 0 to within 2 ulp or so: 2^n times a polynomial of the fraction (Cephes' coefficients). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;

    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;

    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* Softmax of one row in place; elements from `count` up to `padded` become 0. */
MULTIVERSION static void softmax_row(float *row, int64_t count, int64_t padded) {
    float largest = row[0], sum = 0;

#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++)
        largest = row[i] > largest ? row[i] : largest;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) {
        row[i] = exponential(row[i] - largest);
        sum += row[i];
    }

    float factor = 1 / sum;
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        row[i] *= factor;
    for (int64_t i = count; i < padded; i++)
        row[i] = 0;
}

static int64_t round_up(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit * unit;
}

/* Extents padded to whole tiles. */
struct padded {
    int64_t queries, keys, values;
};

static struct padded padded_of(const struct kernel_attention *attention) {
    return (struct padded){.queries = round_up(attention->queries, TILE_ROWS),
                           .keys = round_up(attention->keys, TILE_COLUMNS),
                           .values = round_up(attention->value_depth, TILE_COLUMNS)};
}

/* Floats that one thread works in: q, k transposed, v, the scores and the result. */
static size_t workspace_floats(const struct kernel_attention *attention) {
    struct padded padded = padded_of(attention);
    int64_t inputs = (padded.queries + padded.keys) * attention->depth + attention->keys * padded.values;
    int64_t results = padded.queries * (padded.keys + padded.values);

    return size_align((size_t)(inputs + results), 64);
}

struct workspace {
    struct matrix q, k, v, scores, out;
};

/* The next matrix of a thread's memory. */
static struct matrix matrix_take(float **memory, int64_t rows, int64_t columns) {
    struct matrix matrix = {*memory, rows, columns, columns};
    *memory += rows * columns;
    return matrix;
}

static struct workspace workspace_of(const struct kernel_attention *attention, float *memory) {
    struct padded padded = padded_of(attention);
    struct workspace workspace;

    workspace.q = matrix_take(&memory, padded.queries, attention->depth);
    workspace.k = matrix_take(&memory, attention->depth, padded.keys);
    workspace.v = matrix_take(&memory, attention->keys, padded.values);
    workspace.scores = matrix_take(&memory, padded.queries, padded.keys);
    workspace.out = matrix_take(&memory, padded.queries, padded.values);
    return workspace;
}

size_t kernel_attention_scratch(const struct kernel_attention *attention, int threads) {
    return workspace_floats(attention) * sizeof(float) * (size_t)threads;
}

static const void *element_at(enum dtype dtype, const void *base, int64_t index) {
    return (const char *)base + index * (int64_t)(dtype == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* [count, length] from strided elements; the padding of each row, and the rows after `count`, become 0. */
static void matrix_load(const struct matrix *matrix, enum dtype dtype, const void *from,
                        const int64_t strides[2], int64_t count, int64_t length) {
    for (int64_t i = 0; i < count; i++) {
        float *row = matrix->data + i * matrix->stride;
        kernel_load_row(dtype, element_at(dtype, from, i * strides[0]), strides[1], row, length);
        memset(row + length, 0, (size_t)(matrix->columns - length) * sizeof *row);
    }
    memset(matrix->data + count * matrix->stride, 0,
           (size_t)((matrix->rows - count) * matrix->stride) * sizeof(float));
}

MULTIVERSION static void scale_row(float *row, int64_t count, float scale) {
    for (int64_t i = 0; i < count; i++)
        row[i] *= scale;
}

MULTIVERSION static void add_row(float *row, const float *addend, int64_t stride, int64_t count) {
    if (stride == 1)
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            row[i] += addend[i];
    else
        for (int64_t i = 0; i < count; i++)
            row[i] += addend[i * stride];
}

static void weigh_scores(const struct kernel_attention *attention, int64_t pair,
                         const struct matrix *scores) {
    for (int64_t i = 0; i < attention->queries; i++) {
        float *row = scores->data + i * scores->stride;

        for (int a = 0; a < attention->addend_count; a++) {
            const struct kernel_attention_addend *addend = &attention->addends[a];
            add_row(row, addend->data + addend->starts[pair] + i * addend->row_stride, addend->column_stride,
                    attention->keys);
        }
        softmax_row(row, attention->keys, scores->columns);
    }
}

/* Where the matrix of one pair of batch and head begins. */
static const void *pair_start(const struct kernel_attention *attention, const void *tensor,
                              const int64_t strides[4], int64_t pair) {
    int64_t batch = pair / attention->heads, head = pair % attention->heads;
    return element_at(attention->dtype, tensor, batch * strides[0] + head * strides[1]);
}

struct attention_tensors {
    const void *q, *k, *v;
    void *out;
};

static void attend(const struct kernel_attention *attention, const struct attention_tensors *tensors,
                   int64_t pair, float *memory) {
    enum dtype dtype = attention->dtype;
    struct workspace workspace = workspace_of(attention, memory);
    const int64_t k_transposed[2] = {attention->k_strides[3], attention->k_strides[2]};

    matrix_load(&workspace.q, dtype, pair_start(attention, tensors->q, attention->q_strides, pair),
                attention->q_strides + 2, attention->queries, attention->depth);
    scale_row(workspace.q.data, attention->queries * attention->depth, attention->scale);
    matrix_load(&workspace.k, dtype, pair_start(attention, tensors->k, attention->k_strides, pair),
                k_transposed, attention->depth, attention->keys);
    matrix_load(&workspace.v, dtype, pair_start(attention, tensors->v, attention->v_strides, pair),
                attention->v_strides + 2, attention->keys, attention->value_depth);

    matrix_multiply(&workspace.q, &workspace.k, &workspace.scores);
    weigh_scores(attention, pair, &workspace.scores);
    workspace.scores.columns = attention->keys; /* the padding is no row of v */
    matrix_multiply(&workspace.scores, &workspace.v, &workspace.out);

    const void *out = pair_start(attention, tensors->out, attention->out_strides, pair);
    for (int64_t i = 0; i < attention->queries; i++)
        kernel_store_row(dtype, workspace.out.data + i * workspace.out.stride,
                         (void *)element_at(dtype, out, i * attention->out_strides[2]),
                         attention->value_depth);
}

void kernel_attention(const struct kernel_attention *attention, const void *q, const void *k, const void *v,
                      void *out, void *scratch, int threads) {
    const struct attention_tensors tensors = {q, k, v, out};
    size_t floats = workspace_floats(attention);
    int64_t pairs = attention->batches * attention->heads;

#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t pair = 0; pair < pairs; pair++)
        attend(attention, &tensors, pair, (float *)scratch + floats * (size_t)omp_get_thread_num());
}
