/* HTTP/1.1 message heads and bodies, for server and client alike. Pure functions over bytes: no sockets, no
 * memory of their own, any thread. RFC 9110 and RFC 9112, read strictly (see http.h). */
#pragma once
#include "base/buffer.h"
#include "http/http.h"

/* Where a head ends, remembered between arrivals of bytes. Zeroed at the start of a message. */
struct http_head_scanner {
    size_t scanned;    /* bytes looked at */
    size_t line_start; /* of the line that is not complete */
    int lines;         /* complete ones */
};

/* Length of the head, the empty line included; 0: not complete yet; -1: malformed (a bare LF, a NUL). `bytes`
 * starts with the first byte of the message at every call. */
ptrdiff_t http_head_scan(struct http_head_scanner *scanner, const char *bytes, size_t size);

enum http_framing {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH,
    HTTP_BODY_CHUNKED,
    HTTP_BODY_UNTIL_CLOSE, /* responses only */
};

/* A parsed head; strings point into the text that was parsed. */
struct http_head {
    char *method, *target; /* requests; the target is in origin form ("/…", or "*") */
    int status;            /* responses */
    int minor_version;
    struct http_header *headers;
    int header_count;
    enum http_framing framing;
    uint64_t content_length; /* 0 without the header */
    bool has_length;         /* Content-Length is there, perhaps beside a body that is left out (HEAD, 304) */
    bool keep_alive;
    bool expect_continue;
};

/* `text`: the `size` bytes of a head, which are cut into strings in place. `headers`: room for `capacity`
 * (the scanner's lines are enough). Returns 0, or the status to refuse with (400, 417, 431, 501, 505) and in
 * *ret_reason why. */
int http_head_parse_request(char *text, size_t size, struct http_header *headers, int capacity,
                            struct http_head *ret, const char **ret_reason);
/* The same for a response; `to_head`: to a HEAD request. Anything but 0: malformed. */
int http_head_parse_response(char *text, size_t size, bool to_head, struct http_header *headers, int capacity,
                             struct http_head *ret, const char **ret_reason);

/* A header's name and value may be sent. */
bool http_header_is_valid(const struct http_header *header);
/* Append "name: value" and the end of the line; the buffer notes a failure. */
void http_append_header(struct buffer *text, const char *name, const char *value);
void http_append_length(struct buffer *text, uint64_t length); /* Content-Length */

enum http_decode_result {
    HTTP_DECODE_MORE, /* the input is used up */
    HTTP_DECODE_DATA, /* *ret_data is a run of the body's bytes, within the input */
    HTTP_DECODE_END,  /* the body is complete, with its trailers */
    HTTP_DECODE_BAD,
};

/* Decoder of a body in any framing; private to parser.c. */
struct http_body_decoder {
    enum http_framing framing;
    uint64_t left;     /* HTTP_BODY_LENGTH: bytes still to come. HTTP_BODY_CHUNKED: of the present chunk */
    int state, digits; /* of a chunked body */
    size_t line, trailers;
    bool colon; /* the trailer line has its name */
};

void http_body_decoder_init(struct http_body_decoder *decoder, const struct http_head *head);
/* Take bytes from the input: *ret_used of them. The end is told by a call of its own, which uses no byte
 * unless the body is chunked; a body that lasts until the connection closes never ends here. */
enum http_decode_result http_body_decode(struct http_body_decoder *decoder, const char *bytes, size_t size,
                                         size_t *ret_used, const char **ret_data, size_t *ret_data_size);
/* Bytes still to come; -1: not known (chunked, or until the connection closes). */
int64_t http_body_left(const struct http_body_decoder *decoder);
/* `size` bytes of a body of known length were taken without http_body_decode. */
void http_body_skip(struct http_body_decoder *decoder, size_t size);
/* The body lasts until the connection closes. */
bool http_body_is_until_close(const struct http_body_decoder *decoder);
/* Bytes of the present chunk that are announced and still to come. */
uint64_t http_body_chunk_left(const struct http_body_decoder *decoder);
