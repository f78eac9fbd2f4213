#include "plan/kernels.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/checked.h"
#include "base/multiversion.h"

/* bfloat16 is the upper half of a float32. */
static inline float widen(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* Round to nearest even; NaN keeps a bit set. */
static inline uint16_t narrow(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    uint32_t rounded = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    return (uint16_t)((word & 0x7fffffff) > 0x7f800000 ? word >> 16 | 0x40 : rounded);
}

MULTIVERSION void kernel_load_row(enum dtype dtype, const void *from, int64_t stride, float *to,
                                  int64_t count) {
    if (dtype == DTYPE_F32) {
        const float *values = from;
        if (stride == 1)
            memcpy(to, values, (size_t)count * sizeof *to);
        else
            for (int64_t i = 0; i < count; i++)
                to[i] = values[i * stride];
        return;
    }
    const uint16_t *halves = from;
    if (stride == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] = widen(halves[i]);
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = widen(halves[i * stride]);
}

MULTIVERSION void kernel_store_row(enum dtype dtype, const float *from, void *to, int64_t count) {
    if (dtype == DTYPE_F32) {
        memcpy(to, from, (size_t)count * sizeof *from);
        return;
    }
    uint16_t *halves = to;
    for (int64_t i = 0; i < count; i++)
        halves[i] = narrow(from[i]);
}

MULTIVERSION static void layer_norm_f32(const float *restrict x, const float *restrict scale,
                                        const float *restrict shift, float epsilon, int64_t columns,
                                        float *restrict y) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < columns; i++)
        sum += x[i];
    float mean = sum / (float)columns;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < columns; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1 / sqrtf(squares / (float)columns + epsilon);
    if (shift)
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = (x[i] - mean) * factor * scale[i] + shift[i];
    else
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = (x[i] - mean) * factor * scale[i];
}

MULTIVERSION static void layer_norm_bf16(const uint16_t *restrict x, const float *restrict scale,
                                         const float *restrict shift, float epsilon, int64_t columns,
                                         uint16_t *restrict y) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < columns; i++)
        sum += widen(x[i]);
    float mean = sum / (float)columns;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < columns; i++)
        squares += (widen(x[i]) - mean) * (widen(x[i]) - mean);
    float factor = 1 / sqrtf(squares / (float)columns + epsilon);
    if (shift)
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = narrow((widen(x[i]) - mean) * factor * scale[i] + shift[i]);
    else
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = narrow((widen(x[i]) - mean) * factor * scale[i]);
}

void kernel_layer_norm(enum dtype dtype, const void *x, const float *scale, const float *shift, float epsilon,
                       int64_t rows, int64_t columns, const int32_t *targets, void *y) {
#pragma omp parallel for if (rows * columns > 16384)
    for (int64_t row = 0; row < rows; row++) {
        int64_t from = row * columns, to = (targets ? targets[row] : row) * columns;
        if (dtype == DTYPE_F32)
            layer_norm_f32((const float *)x + from, scale, shift, epsilon, columns, (float *)y + to);
        else
            layer_norm_bf16((const uint16_t *)x + from, scale, shift, epsilon, columns, (uint16_t *)y + to);
    }
}

void kernel_gather_rows(const void *from, const int32_t *sources, int64_t rows, size_t bytes, void *to) {
#pragma omp parallel for if (rows * (int64_t)bytes > 65536)
    for (int64_t row = 0; row < rows; row++) {
        char *target = (char *)to + (size_t)row * bytes;
        if (sources[row] < 0)
            memset(target, 0, bytes);
        else
            memcpy(target, (const char *)from + (size_t)sources[row] * bytes, bytes);
    }
}

/* --- Attention
 * ----------------------------------------------------------------------------------------------------- */

typedef float vector __attribute__((vector_size(64), aligned(4)));
#define LANES 16
#define TILE_ROWS 6
#define TILE_VECTORS 2

/* c[rows, columns] = a[rows, depth] b[depth, columns]; rows <= TILE_ROWS (the rest of the tile is computed
 * and dropped by the caller's padding), columns = TILE_VECTORS * LANES. */
