/* Weights and inner loops of the resampling. Formulas: Pillow's documentation of its filters; Keys 1981 for
 * the cubic with a = -1/2. The result is Pillow's to the bit, so the order of floating-point operations
 * matters. */
#include "image/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_AVX2_KERNELS 1
#endif

enum {
    PRECISION_BITS = 32 - 8 - 2,
    HALF = 1 << (PRECISION_BITS - 1),
    LOW_BITS = 11, /* a weight is high * 2^11 + low, both fit 16 bits */
};

static double filter_triangle(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double filter_cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;

    return 0.0;
}

static double filter_box(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double filter_hamming(double x) {
    x = fabs(x);
    if (x == 0.0)
        return 1.0;
    if (x >= 1.0)
        return 0.0;

    x = x * M_PI;
    return sin(x) / x * (0.54f + 0.46f * cos(x));
}

static double sinc(double x) {
    if (x == 0.0)
        return 1.0;
    x = x * M_PI;
    return sin(x) / x;
}

static double filter_lanczos(double x) {
    return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

struct filter {
    double (*value)(double x);
    double support; /* half its width */
};

static struct filter find_filter(enum image_filter filter) {
    switch (filter) {
    case IMAGE_LANCZOS:
        return (struct filter){filter_lanczos, 3.0};
    case IMAGE_BICUBIC:
        return (struct filter){filter_cubic, 2.0};
    case IMAGE_BOX:
        return (struct filter){filter_box, 0.5};
    case IMAGE_HAMMING:
        return (struct filter){filter_hamming, 1.0};
    default:
        return (struct filter){filter_triangle, 1.0};
    }
}

/* The weights of one output, normalised in double and then rounded; *ret_start: the first input. Returns how
 * many.
 */
static int compute_weights(const struct filter *filter, int from, double scale, int output, double *scratch,
                           int32_t *weights, int *ret_start) {
    double filter_scale = scale < 1.0 ? 1.0 : scale, support = filter->support * filter_scale;
    double center = (output + 0.5) * scale, inverse = 1.0 / filter_scale, total = 0.0;
    int start = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    start = start < 0 ? 0 : start;
    end = end > from ? from : end;

    for (int i = 0; i < end - start; i++) {
        scratch[i] = filter->value((i + start - center + 0.5) * inverse);
        total += scratch[i];
    }

    for (int i = 0; i < end - start; i++) {
        double weight = total != 0.0 ? scratch[i] / total : scratch[i];
        weights[i] = (int32_t)((weight < 0 ? -0.5 : 0.5) + weight * (1 << PRECISION_BITS));
    }

    *ret_start = start;
    return end - start;
}

/* Four weights become eight 16-bit halves, paired as the multiply-add instruction takes them: low 0 1, low 2
 * 3, high 0 1, high 2 3. */
static void split_weights(const int32_t *weights, int count, uint32_t *halves) {
    for (int i = 0; i < count; i += 4, weights += 4, halves += 4)
        for (int pair = 0; pair < 2; pair++) {
            uint32_t a = (uint32_t)weights[2 * pair], b = (uint32_t)weights[2 * pair + 1];
            uint32_t mask = (1u << LOW_BITS) - 1;
            halves[pair] = (a & mask) | (b & mask) << 16;
            halves[2 + pair] = ((uint32_t)(weights[2 * pair] >> LOW_BITS) & 0xffff) |
                               (uint32_t)(weights[2 * pair + 1] >> LOW_BITS) << 16;
        }
}

void taps_release(struct taps *taps) {
    free(taps->starts);
    free(taps->counts);
    free(taps->weights);
    free(taps->halves);
    *taps = (struct taps){0};
}

int taps_stride(int from, int to, enum image_filter filter) {
    double scale = (double)from / to;
    if (from == to || filter == IMAGE_NEAREST)
        return 4;
    return (int)size_align((size_t)ceil(find_filter(filter).support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1,
                           4);
}

static bool taps_allocate(int outputs, int stride, struct taps *ret) {
    size_t cells;
    *ret = (struct taps){.outputs = outputs, .stride = stride};
    if (!size_multiply((size_t)outputs, (size_t)stride, &cells))
        return false;

    ret->starts = calloc((size_t)outputs, sizeof *ret->starts);
    ret->counts = calloc((size_t)outputs, sizeof *ret->counts);
    ret->weights = calloc(cells, sizeof *ret->weights);
    ret->halves = malloc(cells * sizeof *ret->halves);
    return ret->starts && ret->counts && ret->weights && ret->halves;
}

/* Pillow adds the step repeatedly instead of multiplying: its rounding is part of the result. */
static void find_nearest(int from, int to, int first, const struct taps *taps) {
    double step = (double)from / to, position = step * 0.5;
    for (int i = 0; i < first + taps->outputs; i++, position += step) {
        if (i < first)
            continue;

        bool inside = position >= 0.0 && position < from;
        taps->starts[i - first] = inside ? (int)position : from - 1;
        taps->counts[i - first] = inside;
        taps->weights[(size_t)(i - first) * (size_t)taps->stride] = inside << PRECISION_BITS;
    }
}

static void find_taps(int from, int to, enum image_filter number, int first, double *scratch,
                      const struct taps *taps) {
    struct filter filter = find_filter(number);
    for (int i = 0; i < taps->outputs; i++)
        taps->counts[i] = compute_weights(&filter, from, (double)from / to, first + i, scratch,
                                          taps->weights + (size_t)i * (size_t)taps->stride, &taps->starts[i]);
}

static void split_all_weights(const struct taps *taps) {
    for (int i = 0; i < taps->outputs; i++) {
        size_t row = (size_t)i * (size_t)taps->stride;
        split_weights(taps->weights + row, taps->stride, taps->halves + row);
    }
}

bool taps_create(int from, int to, enum image_filter filter, int first, int outputs, struct taps *ret,
                 struct error *error) {
    struct taps taps = {0};
    int stride = taps_stride(from, to, filter);
    cleanup(freep) double *scratch = malloc((size_t)stride * sizeof *scratch);
    if (!scratch || !taps_allocate(outputs, stride, &taps)) {
        taps_release(&taps);
        return error_set(error, ERROR_MEMORY, "no memory to resize an image of %d pixels to %d", from, to);
    }

    if (from == to || filter == IMAGE_NEAREST)
        find_nearest(from, to, first, &taps);
    else
        find_taps(from, to, filter, first, scratch, &taps);
    split_all_weights(&taps);
    *ret = taps;
    return true;
}

void taps_mirror(struct taps *taps, int from) {
    for (int i = 0; i < taps->outputs; i++) {
        int count = taps->counts[i];
        int32_t *weights = taps->weights + (size_t)i * (size_t)taps->stride;
        taps->starts[i] = count ? from - taps->starts[i] - count : 0;

        for (int t = 0; t < count / 2; t++) {
            int32_t weight = weights[t];
            weights[t] = weights[count - 1 - t];
            weights[count - 1 - t] = weight;
        }
    }
    split_all_weights(taps);
}

static inline uint8_t clip(int32_t sum) {
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static inline __attribute__((always_inline)) void resample_pixel(const uint8_t *source,
                                                                 const struct taps *taps, int i,
                                                                 uint8_t *target) {
    const uint8_t *pixel = source + 3 * (size_t)taps->starts[i];
    const int32_t *weights = taps->weights + (size_t)i * (size_t)taps->stride;
    int32_t red = HALF, green = HALF, blue = HALF;
    for (int t = 0; t < taps->counts[i]; t++, pixel += 3) {
        red += pixel[0] * weights[t];
        green += pixel[1] * weights[t];
        blue += pixel[2] * weights[t];
    }

    target[0] = clip(red);
    target[1] = clip(green);
    target[2] = clip(blue);
}

void resample_row_portable(const uint8_t *source, const struct taps *taps, uint8_t *target) {
    for (int i = 0; i < taps->outputs; i++)
        resample_pixel(source, taps, i, target + 3 * i);
}

enum { COLUMN_BLOCK = 64 };

static inline __attribute__((always_inline)) void column_block(const uint8_t *source, size_t stride,
                                                               const int32_t *weights, int count,
                                                               uint8_t *target, size_t bytes) {
    int32_t sums[COLUMN_BLOCK];
    for (size_t i = 0; i < bytes; i++)
        sums[i] = HALF;

    for (int t = 0; t < count; t++, source += stride)
        for (size_t i = 0; i < bytes; i++)
            sums[i] += source[i] * weights[t];

    for (size_t i = 0; i < bytes; i++)
        target[i] = clip(sums[i]);
}

static inline __attribute__((always_inline)) void column_loop(const uint8_t *source, size_t stride,
                                                              const int32_t *weights, int count,
                                                              uint8_t *target, size_t bytes) {
    size_t done = 0;
    for (; bytes - done >= COLUMN_BLOCK; done += COLUMN_BLOCK)
        column_block(source + done, stride, weights, count, target + done, COLUMN_BLOCK);
    column_block(source + done, stride, weights, count, target + done, bytes - done);
}

void resample_column_portable(const uint8_t *source, size_t stride, const int32_t *weights, int count,
                              uint8_t *target, size_t bytes) {
    column_loop(source, stride, weights, count, target, bytes);
}

#if HAVE_AVX2_KERNELS
/* Four taps a step: the 12 bytes of four pixels are spread over two lanes as 16-bit pairs (r0 r1, g0 g1, b0
 * b1 | r2 r3, …), multiplied by both halves of their weights and added pairwise. Sums wrap modulo 2^32, which
 * is exact where the true sum fits 32 bits, as it does with normalised weights. */
__attribute__((target("avx2"))) static void resample_row_avx2(const uint8_t *source, const struct taps *taps,
                                                              uint8_t *target) {
    const __m256i spread =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, /* taps 0 1 */
                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i lanes_low = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i lanes_high = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);

    for (int i = 0; i < taps->outputs; i++) {
        const uint8_t *pixel = source + 3 * (size_t)taps->starts[i];
        const uint32_t *halves = taps->halves + (size_t)i * (size_t)taps->stride;
        __m256i low = _mm256_setzero_si256(), high = low;
        for (int t = 0; t < taps->counts[i]; t += 4, pixel += 12, halves += 4) {
            __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)pixel));
            __m256i pairs = _mm256_shuffle_epi8(bytes, spread);
            __m256i weights = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)halves));
            low = _mm256_add_epi32(low,
                                   _mm256_madd_epi16(pairs, _mm256_permutevar8x32_epi32(weights, lanes_low)));
            high = _mm256_add_epi32(
                high, _mm256_madd_epi16(pairs, _mm256_permutevar8x32_epi32(weights, lanes_high)));
        }
        __m256i both = _mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low);
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(HALF)), PRECISION_BITS);
        sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
        uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(sum);
        target[3 * i] = (uint8_t)rgb;
        target[3 * i + 1] = (uint8_t)(rgb >> 8);
        target[3 * i + 2] = (uint8_t)(rgb >> 16);
    }
}

__attribute__((target("avx2"))) static void resample_column_avx2(const uint8_t *source, size_t stride,
                                                                 const int32_t *weights, int count,
                                                                 uint8_t *target, size_t bytes) {
    column_loop(source, stride, weights, count, target, bytes);
}
#endif

void resample_row(const uint8_t *source, size_t slack, const struct taps *taps, uint8_t *target) {
#if HAVE_AVX2_KERNELS
    if (slack >= RESAMPLE_SLACK && __builtin_cpu_supports("avx2")) {
        resample_row_avx2(source, taps, target);
        return;
    }
#endif
    resample_row_portable(source, taps, target);
}

void resample_column(const uint8_t *source, size_t stride, const int32_t *weights, int count, uint8_t *target,
                     size_t bytes) {
#if HAVE_AVX2_KERNELS
    if (__builtin_cpu_supports("avx2")) {
        resample_column_avx2(source, stride, weights, count, target, bytes);
        return;
    }
#endif
    resample_column_portable(source, stride, weights, count, target, bytes);
}
