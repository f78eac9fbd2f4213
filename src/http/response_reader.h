/* Reads one response of an upstream from its bytes, in whatever pieces they come: interim responses are
 * skipped, the body is told run by run. No sockets; one thread at a time for each reader. */
#pragma once
#include "base/buffer.h"
#include "http/http_client.h"
#include "http/parser.h"

enum http_response_event {
    HTTP_RESPONSE_MORE,      /* the input is used up */
    HTTP_RESPONSE_HEAD,      /* the head has been read */
    HTTP_RESPONSE_DATA,      /* *ret_data is a run of the body, within the input */
    HTTP_RESPONSE_END,       /* the response is complete; what is left of the input is not part of it */
    HTTP_RESPONSE_MALFORMED, /* `reason` says why */
    HTTP_RESPONSE_NO_MEMORY,
};

/* Zeroed, with `to_head` set, at the start of a response. */
struct http_response_reader {
    bool to_head; /* the request's method is HEAD: no body follows */
    bool in_body; /* the head has been read */
    bool keep_alive;
    const char *reason;
    struct http_body_decoder decoder;
    struct http_head_scanner scanner; /* private, as what follows */
    struct buffer partial;            /* of a head that is not complete */
    void *memory;                     /* header table and text of the head */
};

/* Take bytes from the input: *ret_used of them. For HTTP_RESPONSE_HEAD sets status, headers and
 * content_length of `response`, which last until the reader is released. The end is told by a call of its
 * own, possibly with no input. A body that lasts until the connection closes never ends here. */
enum http_response_event http_response_read(struct http_response_reader *reader, const char *bytes,
                                            size_t size, size_t *ret_used, const char **ret_data,
                                            size_t *ret_data_size, struct http_response *response);
void http_response_reader_release(struct http_response_reader *reader);
