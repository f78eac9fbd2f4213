/* HTTP/1.1 message heads and chunked bodies, for server and client alike. Pure functions over bytes: no
 * sockets, no memory of their own. RFC 9110 and RFC 9112, read strictly (see http.h). */
#pragma once
#include "http/http.h"

#define HTTP_HEADER_COUNT_LIMIT 128 /* header lines of one message */

/* Where a head ends, remembered between arrivals of bytes. Zeroed at the start of a message. */
struct http_head_scanner {
    size_t scanned;    /* bytes looked at */
    size_t line_start; /* of the line that is being looked at */
    int lines;         /* that have ended */
};

/* Length of the head, the empty line included; 0: not complete yet; -1: malformed (a bare LF, a NUL). `bytes`
 * starts with the first byte of the message at every call. */
ptrdiff_t http_head_scan(struct http_head_scanner *scanner, const char *bytes, size_t size);

enum http_framing {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH,
    HTTP_BODY_CHUNKED,
    HTTP_BODY_UNTIL_CLOSE, /* answers only */
};

/* A parsed head; strings point into the text that was parsed. */
struct http_head {
    char *method, *target; /* requests; the target is in origin form ("/…", or "*") */
    int status;            /* answers */
    int minor_version;
    struct http_header *headers;
    int header_count;
    enum http_framing framing;
    uint64_t content_length;
    bool keep_alive;
    bool expect_continue;
};

/* `text`: the `size` bytes of a head, which are cut into strings in place. `headers`: room for `capacity`
 * (the scanner's lines are enough). Returns 0, or the status to refuse with (400, 417, 431, 501, 505) and in
 * *ret_reason why. */
int http_head_parse_request(char *text, size_t size, struct http_header *headers, int capacity,
                            struct http_head *ret, const char **ret_reason);
/* The same for an answer; anything but 0 means that it is no HTTP. */
int http_head_parse_answer(char *text, size_t size, bool to_head, struct http_header *headers, int capacity,
                           struct http_head *ret, const char **ret_reason);

/* A header's name and value are sound to send. */
bool http_header_is_valid(const struct http_header *header);
/* `list` ("a, b") holds the token, in any case. */
bool http_list_contains(const char *list, const char *token);

enum http_chunk_result {
    HTTP_CHUNK_MORE, /* the input is used up */
    HTTP_CHUNK_DATA, /* *ret_data is a run of the body's bytes, within the input */
    HTTP_CHUNK_END,  /* the body is complete, trailers are behind us */
    HTTP_CHUNK_BAD,
};

/* Decoder of a chunked body. Zeroed at the start. */
struct http_chunk_decoder {
    int state, digits;
    size_t line, trailers; /* bytes of the present line, of all trailers */
    uint64_t remaining;
};

/* Take bytes from the input: *ret_used of them. */
enum http_chunk_result http_chunk_decode(struct http_chunk_decoder *decoder, const char *bytes, size_t size,
                                         size_t *ret_used, const char **ret_data, size_t *ret_data_size);
