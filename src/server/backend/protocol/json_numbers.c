#include "server/backend/protocol/json_numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t skip_blanks(const char *text, size_t at, size_t size) {
    while (at < size && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t'))
        at++;
    return at;
}

/* Behind the string that begins at `at`. */
static size_t skip_string(const char *text, size_t at, size_t size) {
    for (at++; at < size && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at < size ? at + 1 : size;
}

/* Behind the array of numbers that begins at `at`; 0 where it holds anything else before its end. */
static size_t skip_numbers(const char *text, size_t at, size_t size) {
    int depth = 0;
    for (; at < size; at++) {
        char c = text[at];
        if (c == '[')
            depth++;
        else if (c == ']' && !--depth)
            return at + 1;
        else if (c == '"' || c == '{' || c == '}')
            return 0;
    }

    return 0;
}

static bool begins_with_number(const char *text, size_t at, size_t size) {
    while (at < size &&
           (text[at] == '[' || text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t'))
        at++;
    return at < size && text[at] && strchr("-0123456789tf", text[at]);
}

bool numbers_extract(const char *json, size_t size, const char *key, struct buffer *rest,
                     struct numbers_span *spans, int *ret_count, struct error *error) {
    size_t key_length = key ? strlen(key) : 0, copied = 0;
    int count = 0;

    for (size_t at = 0; at < size;) {
        if (json[at] != '"') {
            at++;
            continue;
        }
        size_t start = at + 1;
        at = skip_string(json, at, size);
        if (key && (at - start != key_length + 1 || memcmp(json + start, key, key_length) != 0))
            continue;
        size_t colon = skip_blanks(json, at, size);
        size_t value = colon < size && json[colon] == ':' ? skip_blanks(json, colon + 1, size) : size;
        if (value >= size || json[value] != '[' || !begins_with_number(json, value, size))
            continue;
        size_t end = skip_numbers(json, value, size);
        if (!end)
            continue;
        if (count == NUMBERS_SPANS)
            return error_set(error, ERROR_INVALID, "more than %d tensors in one request", NUMBERS_SPANS);
        buffer_append(rest, json + copied, value - copied);
        buffer_printf(rest, "[%d]", count);
        spans[count++] = (struct numbers_span){json + value, end - value};
        at = copied = end;
    }

    if (!buffer_append(rest, json + copied, size - copied))
        return error_set(error, ERROR_MEMORY, "not enough memory for the request");

    *ret_count = count;
    return true;
}

/* ---- Numbers ---- */

/* One number at *at. Up to 19 digits and a small power of ten are exact in double arithmetic (Clinger, 1990);
 * the rest is strtod's. */
static bool read_number(const char **at, const char *end, double *ret) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *c = *at, *start = c;
    bool negative = c < end && *c == '-';
    c += negative;
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    const char *whole = c;

    for (; c < end && *c >= '0' && *c <= '9'; c++, digits++)
        mantissa = mantissa * 10 + (uint64_t)(*c - '0');
    if (c == whole)
        return false;

    if (c < end && *c == '.') {
        const char *fraction = ++c;
        for (; c < end && *c >= '0' && *c <= '9'; c++, digits++, exponent--)
            mantissa = mantissa * 10 + (uint64_t)(*c - '0');
        if (c == fraction)
            return false;
    }

    if (c < end && (*c == 'e' || *c == 'E')) {
        c++;
        bool small = c < end && *c == '-';
        c += c < end && (*c == '-' || *c == '+');
        const char *power = c;
        int value = 0;
        for (; c < end && *c >= '0' && *c <= '9'; c++)
            value = value < 10000 ? value * 10 + (*c - '0') : value;
        if (c == power)
            return false;
        exponent += small ? -value : value;
    }

    if (digits <= 19 && mantissa <= (1ull << 53) && exponent >= -22 && exponent <= 22) {
        double value =
            exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
        *ret = negative ? -value : value;
    } else {
        char text[400]; /* longer ones are no numbers that a program writes */
        size_t length = (size_t)(c - start);
        if (length >= sizeof text)
            return false;
        memcpy(text, start, length);
        text[length] = 0;
        *ret = strtod(text, NULL);
    }

    *at = c;
    return true;
}

static bool read_value(const char **at, const char *end, double *ret) {
    if (end - *at >= 4 && !memcmp(*at, "true", 4)) {
        *ret = 1;
        *at += 4;
        return true;
    }

    if (end - *at >= 5 && !memcmp(*at, "false", 5)) {
        *ret = 0;
        *at += 5;
        return true;
    }

    return read_number(at, end, ret);
}

/* ---- Arrays ---- */

/* Where in a nested array the reader is. */
struct nesting {
    int depth, leaf;                       /* the leaf's depth; 0: no number yet */
    int64_t counts[LIMIT_TENSOR_RANK + 1]; /* so far, of the open array at each depth */
    int64_t dims[LIMIT_TENSOR_RANK + 1];   /* of the first closed one; -1: none yet */
    bool value_due;                        /* behind a comma, or at the start of an array */
    bool comma_due;
};

static bool open_array(struct nesting *nesting) {
    if (nesting->comma_due || nesting->depth == LIMIT_TENSOR_RANK ||
        (nesting->leaf && nesting->depth >= nesting->leaf))
        return false;

    nesting->counts[nesting->depth]++;
    nesting->counts[++nesting->depth] = 0;
    nesting->value_due = false;

    return true;
}

static bool close_array(struct nesting *nesting) {
    int depth = nesting->depth;
    if (!depth || nesting->value_due || !nesting->counts[depth])
        return false;

    if (nesting->dims[depth] < 0)
        nesting->dims[depth] = nesting->counts[depth];
    nesting->comma_due = true;
    nesting->depth--;

    return nesting->dims[depth] == nesting->counts[depth];
}

static bool note_value(struct nesting *nesting) {
    if (nesting->comma_due || !nesting->depth || (nesting->leaf && nesting->leaf != nesting->depth))
        return false;

    nesting->leaf = nesting->depth;
    nesting->counts[nesting->depth]++;
    nesting->comma_due = true;
    nesting->value_due = false;

    return true;
}

static bool is_at_comma(struct nesting *nesting) {
    bool good = nesting->comma_due && nesting->depth > 0;
    nesting->comma_due = false;
    nesting->value_due = true;
    return good;
}

static bool read_array(const struct numbers_span *span, float *f32, double *f64, size_t capacity,
                       size_t *ret_count, int64_t *dims, int *ret_rank, struct error *error) {
    struct nesting nesting = {0};
    memset(nesting.dims, 0xff, sizeof nesting.dims);
    const char *at = span->text, *end = span->text + span->size;
    size_t count = 0;
    bool good = true;
    while (good && at < end) {
        const char *start = at;
        char c = *at;
        double value;
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
            at++;
        } else if (c == '[' || c == ']' || c == ',') {
            good = c == '[' ? open_array(&nesting) : c == ']' ? close_array(&nesting) : is_at_comma(&nesting);
            at += good;
        } else if ((good = note_value(&nesting) && read_value(&at, end, &value))) {
            if (!isfinite(f32 ? (float)value : value))
                return error_set(error, ERROR_INVALID, "%.*s is out of range",
                                 (int)(at - start > 40 ? 40 : at - start), start);
            if (count == capacity)
                return error_set(error, ERROR_INVALID, "a tensor has more than the %zu values of its shape",
                                 capacity);
            if (f32)
                f32[count++] = (float)value;
            else
                f64[count++] = value;
        }
    }

    if (!good || nesting.depth || !nesting.leaf)
        return error_set(error, ERROR_INVALID,
                         "a tensor's data is not a regular array of numbers, near \"%.*s\"",
                         end - at > 20 ? 20 : (int)(end - at), at);

    memcpy(dims, nesting.dims + 1, (size_t)nesting.leaf * sizeof *dims);
    *ret_rank = nesting.leaf;
    *ret_count = count;

    return true;
}

bool numbers_read_f32(const struct numbers_span *span, float *values, size_t capacity, size_t *ret_count,
                      int64_t *dims, int *ret_rank, struct error *error) {
    return read_array(span, values, NULL, capacity, ret_count, dims, ret_rank, error);
}

bool numbers_read_f64(const struct numbers_span *span, double *values, size_t capacity, size_t *ret_count,
                      int64_t *dims, int *ret_rank, struct error *error) {
    return read_array(span, NULL, values, capacity, ret_count, dims, ret_rank, error);
}
