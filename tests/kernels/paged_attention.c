/* Attention over pages, norms and gates, against a plain computation in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "linear.h"

enum { MOST_PAGES = 4, MOST_SIZE = 80 };

/* What rounding to the kept type may lose, of the largest number. */
static double lost(enum attention_type type) {
    static const double parts[] = {[ATTENTION_F32] = 0,
                                   [ATTENTION_F16] = 0x1p-11,
                                   [ATTENTION_BF16] = 0x1p-8,
                                   [ATTENTION_Q8_0] = 0.6 / 127};
    return parts[type];
}

struct paged_case {
    struct attention_shape shape;
    struct attention_pages pages;
    char *memory;
    int32_t order[MOST_PAGES];
    float *keys, *values; /* [positions][size] */
    int positions;
};

static void make_pages(struct paged_case *test) {
    size_t keys = attention_page_bytes(test->shape.type, test->shape.key_size),
           values = attention_page_bytes(test->shape.type, test->shape.value_size),
           bytes = MOST_PAGES * (keys + values);

    test->memory = output_take(bytes, 64);
    memset(test->memory, 0xff, bytes); /* whatever lies behind the last position: NaN */
    for (int i = 0; i < MOST_PAGES; i++)
        test->order[i] = MOST_PAGES - 1 - i;
    test->pages = (struct attention_pages){test->memory, test->order, keys + values, 0, keys};
    for (int i = 0; i < test->positions; i++) {
        char *page = test->memory + (size_t)test->order[i / ATTENTION_PAGE] * (keys + values);
        attention_store(&test->shape, page, page + keys, i % ATTENTION_PAGE,
                        test->keys + i * test->shape.key_size, test->values + i * test->shape.value_size);
    }
}

/* One query in double: [value_size]. */
static void attend_plainly(const struct paged_case *test, const struct attention_query *query, double *ret) {
    double scores[MOST_PAGES * ATTENTION_PAGE], most = -INFINITY, sum = 0;
    const struct attention_shape *shape = &test->shape;

    for (int64_t at = query->first; at <= query->last; at++) {
        double score = 0;
        for (int d = 0; d < shape->key_size; d++)
            score += (double)query->q[d] * (double)test->keys[at * shape->key_size + d];
        score *= (double)shape->scale;
        scores[at] = shape->cap > 0 ? (double)shape->cap * tanh(score / (double)shape->cap) : score;
        most = fmax(most, scores[at]);
    }
    for (int64_t at = query->first; at <= query->last; at++)
        sum += exp(scores[at] - most);
    for (int d = 0; d < shape->value_size; d++) {
        ret[d] = 0;
        for (int64_t at = query->first; at <= query->last; at++)
            ret[d] += exp(scores[at] - most) / sum * (double)test->values[at * shape->value_size + d];
    }
}

static void check_queries(const struct paged_case *test, const struct attention_query *queries, int count) {
    double tolerance = 20 * lost(test->shape.type) + 1e-5, expected[MOST_SIZE];
    float *scratch = aligned_alloc(64, (attention_scratch(&test->shape) * sizeof(float) + 63) / 64 * 64);
    float alone[MOST_SIZE];

    for (int i = 0; linear_tables()[i]; i++) {
        linear_tables()[i]->attend(&test->shape, &test->pages, queries, count, scratch);
        for (int k = 0; k < count; k++) {
            struct attention_query single = queries[k];
            attend_plainly(test, &queries[k], expected);
            for (int d = 0; d < test->shape.value_size; d++)
                expect_near(d, (double)queries[k].out[d], expected[d], tolerance);

            single.out = alone;
            linear_tables()[i]->attend(&test->shape, &test->pages, &single, 1, scratch);
            expect_bytes(alone, queries[k].out, (size_t)test->shape.value_size * sizeof(float), 4);
        }
    }
    free(scratch);
}

static void run_pages(void) {
    for (int i = 0; i < case_count(60); i++) {
        struct paged_case test = {.positions = (int)random_between(1, MOST_PAGES * ATTENTION_PAGE)};
        struct attention_query queries[ATTENTION_QUERIES];
        int count = (int)random_between(1, ATTENTION_QUERIES);
        test.shape =
            (struct attention_shape){(enum attention_type)(i % 4), (int)random_between(1, MOST_SIZE),
                                     (int)random_between(1, MOST_SIZE), 0.2f, random_chance(30) ? 5 : 0};

        case_begin("type %d, %d x %d, %d positions, %d queries", test.shape.type, test.shape.key_size,
                   test.shape.value_size, test.positions, count);
        test.keys = input_take((size_t)(test.positions * test.shape.key_size) * sizeof(float), 4);
        test.values = input_take((size_t)(test.positions * test.shape.value_size) * sizeof(float), 4);
        float *q = input_take((size_t)(count * test.shape.key_size) * sizeof *q, 4),
              *out = output_take((size_t)(count * test.shape.value_size) * sizeof *out, 4);
        random_fill(DTYPE_F32, test.keys, test.positions * test.shape.key_size, 2);
        random_fill(DTYPE_F32, test.values, test.positions * test.shape.value_size, 2);
        random_fill(DTYPE_F32, q, count * test.shape.key_size, 2);
        make_pages(&test);

        for (int k = 0; k < count; k++) {
            int64_t last = random_between(0, test.positions - 1);
            queries[k] =
                (struct attention_query){q + k * test.shape.key_size, out + k * test.shape.value_size,
                                         random_chance(50) ? 0 : random_between(0, last), last};
        }
        case_seal();
        check_queries(&test, queries, count);
        case_check();
    }
}

static void run_rows(void) {
    for (int i = 0; i < case_count(40); i++) {
        int64_t count = random_extent(300);
        case_begin("%lld numbers", (long long)count);
        float *x = input_take((size_t)count * sizeof *x, 4),
              *scale = input_take((size_t)count * sizeof *x, 4),
              *y = output_take((size_t)count * sizeof *y, 4);
        random_fill(DTYPE_F32, x, count, 12);
        random_fill(DTYPE_F32, scale, count, 2);
        double squares = 0;
        for (int64_t k = 0; k < count; k++)
            squares += (double)x[k] * (double)x[k];

        case_seal();
        for (int t = 0; linear_tables()[t]; t++) {
            linear_tables()[t]->rms_norm(x, count, scale, 1e-5f, y);
            for (int64_t k = 0; k < count; k++)
                expect_near(k, (double)y[k],
                            (double)x[k] / sqrt(squares / (double)count + 1e-5) * (double)scale[k], 1e-5);
            for (int gelu = 0; gelu < 2; gelu++) {
                memcpy(y, x, (size_t)count * sizeof *y);
                linear_tables()[t]->gate(y, scale, count, gelu);
                for (int64_t k = 0; k < count; k++) {
                    double a = (double)x[k], inner = 0.797884560802865 * (a + 0.044715 * a * a * a),
                           act = gelu ? 0.5 * a * (1 + tanh(inner)) : a / (1 + exp(-a));
                    expect_near(k, (double)y[k], act * (double)scale[k], 2e-5);
                }
            }
        }
        case_check();
    }
}

const struct kernel_test paged_tests[] = {
    {"linear: attention over pages", run_pages}, {"linear: norms and gates", run_rows}, {0}};
