/* What a tensor is: an element type, a shape, and where its elements lie, row-major and contiguous.
 * Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"

enum dtype {
    DTYPE_UNKNOWN = 0,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_BOOL,   /* one byte, 0 or 1 */
    DTYPE_STRING, /* known by name, never computed with */
    DTYPE_COUNT
};

/* Bytes of one element; 0 for DTYPE_UNKNOWN and DTYPE_STRING. */
size_t dtype_size(enum dtype dtype);
/* "float32", "int64", "bool", … */
const char *dtype_name(enum dtype dtype);
bool dtype_is_float(enum dtype dtype);
bool dtype_is_integer(enum dtype dtype); /* bool does not count */

/* rank 0 is a scalar; rank -1: nothing is known. A dimension of -1 is free (not known yet). */
struct shape {
    int rank;
    int64_t dims[LIMIT_TENSOR_RANK];
};

#define SHAPE_UNKNOWN ((struct shape){.rank = -1})

/* Every dimension is known. */
bool shape_is_known(const struct shape *shape);
bool shape_equal(const struct shape *a, const struct shape *b);
/* Elements of a known shape; -1 where it is not known, or holds more than LIMIT_TENSOR_ELEMENTS. 1 for a
 * scalar. */
int64_t shape_elements(const struct shape *shape);
/* "1x3x224x224", "?x1000", "scalar". Writes at most `size` bytes; returns `text`. */
const char *shape_format(const struct shape *shape, char *text, size_t size);
#define SHAPE_TEXT 128
/* ONNX's (numpy's) multidirectional broadcasting of known shapes; false where they don't fit. */
bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *ret);

/* A view: it owns nothing. `data` is aligned for its dtype, except constants in a mapped file, which may not
 * be: onnx_graph_read copies those that are not. */
struct tensor {
    enum dtype dtype;
    struct shape shape;
    void *data;
};

/* Bytes of the elements; 0 where the shape or the type is not known. */
size_t tensor_bytes(const struct tensor *tensor);

/* float16 and bfloat16 <-> float32: round to nearest even; NaN stays NaN. */
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float value);

/* Element `index` of any numeric tensor as a double or an int64 (floats truncate). For small tensors and
 * tests. */
double tensor_get_f64(const struct tensor *tensor, int64_t index);
int64_t tensor_get_i64(const struct tensor *tensor, int64_t index);

/* Convert `count` elements between any two numeric dtypes (Cast of ONNX opset 13: floats truncate towards
 * zero to integers; to bool: not zero). Source and destination do not overlap. */
void elements_convert(enum dtype from, const void *source, enum dtype to, void *destination, int64_t count);
