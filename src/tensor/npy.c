#include "tensor/npy.h"

#include <string.h>

static const char magic[6] = "\x93NUMPY";
enum { HEADER_MOST = 64 << 10, ALIGNMENT = 64 };

static const char *const codes[DTYPE_COUNT] = {
    [DTYPE_F32] = "<f4", [DTYPE_F64] = "<f8", [DTYPE_F16] = "<f2", [DTYPE_I8] = "|i1",
    [DTYPE_U8] = "|u1",  [DTYPE_I16] = "<i2", [DTYPE_U16] = "<u2", [DTYPE_I32] = "<i4",
    [DTYPE_U32] = "<u4", [DTYPE_I64] = "<i8", [DTYPE_U64] = "<u8", [DTYPE_BOOL] = "|b1",
};

/* The header: a Python dictionary as text. */
struct npy_scan {
    const char *at, *end;
    struct error *error;
};

static void skip_spaces(struct npy_scan *scan) {
    while (scan->at < scan->end && strchr(" \t\r\n", *scan->at) && *scan->at)
        scan->at++;
}

static bool take(struct npy_scan *scan, char c) {
    skip_spaces(scan);
    if (scan->at == scan->end || *scan->at != c)
        return false;
    scan->at++;
    return true;
}

static bool take_word(struct npy_scan *scan, const char *word) {
    size_t length = strlen(word);
    skip_spaces(scan);
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
        return false;
    scan->at += length;
    return true;
}

static bool damaged(const struct npy_scan *scan) {
    return error_set(scan->error, ERROR_INVALID, "its NPY header is damaged");
}

/* 'text' into `ret`. */
static bool take_text(struct npy_scan *scan, char *ret, size_t size) {
    skip_spaces(scan);
    char quote = scan->at < scan->end ? *scan->at : 0;
    if (quote != '\'' && quote != '"')
        return false;

    const char *start = ++scan->at, *close = memchr(start, quote, (size_t)(scan->end - start));
    if (!close || (size_t)(close - start) >= size)
        return false;
    memcpy(ret, start, (size_t)(close - start));
    ret[close - start] = 0;
    scan->at = close + 1;
    return true;
}

static bool take_dtype(struct npy_scan *scan, enum dtype *ret) {
    char code[32];
    if (!take_text(scan, code, sizeof code))
        return error_set(scan->error, ERROR_INVALID, "holds records, not an array of numbers");

    for (int d = 0; d < DTYPE_COUNT; d++)
        if (codes[d] && (strcmp(code, codes[d]) == 0 || (strcmp(code + 1, codes[d] + 1) == 0 &&
                                                         codes[d][0] == '|' && strchr("<>=", *code)))) {
            *ret = (enum dtype)d;
            return true;
        }
    return error_set(scan->error, ERROR_INVALID,
                     "its element type '%s' is not supported: store little-endian numbers or bool", code);
}

static bool take_shape(struct npy_scan *scan, struct shape *ret) {
    struct shape shape = {0};
    if (!take(scan, '('))
        return damaged(scan);

    while (!take(scan, ')')) {
        int64_t dim = 0;
        const char *start = scan->at;
        for (; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; scan->at++)
            if (__builtin_mul_overflow(dim, 10, &dim) || __builtin_add_overflow(dim, *scan->at - '0', &dim))
                return damaged(scan);
        if (scan->at == start)
            return damaged(scan);
        if (shape.rank == LIMIT_TENSOR_RANK)
            return error_set(scan->error, ERROR_INVALID, "has more than %d dimensions", LIMIT_TENSOR_RANK);
        shape.dims[shape.rank++] = dim;
        if (!take(scan, ',') && (skip_spaces(scan), scan->at == scan->end || *scan->at != ')'))
            return damaged(scan);
    }

    *ret = shape;
    return true;
}

