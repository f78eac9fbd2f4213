/* How keys and values are written to pages; the rest is in the kernels. */
#include "linear/attention.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "linear/kernels.h"
#include "tensor/tensor.h"

enum { SCALED = 32 /* numbers that share a scale in Q8_0 */ };

size_t attention_page_bytes(enum attention_type type, int size) {
    size_t numbers = ATTENTION_PAGE * (size_t)size,
           scales = ATTENTION_PAGE * (size_t)((size + SCALED - 1) / SCALED);
    size_t bytes = type == ATTENTION_F32    ? numbers * sizeof(float)
                   : type == ATTENTION_Q8_0 ? numbers + scales * sizeof(uint16_t)
                                            : numbers * sizeof(uint16_t);
    return size_align(bytes, 64);
}

/* Where numbers of one position go: apart by `step`; scales by `scale_step`. */
struct slot_place {
    size_t first, step, first_scale, scale_step;
};

static void store_q8(void *page, int size, const struct slot_place *place, const float *from) {
    int8_t *numbers = page;
    char *scales = (char *)page + (size_t)ATTENTION_PAGE * (size_t)size;

    for (int start = 0; start < size; start += SCALED) {
        int end = start + SCALED < size ? start + SCALED : size;
        float most = 0;
        for (int i = start; i < end; i++)
            most = fabsf(from[i]) > most ? fabsf(from[i]) : most;

        uint16_t bits = f32_to_f16(most / 127);
        float scale = f16_to_f32(bits), factor = scale > 0 && scale < INFINITY ? 1 / scale : 0;
        memcpy(scales + (place->first_scale + (size_t)(start / SCALED) * place->scale_step) * sizeof bits,
               &bits, sizeof bits);
        for (int i = start; i < end; i++) {
            float number = roundf(from[i] * factor);
            number = number > -127 ? number : -127; /* also where it is none */
            numbers[place->first + (size_t)i * place->step] = (int8_t)(number < 127 ? number : 127);
        }
    }
}

static uint16_t bounded_f16(float x) {
    const float most = 65504;
    return f32_to_f16(x > most ? most : x < -most ? -most : x);
}

static void store(enum attention_type type, void *page, int size, const struct slot_place *place,
                  const float *from) {
    if (type == ATTENTION_Q8_0) {
        store_q8(page, size, place, from);
        return;
    }
    for (int i = 0; i < size; i++) {
        size_t at = place->first + (size_t)i * place->step;
        if (type == ATTENTION_F32)
            ((float *)page)[at] = from[i];
        else
            ((uint16_t *)page)[at] = type == ATTENTION_BF16 ? f32_to_bf16(from[i]) : bounded_f16(from[i]);
    }
}

void attention_store(const struct attention_shape *shape, void *keys, void *values, int slot,
                     const float *key, const float *value) {
    size_t at = (size_t)slot, scales = (size_t)((shape->value_size + SCALED - 1) / SCALED);
    const struct slot_place key_place = {at, ATTENTION_PAGE, at, ATTENTION_PAGE},
                            value_place = {at * (size_t)shape->value_size, 1, at * scales, 1};

    store(shape->type, keys, shape->key_size, &key_place, key);
    store(shape->type, values, shape->value_size, &value_place, value);
}

size_t attention_scratch(const struct attention_shape *shape) {
    size_t values = size_align((size_t)shape->value_size, 8);
    return ATTENTION_PAGE * ((size_t)shape->key_size + values) + ATTENTION_QUERIES * values;
}

void attention_run(const struct attention_shape *shape, const struct attention_pages *pages,
                   const struct attention_query *queries, int count, float *scratch) {
    linear_kernels()->attend(shape, pages, queries, count, scratch);
}

void row_rms_norm(const float *x, int64_t count, const float *scale, float epsilon, float *y) {
    linear_kernels()->rms_norm(x, count, scale, epsilon, y);
}

void row_gate(float *gate, const float *up, int64_t count, bool gelu) {
    linear_kernels()->gate(gate, up, count, gelu);
}