static inline __attribute__((always_inline)) void tile_product(const float *a, int64_t a_stride,
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

/* rows a multiple of TILE_ROWS, columns of TILE_VECTORS * LANES. */
MULTIVERSION static void small_product(const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                                       int64_t rows, int64_t columns, int64_t depth, float *c,
                                       int64_t c_stride) {
    for (int64_t j = 0; j < columns; j += TILE_VECTORS * LANES)
        for (int64_t i = 0; i < rows; i += TILE_ROWS)
            tile_product(a + i * a_stride, a_stride, b + j, b_stride, depth, c + i * c_stride + j, c_stride);
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

/* Softmax of one row in place; what lies behind `count` up to `padded` becomes 0. */
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

/* What one thread works in: q [queries', depth], k' [depth, keys'], v [keys, values'], scores [queries',
 * keys'], out [queries', values']. */
struct attention_sizes {
    int64_t queries, keys, values; /* padded to whole tiles */
    size_t floats;                 /* of one thread */
};

static struct attention_sizes sizes_of(const struct attention *attention) {
    struct attention_sizes sizes;
    int64_t columns = TILE_VECTORS * LANES;
    sizes.queries = (attention->queries + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    sizes.keys = (attention->keys + columns - 1) / columns * columns;
    sizes.values = (attention->value_depth + columns - 1) / columns * columns;
    sizes.floats =
        (size_t)(sizes.queries * attention->depth + attention->depth * sizes.keys +
                 attention->keys * sizes.values + sizes.queries * sizes.keys + sizes.queries * sizes.values);
    sizes.floats = size_align(sizes.floats, 64);
    return sizes;
}

size_t kernel_attention_scratch(const struct attention *attention, int threads) {
    return sizes_of(attention).floats * sizeof(float) * (size_t)threads;
}

static const void *element(enum dtype dtype, const void *base, int64_t index) {
    return (const char *)base + index * (int64_t)(dtype == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));
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

static void score_rows(const struct attention *attention, int64_t pair, float *scores, int64_t padded) {
    for (int64_t i = 0; i < attention->queries; i++) {
        float *row = scores + i * padded;
        for (int a = 0; a < attention->addend_count; a++) {
            const struct attention_addend *addend = &attention->addends[a];
            add_row(row, addend->data + addend->starts[pair] + i * addend->row_stride, addend->column_stride,
                    attention->keys);
        }
        softmax_row(row, attention->keys, padded);
    }
}

MULTIVERSION static void scale_rows(float *values, int64_t count, float scale) {
    for (int64_t i = 0; i < count; i++)
        values[i] *= scale;
}

static void attend(const struct attention *attention, const struct attention_sizes *sizes, int64_t pair,
                   const void *q, const void *k, const void *v, void *out, float *scratch) {
    enum dtype dtype = attention->dtype;
    int64_t batch = pair / attention->heads, head = pair % attention->heads, depth = attention->depth;
    const int64_t *qs = attention->q_strides, *ks = attention->k_strides, *vs = attention->v_strides,
                  *os = attention->out_strides;
    float *queries = scratch, *keys = queries + sizes->queries * depth, *values = keys + depth * sizes->keys;
    float *scores = values + attention->keys * sizes->values, *result = scores + sizes->queries * sizes->keys;
    for (int64_t i = 0; i < attention->queries; i++)
        kernel_load_row(dtype, element(dtype, q, batch * qs[0] + head * qs[1] + i * qs[2]), qs[3],
                        queries + i * depth, depth);
    memset(queries + attention->queries * depth, 0,
           (size_t)((sizes->queries - attention->queries) * depth) * sizeof(float));
    scale_rows(queries, attention->queries * depth, attention->scale);
    for (int64_t d = 0; d < depth; d++) { /* transposed: features by keys */
        kernel_load_row(dtype, element(dtype, k, batch * ks[0] + head * ks[1] + d * ks[3]), ks[2],
                        keys + d * sizes->keys, attention->keys);
        memset(keys + d * sizes->keys + attention->keys, 0,
               (size_t)(sizes->keys - attention->keys) * sizeof(float));
    }
    for (int64_t i = 0; i < attention->keys; i++) {
        kernel_load_row(dtype, element(dtype, v, batch * vs[0] + head * vs[1] + i * vs[2]), vs[3],
                        values + i * sizes->values, attention->value_depth);
        memset(values + i * sizes->values + attention->value_depth, 0,
               (size_t)(sizes->values - attention->value_depth) * sizeof(float));
    }
    small_product(queries, depth, keys, sizes->keys, sizes->queries, sizes->keys, depth, scores, sizes->keys);
    score_rows(attention, pair, scores, sizes->keys);
    small_product(scores, sizes->keys, values, sizes->values, sizes->queries, sizes->values, attention->keys,
                  result, sizes->values);
    for (int64_t i = 0; i < attention->queries; i++)
        kernel_store_row(dtype, result + i * sizes->values,
                         (void *)element(dtype, out, batch * os[0] + head * os[1] + i * os[2]),
                         attention->value_depth);
}

void kernel_attention(const struct attention *attention, const void *q, const void *k, const void *v,
                      void *out, void *scratch, int threads) {
    struct attention_sizes sizes = sizes_of(attention);
    int64_t pairs = attention->batches * attention->heads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t pair = 0; pair < pairs; pair++)
        attend(attention, &sizes, pair, q, k, v, out,
               (float *)scratch + sizes.floats * (size_t)omp_get_thread_num());
}