static bool read_header(struct npy_scan *scan, struct tensor *ret) {
    struct tensor tensor = {.shape = SHAPE_UNKNOWN};
    char key[32];
    if (!take(scan, '{'))
        return damaged(scan);

    while (!take(scan, '}')) {
        if (!take_text(scan, key, sizeof key) || !take(scan, ':'))
            return damaged(scan);
        if (strcmp(key, "descr") == 0) {
            if (!take_dtype(scan, &tensor.dtype))
                return false;
        } else if (strcmp(key, "shape") == 0) {
            if (!take_shape(scan, &tensor.shape))
                return false;
        } else if (strcmp(key, "fortran_order") == 0 && !take_word(scan, "False")) {
            return error_set(scan->error, ERROR_INVALID,
                             "is in Fortran order: store numpy.ascontiguousarray(…) of it");
        }
        if (!take(scan, ',') && (skip_spaces(scan), scan->at == scan->end || *scan->at != '}'))
            return damaged(scan);
    }

    if (tensor.dtype == DTYPE_UNKNOWN || tensor.shape.rank < 0)
        return damaged(scan);
    *ret = tensor;
    return true;
}

bool npy_read(const uint8_t *bytes, size_t size, struct tensor *ret, struct error *error) {
    if (size < 12 || memcmp(bytes, magic, sizeof magic) != 0)
        return error_set(error, ERROR_INVALID, "is no NPY file");
    if (bytes[6] < 1 || bytes[6] > 3)
        return error_set(error, ERROR_INVALID, "is NPY version %d, and 1 to 3 are supported", bytes[6]);

    bool wide = bytes[6] > 1;
    size_t start = wide ? 12 : 10, length = bytes[8] | (size_t)bytes[9] << 8;
    if (wide)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length > HEADER_MOST || length > size - start)
        return error_set(error, ERROR_INVALID, "its NPY header is damaged");

    struct npy_scan scan = {(const char *)bytes + start, (const char *)bytes + start + length, error};
    struct tensor tensor;
    char text[SHAPE_TEXT];
    if (!read_header(&scan, &tensor))
        return false;
    if (shape_elements(&tensor.shape) < 0)
        return error_set(error, ERROR_INVALID, "has more elements than the limit, %lld",
                         LIMIT_TENSOR_ELEMENTS);
    if (size - start - length != tensor_bytes(&tensor))
        return error_set(error, ERROR_INVALID, "has %zu bytes of elements, but %s of %s needs %zu",
                         size - start - length, shape_format(&tensor.shape, text, sizeof text),
                         dtype_name(tensor.dtype), tensor_bytes(&tensor));

    tensor.data = (void *)(bytes + start + length);
    *ret = tensor;
    return true;
}

static bool append_elements(struct buffer *buffer, const struct tensor *tensor) {
    int64_t count = shape_elements(&tensor->shape);
    if (tensor->dtype != DTYPE_BF16)
        return buffer_append(buffer, tensor->data, tensor_bytes(tensor));

    char *wide = buffer_extend(buffer, (size_t)count * sizeof(float));
    if (!wide)
        return false;
    for (int64_t i = 0; i < count; i++, wide += sizeof(float)) {
        float value = bf16_to_f32(((const uint16_t *)tensor->data)[i]);
        memcpy(wide, &value, sizeof value);
    }
    return true;
}

bool npy_append(struct buffer *buffer, const struct tensor *tensor) {
    const char *code = codes[tensor->dtype == DTYPE_BF16 ? DTYPE_F32 : tensor->dtype];
    struct buffer header = {0};
    buffer_printf(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (", code ? code : "|V1");
    for (int d = 0; d < tensor->shape.rank; d++)
        buffer_printf(&header, "%lld,%s", (long long)tensor->shape.dims[d],
                      d + 1 < tensor->shape.rank ? " " : "");
    buffer_append_string(&header, "), }");
    while (!header.failed && (header.size + 11) % ALIGNMENT)
        buffer_append(&header, " ", 1);
    buffer_append(&header, "\n", 1);

    const uint8_t start[4] = {1, 0, (uint8_t)header.size, (uint8_t)(header.size >> 8)};
    bool done = !header.failed && buffer_append(buffer, magic, sizeof magic) &&
                buffer_append(buffer, start, sizeof start) &&
                buffer_append(buffer, header.bytes, header.size) && append_elements(buffer, tensor);
    buffer_release(&header);
    return done;
}
