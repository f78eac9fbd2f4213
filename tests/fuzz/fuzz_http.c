/* Any bytes as what HTTP brings in: the first byte chooses the parser. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/url.h"
#include "http/multipart.h"
#include "http/parser.h"
#include "http/response_reader.h"
#include "server/backend/protocol/json_numbers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void parse_request(const char *bytes, size_t size) {
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
    http_head_parse_request(text, (size_t)length, headers, scanner.lines, &head, &reason);
    free(headers);
    free(text);
}

/* What a client learns from a response. */
struct outcome {
    enum http_response_event event; /* the last */
    size_t used;                    /* bytes of the response, if it is complete */
    int status, header_count;
    uint64_t body; /* a hash */
};

/* Read a response in pieces of up to `most` bytes. */
static struct outcome read_response(const char *bytes, size_t size, size_t most) {
    struct http_response_reader reader = {.to_head = false};
    struct http_response response = {.status = 0};
    struct outcome outcome = {.event = HTTP_RESPONSE_MORE};

    for (size_t at = 0, end = 0; at < size || end < size;) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        if (at == end)
            end += size - end < 1 + at % most ? size - end : 1 + at % most;
        outcome.event = http_response_read(&reader, bytes + at, end - at, &used, &run, &run_size, &response);
        at += used;

        for (size_t i = 0; outcome.event == HTTP_RESPONSE_DATA && i < run_size; i++)
            outcome.body = outcome.body * 31 + (uint8_t)run[i];
        if (outcome.event == HTTP_RESPONSE_END)
            outcome.used = at;
        if (outcome.event == HTTP_RESPONSE_END || outcome.event == HTTP_RESPONSE_MALFORMED)
            break;
    }

    for (int i = 0; i < response.header_count; i++)
        outcome.header_count +=
            (int)strlen(response.headers[i].name) + (int)strlen(response.headers[i].value);
    outcome.status = response.status;
    http_response_reader_release(&reader);
    return outcome;
}

/* However a response is cut into pieces, it says the same. */
static void compare_responses(const char *bytes, size_t size) {
    struct outcome whole = read_response(bytes, size, SIZE_MAX);
    for (size_t most = 1; most < 40; most = most * 3 + 1) {
        struct outcome pieces = read_response(bytes, size, most);
        bool ended = whole.event == HTTP_RESPONSE_END || whole.event == HTTP_RESPONSE_MALFORMED;
        if ((ended && whole.event != pieces.event) || whole.used != pieces.used ||
            whole.status != pieces.status || whole.header_count != pieces.header_count ||
            whole.body != pieces.body)
            abort();
    }
}

static void decode_chunks(const char *bytes, size_t size) {
    struct http_body_decoder decoder = {.framing = HTTP_BODY_CHUNKED};
    for (size_t at = 0; at < size;) {
        size_t used = 0, run_size = 0;
        const char *run;
        size_t piece = size - at < 7 ? size - at : 7;
        enum http_decode_result result =
            http_body_decode(&decoder, bytes + at, piece, &used, &run, &run_size);
        if (result == HTTP_DECODE_END || result == HTTP_DECODE_BAD)
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
    struct memory_charge charge = {0};
    if (rest.size)
        json_release(json_parse(rest.bytes, rest.size, NULL, &charge, &error), &charge);
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
    char decoded[64], origin[URL_ORIGIN_BYTES];
    memcpy(text, bytes + 1, --size);
    text[size] = 0;
    switch (bytes[0] % 6) {
    case 0:
        parse_request(text, size);
        break;
    case 1:
        compare_responses(text, size);
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
        if (url_parse_base(text, &url, &error))
            url_write_origin(&url, origin);
        url_query_get(text, "a", decoded, sizeof decoded);
    }
    free(text);
    return 0;
}
