#include "http/response_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

static enum http_response_event malformed(struct http_response_reader *reader, const char *reason) {
    reader->reason = reason;
    return HTTP_RESPONSE_MALFORMED;
}

/* A head is complete. */
static enum http_response_event parse_head(struct http_response_reader *reader, const char *bytes,
                                           size_t size, struct http_response *response) {
    int lines = reader->scanner.lines;
    size_t table = (size_t)lines * sizeof(struct http_header);
    reader->scanner = (struct http_head_scanner){0};

    free(reader->memory);
    char *memory = reader->memory = malloc(table + size + 1);
    if (!memory)
        return HTTP_RESPONSE_NO_MEMORY;

    char *text = memory + table;
    memcpy(text, bytes, size);
    text[size] = 0;

    struct http_head head;
    const char *reason = "";
    if (http_head_parse_response(text, size, reader->to_head, (struct http_header *)(void *)memory, lines,
                                 &head, &reason))
        return malformed(reader, reason);

    if (head.status == 101)
        return malformed(reader, "the response switches to a protocol that was not asked for");
    if (head.status < 200) /* interim */
        return HTTP_RESPONSE_MORE;

    response->status = head.status;
    response->headers = head.headers;
    response->header_count = head.header_count;
    response->content_length = head.has_length ? (int64_t)head.content_length : -1;
    reader->in_body = true;
    reader->keep_alive = head.keep_alive;
    http_body_decoder_init(&reader->decoder, &head);

    return HTTP_RESPONSE_HEAD;
}

static enum http_response_event read_head(struct http_response_reader *reader, const char *bytes, size_t size,
                                          size_t *ret_used, struct http_response *response) {
    size_t before = reader->partial.size;
    *ret_used = size;
    if (before && !buffer_append(&reader->partial, bytes, size))
        return HTTP_RESPONSE_NO_MEMORY;

    const char *from = before ? reader->partial.bytes : bytes;
    size_t total = before + size;
    ptrdiff_t length = http_head_scan(&reader->scanner, from, total);
    if (length < 0)
        return malformed(reader, "the response is malformed");
    if ((length ? (size_t)length : total) > LIMIT_RESPONSE_HEADER_BYTES)
        return malformed(reader, "the response's headers are too large");

    if (!length) {
        bool kept = before || buffer_append(&reader->partial, bytes, size);
        return kept ? HTTP_RESPONSE_MORE : HTTP_RESPONSE_NO_MEMORY;
    }

    enum http_response_event event = parse_head(reader, from, (size_t)length, response);
    buffer_release(&reader->partial);
    *ret_used = (size_t)length - before;
    return event;
}

enum http_response_event http_response_read(struct http_response_reader *reader, const char *bytes,
                                            size_t size, size_t *ret_used, const char **ret_data,
                                            size_t *ret_data_size, struct http_response *response) {
    size_t at = 0;
    while (!reader->in_body) {
        size_t used = 0;
        if (at == size) {
            *ret_used = at;
            return HTTP_RESPONSE_MORE;
        }
        enum http_response_event event = read_head(reader, bytes + at, size - at, &used, response);
        at += used;
        if (event != HTTP_RESPONSE_MORE) {
            *ret_used = at;
            return event;
        }
    }

    switch (http_body_decode(&reader->decoder, bytes, size, ret_used, ret_data, ret_data_size)) {
    case HTTP_DECODE_MORE:
        return HTTP_RESPONSE_MORE;
    case HTTP_DECODE_DATA:
        return HTTP_RESPONSE_DATA;
    case HTTP_DECODE_END:
        return HTTP_RESPONSE_END;
    default:
        return malformed(reader, "a chunk of the response is malformed");
    }
}

void http_response_reader_release(struct http_response_reader *reader) {
    buffer_release(&reader->partial);
    free(reader->memory);
    reader->memory = NULL;
}
