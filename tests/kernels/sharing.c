/* Kernels keep no state: two threads that run one at once, on the same inputs, make what one thread makes. */
#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "kernels.h"
#include "plan/kernels.h"

#define ROUNDS 20
#define ROWS 33
#define COLUMNS 65
#define ELEMENTS (ROWS * COLUMNS)

/* What every kernel reads. */
static struct {
    const float *x, *scale;
    const uint8_t *bytes;
    const int32_t *sources;
} shared;

/* What every kernel writes, for one thread. */
struct results {
    float norm[ELEMENTS], attention[ELEMENTS], real[ELEMENTS];
    uint8_t gathered[ELEMENTS], joined[2 * ELEMENTS], quantized[ELEMENTS], sum[ELEMENTS];
};

static void run_attention(struct results *results) {
    struct kernel_attention attention = {
        .dtype = DTYPE_F32,
        .batches = 1,
        .heads = 1,
        .queries = ROWS,
        .keys = ROWS,
        .depth = COLUMNS,
        .value_depth = COLUMNS,
        .scale = 0.1f,
        .q_strides = {ELEMENTS, ELEMENTS, COLUMNS, 1},
        .k_strides = {ELEMENTS, ELEMENTS, COLUMNS, 1},
        .v_strides = {ELEMENTS, ELEMENTS, COLUMNS, 1},
        .out_strides = {ELEMENTS, ELEMENTS, COLUMNS, 1},
    };
    _Alignas(64) unsigned char scratch[128 << 10];

    if (kernel_attention_scratch(&attention, 1) <= sizeof scratch)
        kernel_attention(&attention, shared.x, shared.x, shared.x, results->attention, scratch, 1);
}

static void run_all(struct results *results) {
    const struct kernel_layer_norm norm = {DTYPE_F32, ROWS, COLUMNS, 1e-5f};
    const struct kernel_quantization quantization = {DTYPE_F32, DTYPE_U8, 0.03f, 128, ELEMENTS};
    const struct kernel_quantized_addition addition = {.a_dtype = DTYPE_U8,
                                                       .b_dtype = DTYPE_I8,
                                                       .y_dtype = DTYPE_U8,
                                                       .a_factor = 0.5f,
                                                       .b_factor = 0.7f,
                                                       .count = ELEMENTS};
    const void *inputs[2] = {shared.bytes, shared.bytes};
    const size_t bytes[2] = {COLUMNS, COLUMNS};

    omp_set_num_threads(1);
    kernel_layer_norm(&norm, shared.x, shared.scale, NULL, results->norm);
    run_attention(results);
    kernel_gather_rows(shared.bytes, shared.sources, ROWS, COLUMNS, results->gathered);
    kernel_concat_rows(inputs, bytes, 2, ROWS, results->joined);
    kernel_quantize(&quantization, shared.x, results->quantized);
    kernel_dequantize(&quantization, shared.bytes, results->real);
    kernel_quantized_add(&addition, shared.bytes, shared.bytes, results->sum);
}

static void *worker(void *results) {
    run_all(results);
    return NULL;
}

static void two_at_once(void) {
    for (int i = 0; i < case_count(ROUNDS); i++) {
        case_begin("%dx%d elements", ROWS, COLUMNS);
        float *x = input_take(ELEMENTS * sizeof *x, sizeof *x), *scale = input_take(COLUMNS * sizeof *x, 4);
        uint8_t *bytes = input_take(ELEMENTS, 1);
        int32_t *sources = input_take(ROWS * sizeof *sources, sizeof *sources);
        random_fill(DTYPE_F32, x, ELEMENTS, 4);
        random_fill(DTYPE_F32, scale, COLUMNS, 2);
        random_fill(DTYPE_U8, bytes, ELEMENTS, 0);
        for (int row = 0; row < ROWS; row++)
            sources[row] = (int32_t)random_between(-1, ROWS - 1);
        shared.x = x;
        shared.scale = scale;
        shared.bytes = bytes;
        shared.sources = sources;

        struct results *first = output_take(sizeof *first, 64), *second = output_take(sizeof *second, 64);
        struct results *expected = expected_take(first, sizeof *first);
        memcpy(second, first, sizeof *second);
        case_seal();
        run_all(expected);
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, second) != 0)
            case_fail("no thread");
        run_all(first);
        pthread_join(thread, NULL);
        case_check();
        expect_bytes(first, expected, sizeof *first, 1);
        expect_bytes(second, expected, sizeof *second, 1);
    }
}

const struct kernel_test sharing_tests[] = {
    {"two_threads_at_once", two_at_once},
    {NULL, NULL},
};
