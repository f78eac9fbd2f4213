/* Products with activations that are rounded: who computes what. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/checked.h"
#include "linear/kernels.h"

struct linear_input {
    struct linear_prompt prompt;
    struct linear_steps steps;
};

/* --- Which kernels -------------------------------------------------------------------------------------- */

struct linear_kernels linear_kernels_with_tiles(const struct linear_kernels *kernels, const char *name,
                                                const struct linear_tiles *tiles) {
    struct linear_kernels ret = *kernels;
    ret.name = name;
    ret.prepare_prompt = tiles->prepare_prompt;
    ret.multiply_panel = tiles->multiply_panel;
    return ret;
}

#if defined(__x86_64__)
bool linear_tiles_usable(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, LEAF = 7, INT8 = 1 << 25, TILES = 1 << 24 };
    unsigned a, b, c, d;

    if (!__get_cpuid_count(LEAF, 0, &a, &b, &c, &d) || !(d & INT8) || !(d & TILES))
        return false;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

static struct linear_kernels chosen;

static void choose_kernels(void) {
    static const char *const order[] = {"portable", "avx2", "avx512", "amx"};
    const char *limit = getenv("GUICHET_INSTRUCTIONS");
    int most = 3;
    for (int i = 0; limit && i < 3; i++)
        if (strcmp(limit, order[i]) == 0)
            most = i;

    chosen = linear_kernels_portable;
#if defined(__x86_64__)
    __builtin_cpu_init();
    /* processors with AVX2 and FMA have F16C */
    if (most < 1 || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return;
    chosen = linear_kernels_avx2;
    if (most < 2 || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512vnni"))
        return;
    chosen = linear_kernels_avx512;
    if (most >= 3 && linear_tiles_usable())
        chosen = linear_kernels_with_tiles(&linear_kernels_avx512, order[3], &linear_tiles_amx);
#endif
}

const struct linear_kernels *linear_kernels(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose_kernels);
    return &chosen;
}

const char *linear_instructions(void) {
    return linear_kernels()->name;
}

/* --- Input ---------------------------------------------------------------------------------------------- */

static int64_t padded(int64_t count, int64_t to) {
    return (count + to - 1) / to * to;
}

static bool take_memory(void **ret, size_t count, size_t size) {
    size_t whole;
    *ret = size_multiply(count, size, &whole) ? aligned_alloc(64, size_align(whole, 64)) : NULL;
    return *ret;
}

struct linear_input *linear_input_create(int64_t rows, int64_t inputs) {
    struct linear_input *input = calloc(1, sizeof *input);
    size_t all = (size_t)padded(rows, LINEAR_GROUP), stride = (size_t)padded(inputs, LINEAR_CHUNK), numbers;
    if (!input)
        return NULL;

    if (size_multiply(all, stride, &numbers) &&
        take_memory((void **)&input->prompt.words, numbers, sizeof *input->prompt.words) &&
        take_memory((void **)&input->prompt.scales, numbers / LINEAR_CHUNK, sizeof *input->prompt.scales) &&
        take_memory((void **)&input->steps.words, numbers, sizeof *input->steps.words) &&
        take_memory((void **)&input->steps.scales, all, sizeof *input->steps.scales) &&
        take_memory((void **)&input->steps.sums16, numbers / 16, sizeof *input->steps.sums16) &&
        take_memory((void **)&input->steps.sums32, numbers / 32, sizeof *input->steps.sums32))
        return input;
    linear_input_free(input);
    return NULL;
}

void linear_input_free(struct linear_input *input) {
    if (!input)
        return;

    free(input->prompt.words);
    free(input->prompt.scales);
    free(input->steps.words);
    free(input->steps.scales);
    free(input->steps.sums16);
    free(input->steps.sums32);
    free(input);
}

void linear_input_begin(struct linear_input *input, const float *x, int64_t prompts, int64_t steps,
                        int64_t inputs) {
    int64_t all = padded(prompts, LINEAR_GROUP), chunks = padded(inputs, LINEAR_CHUNK) / LINEAR_CHUNK;

    input->prompt.rows = prompts;
    input->prompt.values = x;
    input->prompt.inputs = input->steps.inputs = inputs;
    input->steps.rows = steps;
    input->steps.stride = (size_t)padded(inputs, LINEAR_CHUNK);
    input->steps.values = x + prompts * inputs;

    for (int64_t chunk = 0; chunk < chunks; chunk++) /* what stands beside the last rows counts nothing */
        for (int64_t row = prompts; row < all; row++)
            input->prompt.scales[chunk * all + row] = 0;
}

void linear_input_prepare(const struct linear_input *input, int64_t row) {
    if (row < input->prompt.rows)
        linear_kernels()->prepare_prompt(&input->prompt, row);
    else
        linear_kernels()->prepare_step(&input->steps, row - input->prompt.rows);
}

/* --- Products ------------------------------------------------------------------------------------------- */

_Static_assert(LINEAR_BLOCK *LINEAR_PANEL + LINEAR_PANEL_WORDS / 2 <= LINEAR_SCRATCH,
               "scratch has room for a panel");

/* Rows [first, first + LINEAR_PANEL) of the weights with the prompts. */
static void multiply_prompts(const struct linear_input *input, const struct linear_product *product,
                             int64_t first, float *scratch) {
    int64_t outputs = product->weights->outputs, rows = input->prompt.rows, left = outputs - first;
    float *sums = scratch;
    int16_t *panel = (int16_t *)(void *)(scratch + LINEAR_BLOCK * LINEAR_PANEL);

    for (int64_t begin = 0; begin < rows; begin += LINEAR_BLOCK) {
        int64_t end = rows - begin < LINEAR_BLOCK ? padded(rows, LINEAR_GROUP) : begin + LINEAR_BLOCK;
        linear_kernels()->multiply_panel(product->weights, first, &input->prompt, begin, end, sums, panel);

        for (int64_t row = begin; row < end && row < rows; row++)
            for (int64_t i = 0; i < LINEAR_PANEL && i < left; i++)
                product->y[row * outputs + first + i] =
                    sums[(row - begin) * LINEAR_PANEL + i] + (product->bias ? product->bias[first + i] : 0);
    }
}

/* A part of the rows of one product's weights. */
static void multiply_part(const struct linear_input *input, const struct linear_product *product,
                          int64_t first, int64_t last, float *scratch) {
    const struct linear *weights = product->weights;

    if (weights->type == BLOCK_F32) { /* who has them wants them exact */
        struct linear_steps prompts = {input->prompt.rows, input->prompt.inputs,
                                       .values = input->prompt.values};
        linear_kernels()->multiply_steps(weights, first, last, &prompts, product->bias, product->y);
    } else {
        for (int64_t row = first; input->prompt.rows > 0 && row < last; row += LINEAR_PANEL)
            multiply_prompts(input, product, row, scratch);
    }
    if (input->steps.rows > 0)
        linear_kernels()->multiply_steps(weights, first, last, &input->steps, product->bias,
                                         product->y + input->prompt.rows * weights->outputs);
}

void linear_multiply_input(const struct linear_input *input, const struct linear_product *products, int count,
                           float *scratch) {
    /* a panel is much work for many rows, and little for one */
    int64_t part = input->prompt.rows > 0 ? LINEAR_PANEL : 2 * LINEAR_PANEL, parts = 0;
    for (int i = 0; i < count; i++)
        parts += (products[i].weights->outputs + part - 1) / part;

#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < parts; i++) {
        const struct linear_product *product = products;
        int64_t first = i * part;
        for (; first >= padded(product->weights->outputs, part); product++)
            first -= padded(product->weights->outputs, part);

        int64_t last = first + part;
        multiply_part(input, product, first,
                      last < product->weights->outputs ? last : product->weights->outputs, scratch);
    }
}
