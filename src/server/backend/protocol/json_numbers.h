/* Large arrays of numbers in JSON, read straight into a tensor's memory: a JSON library makes an object of
 * every number. All input is hostile. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/limits.h"

#define NUMBERS_SPANS 256 /* arrays taken out of one text */

/* An array, brackets included, within the text it was taken from. */
struct numbers_span {
    const char *text;
    size_t size;
};

/* Copy a JSON text to `rest`, and put in the place of every array that is the value of a key named `key`
 * (NULL: of any) and begins with a number or a truth value an array with the index of its span alone. No
 * other array of one whole number is then left there. False where there are more than NUMBERS_SPANS, or
 * memory is out. The text need not be sound: what is wrong with it stays in the rest, or in the span. */
bool numbers_extract(const char *json, size_t size, const char *key, struct buffer *rest,
                     struct numbers_span *spans, int *ret_count, struct error *error);

/* Read a possibly nested array, true and false being 1 and 0. dims[*ret_rank]: the lengths of its levels, all
 * of which must be regular. `values`: room for `capacity`; *ret_count are set. ERROR_INVALID with the place
 * where it is no array of numbers, too long, or a number is out of the type's range. */
bool numbers_read_f32(const struct numbers_span *span, float *values, size_t capacity, size_t *ret_count,
                      int64_t *dims, int *ret_rank, struct error *error);
bool numbers_read_f64(const struct numbers_span *span, double *values, size_t capacity, size_t *ret_count,
                      int64_t *dims, int *ret_rank, struct error *error);
