/* Any bytes as what HTTP brings in: the first byte chooses the parser. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/json.h"
#include "http/multipart.h"
#include "http/parser.h"
#include "http/url.h"
#include "serve/numbers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void parse_head(const char *bytes, size_t size, bool answer) {
    struct http_head_scanner scanner = {0};
    ptrdiff_t length = 0;
    for (size_t part = 0; !length && part <= size; part += 1 + part / 4)
        length = http_head_scan(&scanner, bytes, part);
    if (!length)
        length = http_head_scan(&scanner, bytes, size);
    if (length <= 0)
        return;
    char *text = malloc((size_t)length + 1);
    struct http_header *headers = calloc((size_t)scanner.lines, sizeof *headers);
    struct http_head head;
    const char *reason;
    memcpy(text, bytes, (size_t)length);
    text[length] = 0;
    if (answer)
        http_head_parse_answer(text, (size_t)length, false, headers, scanner.lines, &head, &reason);
    else
        http_head_parse_request(text, (size_t)length, headers, scanner.lines, &head, &reason);
    free(headers);
    free(text);
}

static void decode_chunks(const char *bytes, size_t size) {
    struct http_chunk_decoder decoder = {0};
    for (size_t at = 0; at < size;) {
        size_t used = 0, run_size = 0;
        const char *run;
        size_t piece = size - at < 7 ? size - at : 7;
        enum http_chunk_result result =
            http_chunk_decode(&decoder, bytes + at, piece, &used, &run, &run_size);
        if (result == HTTP_CHUNK_END || result == HTTP_CHUNK_BAD)
            return;
        at += used;
    }
}

static void read_numbers(const char *bytes, size_t size) {
    struct buffer rest = {0};
    struct numbers_span spans[NUMBERS_SPANS];
    struct error error;
    int count = 0;
    numbers_extract(bytes, size, "data", &rest, spans, &count, &error);
    for (int i = 0; i < count; i++) {
        float values[64];
        int64_t dims[LIMIT_TENSOR_RANK];
        size_t read;
        int rank;
        numbers_read_f32(&spans[i], values, 64, &read, dims, &rank, &error);
    }
    if (rest.size)
        json_decref(json_parse(rest.bytes, rest.size, &error));
    buffer_release(&rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (!size)
        return 0;
    /* A copy of its own size, so that a read past its end is seen. */
    char *text = malloc(size);
    struct multipart_part part;
    struct error error;
    struct url url;
    char decoded[64];
    memcpy(text, bytes + 1, --size);
    text[size] = 0;
    switch (bytes[0] % 6) {
    case 0:
    case 1:
        parse_head(text, size, bytes[0] % 6);
        break;
    case 2:
        decode_chunks(text, size);
        break;
    case 3:
        multipart_find("multipart/form-data; boundary=b", text, size, "file", &part, &error);
        break;
    case 4:
        read_numbers(text, size);
        break;
    default:
        url_parse(text, &url, &error);
        url_query_get(text, "a", decoded, sizeof decoded);
    }
    free(text);
    return 0;
}
