/* Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html) that pass through: what
 * is needed to end a broken stream with an error event. Pure functions on the caller's struct. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "http/http.h"
#include "server/edge/endpoint.h"

/* Where a stream of events stands. Zero at first. */
struct event_stream {
    char start[48];   /* the first bytes of the event that came last, with a NUL */
    size_t length;    /* … so many */
    char comment[48]; /* the first bytes of the last comment that stood alone, with a NUL */
    bool open;        /* that event has not ended yet */
    bool line_end;    /* the last byte ended a line */
};

/* Whether headers announce a stream of events. */
bool event_stream_is_announced(const struct http_header *headers, int count);
/* The next bytes of the stream. */
void event_stream_feed(struct event_stream *stream, const void *bytes, size_t size);
/* What to send after the last byte of a stream that broke off: the end of an event that is open, and an error
 * event in `form`; nothing where the stream's last event was an error event already. */
void event_stream_write_error(const struct event_stream *stream, enum error_form form,
                              const struct error *error, struct buffer *text);
