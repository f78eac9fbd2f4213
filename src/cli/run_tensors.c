#include "cli/run_tensors.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "onnx/onnx.h"
#include "tensor/npy.h"

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* A copy of `from` as elements of `dtype`. */
static bool convert(const char *path, const struct tensor *from, enum dtype dtype, struct tensor *ret,
                    struct error *error) {
    bool halves = from->dtype == DTYPE_F32 && (dtype == DTYPE_F16 || dtype == DTYPE_BF16);
    int64_t count = shape_elements(&from->shape);
    if (from->dtype != dtype && !halves)
        return error_set(error, ERROR_INVALID, "%s holds %s, and %s is wanted", path, dtype_name(from->dtype),
                         dtype_name(dtype));

    struct tensor copy = {dtype, from->shape, NULL};
    copy.data = aligned_alloc(64, size_align(tensor_bytes(&copy) + 1, 64));
    if (!copy.data)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", path);
    if (halves)
        elements_convert(from->dtype, from->data, dtype, copy.data, count);
    else
        memcpy(copy.data, from->data, tensor_bytes(&copy));

    *ret = copy;
    return true;
}

/* Elements without a header; float32 where halves are wanted and there are twice as many bytes. */
static bool read_raw(const char *path, const char *bytes, size_t size, enum dtype dtype,
                     const struct shape *shape, struct tensor *ret, struct error *error) {
    struct tensor raw = {dtype, *shape, (void *)bytes};
    char text[SHAPE_TEXT];
    if (!shape_is_known(shape))
        return error_set(error, ERROR_INVALID,
                         "%s is raw, so its shape must be given: --shape NAME=1x3x224x224", path);

    if (size != tensor_bytes(&raw) && dtype_size(dtype) == 2 && dtype_is_float(dtype))
        raw.dtype = DTYPE_F32;
    if (size != tensor_bytes(&raw))
        return error_set(error, ERROR_INVALID, "%s has %zu bytes, but a %s tensor of shape %s has %zu", path,
                         size, dtype_name(raw.dtype), shape_format(shape, text, sizeof text),
                         tensor_bytes(&raw));
    return convert(path, &raw, dtype, ret, error);
}

static bool read_pb(const char *path, enum dtype dtype, struct tensor *ret, struct error *error) {
    struct tensor tensor;
    if (!onnx_tensor_read(path, &tensor, error))
        return false;
    bool done = convert(path, &tensor, dtype, ret, error);
    free(tensor.data);
    return done;
}

bool run_tensor_read(const char *path, enum dtype dtype, const struct shape *shape, struct tensor *ret,
                     struct error *error) {
    size_t size;
    struct tensor tensor;
    if (!dtype_size(dtype))
        return error_set(error, ERROR_INVALID, "%s: %s cannot be given in a file", path, dtype_name(dtype));
    if (ends_with(path, ".pb"))
        return read_pb(path, dtype, ret, error);

    cleanup(freep) char *bytes = file_read(path, LIMIT_MODEL_BYTES, &size, error);
    if (!bytes)
        return false;
    if (!ends_with(path, ".npy"))
        return read_raw(path, bytes, size, dtype, shape, ret, error);
    if (!npy_read((const uint8_t *)bytes, size, &tensor, error))
        return error_prefix(error, "%s", path);
    return convert(path, &tensor, dtype, ret, error);
}

void run_file_name(const char *name, char *ret, size_t size) {
    size_t used = 0;
    for (; *name && used + 1 < size; name++) {
        unsigned char c = (unsigned char)*name;
        ret[used] = isalnum(c) || c == '-' || c == '_' || (c == '.' && used) ? (char)c : '_';
        used++;
    }
    ret[used] = 0;
}

bool run_tensor_write(const char *folder, const char *file, const struct tensor *tensor,
                      struct error *error) {
    cleanup(freep) char *path = NULL;
    struct buffer bytes = {0};
    if (!dtype_size(tensor->dtype))
        return error_set(error, ERROR_INVALID, "%s: %s cannot be written", file, dtype_name(tensor->dtype));
    if (asprintf(&path, "%s/%s.npy", folder, file) < 0)
        path = NULL;
    if (!path || !npy_append(&bytes, tensor)) {
        buffer_release(&bytes);
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tensor", file);
    }

    bool done = file_write(path, bytes.bytes, bytes.size, error);
    buffer_release(&bytes);
    return done;
}

double run_tensor_difference(const struct tensor *actual, const struct tensor *expected) {
    double largest = 0, difference = 0;
    if (!shape_equal(&actual->shape, &expected->shape))
        return -1;

    for (int64_t i = 0; i < shape_elements(&expected->shape); i++) {
        double a = tensor_get_f64(actual, i), b = tensor_get_f64(expected, i);
        if (isfinite(b))
            largest = fmax(largest, fabs(b));
        if (a == b || (isnan(a) && isnan(b)))
            continue;
        difference = isfinite(a) && isfinite(b) ? fmax(difference, fabs(a - b)) : INFINITY;
    }
    return difference == 0 ? 0 : difference / fmax(largest, 1e-30);
}
