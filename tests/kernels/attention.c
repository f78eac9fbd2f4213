/* Attention against a plain computation in double, over layouts with gaps and turned axes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "plan/kernels.h"

#define CASES 150
#define F32_STEP 0x1p-23
#define BF16_STEP 0x1p-7
#define KEYS 129

/* A tensor [batches, heads, tokens, features] whose axes lie in memory in some order, with gaps. */
struct layout4 {
    int64_t dims[4], span; /* span: elements from the first to the last */
};

/* `contiguous`: the features are neighbours. */
static void random_layout(struct layout4 *layout, int64_t strides[4], bool contiguous) {
    int order[4] = {3, 2, 1, 0}; /* innermost first */
    int64_t step = 1;

    for (int i = contiguous ? 1 : 0; i < 3; i++) {
        int j = (int)random_between(i, 3), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    layout->span = 1;
    for (int i = 0; i < 4; i++) {
        int axis = order[i];
        strides[axis] = step;
        layout->span += (layout->dims[axis] - 1) * step;
        step = step * layout->dims[axis] + (random_chance(30) ? random_between(1, 5) : 0);
    }
}

static int64_t element_of(const int64_t strides[4], int64_t batch, int64_t head, int64_t token,
                          int64_t feature) {
    return batch * strides[0] + head * strides[1] + token * strides[2] + feature * strides[3];
}

struct attention_case {
    struct kernel_attention attention;
    struct layout4 q_layout, k_layout, v_layout, out_layout;
    const void *q, *k, *v;
};

/* A bias for all, a matrix for each head, a row of keys that masks some of them, or one that is nearly
 * everything. */
static void random_addend(const struct kernel_attention *attention, struct kernel_attention_addend *ret) {
    int64_t pairs = attention->batches * attention->heads, matrices = random_chance(50) ? pairs : 1;
    bool same_rows = random_chance(40), same_columns = !same_rows && random_chance(20);
    int64_t columns = same_columns ? 1 : attention->keys, rows = same_rows ? 1 : attention->queries;
    int64_t gap = random_chance(30) ? 3 : 0, step = random_chance(20) ? 2 : 1;
    int64_t row_stride = columns * step + gap, size = rows * row_stride;

    float *data = input_take((size_t)(matrices * size) * sizeof *data, sizeof *data);
    int64_t *starts = input_take((size_t)pairs * sizeof *starts, sizeof *starts);
    float masked = random_chance(50) ? -INFINITY : random_chance(50) ? -1e4f : -3.402823466e38f;
    bool is_mask = !same_columns && random_chance(40);
    random_fill(DTYPE_F32, data, matrices * size, 4);
    for (int64_t i = 0; is_mask && i < matrices * size; i++)
        data[i] = i % row_stride != 0 && random_chance(40) ? masked : 0; /* the first key stays */
    for (int64_t pair = 0; pair < pairs; pair++)
        starts[pair] = pair % matrices * size;
    *ret =
        (struct kernel_attention_addend){data, starts, same_rows ? 0 : row_stride, same_columns ? 0 : step};
}

/* Scores of one query, and how wrong each may be in float32. */
static void score_keys(const struct attention_case *c, int64_t pair, int64_t query, double *scores,
                       double *errors) {
    const struct kernel_attention *attention = &c->attention;
    int64_t batch = pair / attention->heads, head = pair % attention->heads;

    for (int64_t key = 0; key < attention->keys; key++) {
        double sum = 0, magnitude = 0;
        for (int64_t d = 0; d < attention->depth; d++) {
            double product =
                element_get(attention->dtype, c->q, element_of(attention->q_strides, batch, head, query, d)) *
                element_get(attention->dtype, c->k, element_of(attention->k_strides, batch, head, key, d));
            sum += product * (double)attention->scale;
            magnitude += fabs(product * (double)attention->scale);
        }

        errors[key] = ((double)attention->depth / 2 + 4) * F32_STEP * magnitude;
        for (int i = 0; i < attention->addend_count; i++) {
            const struct kernel_attention_addend *addend = &attention->addends[i];
            sum +=
                (double)addend
                    ->data[addend->starts[pair] + query * addend->row_stride + key * addend->column_stride];
            errors[key] += fabs(sum) * F32_STEP;
        }
        scores[key] = sum;
    }
}

/* Softmax in place; returns how wrong all the weights may be together. */
static double weigh_keys(double *scores, const double *errors, int64_t keys) {
    double largest = -INFINITY, total = 0, error = 0;

    for (int64_t key = 0; key < keys; key++)
        largest = fmax(largest, scores[key]);
    for (int64_t key = 0; key < keys; key++)
        total += scores[key] = exp(scores[key] - largest);
    for (int64_t key = 0; key < keys; key++) {
        scores[key] /= total;
        if (scores[key] > 0)
            error += scores[key] * errors[key];
    }
    return error + ((double)keys + 120) * F32_STEP; /* sums; e^x */
}

/* `expected` receives what is right, where it is as good as equal. */
static void check_query(const struct attention_case *c, int64_t pair, int64_t query, const void *out,
                        void *expected) {
    const struct kernel_attention *attention = &c->attention;
    int64_t batch = pair / attention->heads, head = pair % attention->heads;
    size_t size = dtype_size(attention->dtype);
    double weights[KEYS], errors[KEYS];
    score_keys(c, pair, query, weights, errors);
    double error = weigh_keys(weights, errors, attention->keys);

    for (int64_t e = 0; e < attention->value_depth; e++) {
        double sum = 0, tolerance = 1e-34; /* e^-87 stands for 0 */
        for (int64_t key = 0; key < attention->keys; key++) {
            double product =
                weights[key] *
                element_get(attention->dtype, c->v, element_of(attention->v_strides, batch, head, key, e));
            sum += product;
            tolerance += product != 0 ? fabs(product) * (errors[key] + error) : 0;
        }
        if (attention->dtype == DTYPE_BF16)
            tolerance += (fabs(sum) + tolerance) * BF16_STEP / 2;

        int64_t index = element_of(attention->out_strides, batch, head, query, e);
        expect_near(index, element_get(attention->dtype, out, index), sum, tolerance);
        memcpy((char *)expected + (size_t)index * size, (const char *)out + (size_t)index * size, size);
    }
}

static void *layout_take(enum dtype dtype, const struct layout4 *layout) {
    void *data = input_take((size_t)layout->span * dtype_size(dtype), dtype_size(dtype));
    random_fill(dtype, data, layout->span, 2);
    return data;
}

static struct attention_case random_case(enum dtype dtype) {
    struct attention_case c = {0};
    struct kernel_attention *a = &c.attention;

    a->dtype = dtype;
    a->batches = random_between(1, 3);
    a->heads = random_between(1, 4);
    a->queries = random_extent(65);
    a->keys = random_extent(KEYS);
    a->depth = random_extent(65);
    a->value_depth = random_extent(65);
    a->scale = 1 / sqrtf((float)a->depth);
    c.q_layout = (struct layout4){.dims = {a->batches, a->heads, a->queries, a->depth}};
    c.k_layout = (struct layout4){.dims = {a->batches, a->heads, a->keys, a->depth}};
    c.v_layout = (struct layout4){.dims = {a->batches, a->heads, a->keys, a->value_depth}};
    c.out_layout = (struct layout4){.dims = {a->batches, a->heads, a->queries, a->value_depth}};
    random_layout(&c.q_layout, a->q_strides, false);
    random_layout(&c.k_layout, a->k_strides, false);
    random_layout(&c.v_layout, a->v_strides, false);
    random_layout(&c.out_layout, a->out_strides, true);
    return c;
}

static void attention(enum dtype dtype, int addends) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct attention_case c = random_case(dtype);
        struct kernel_attention *a = &c.attention;
        a->addend_count = addends ? (int)random_between(1, addends) : 0;
        case_begin("%lldx%lld, %lld queries, %lld keys, depth %lld, values %lld, %d addends",
                   (long long)a->batches, (long long)a->heads, (long long)a->queries, (long long)a->keys,
                   (long long)a->depth, (long long)a->value_depth, a->addend_count);

        c.q = layout_take(dtype, &c.q_layout);
        c.k = layout_take(dtype, &c.k_layout);
        c.v = layout_take(dtype, &c.v_layout);
        for (int j = 0; j < a->addend_count; j++)
            random_addend(a, &a->addends[j]);
        size_t bytes = (size_t)c.out_layout.span * dtype_size(dtype);
        void *out = output_take(bytes, dtype_size(dtype)), *expected = expected_take(out, bytes);
        void *scratch = output_take(kernel_attention_scratch(a, case_threads()), 64);

        case_seal();
        kernel_attention(a, c.q, c.k, c.v, out, scratch, case_threads());
        case_check();
        for (int64_t pair = 0; pair < a->batches * a->heads; pair++)
            for (int64_t query = 0; query < a->queries; query++)
                check_query(&c, pair, query, out, expected);
        expect_bytes(out, expected, bytes, dtype_size(dtype)); /* what lies between is as it was */
    }
}

static void attention_f32(void) {
    attention(DTYPE_F32, 0);
}

static void attention_bf16(void) {
    attention(DTYPE_BF16, 0);
}

static void attention_masked_f32(void) {
    attention(DTYPE_F32, 3);
}

static void attention_masked_bf16(void) {
    attention(DTYPE_BF16, 3);
}

const struct kernel_test attention_tests[] = {
    {"attention_f32", attention_f32},
    {"attention_bf16", attention_bf16},
    {"attention_masked_f32", attention_masked_f32},
    {"attention_masked_bf16", attention_masked_bf16},
    {NULL, NULL},
};
