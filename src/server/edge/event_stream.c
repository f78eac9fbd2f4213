#include "server/edge/event_stream.h"

#include <string.h>
#include <strings.h>

#include "server/edge/respond.h"

bool event_stream_is_announced(const struct http_header *headers, int count) {
    for (int i = 0; i < count; i++)
        if (http_names_equal(headers[i].name, "Content-Type"))
            return strncasecmp(headers[i].value, "text/event-stream", 17) == 0;
    return false;
}

/* An event ends with an empty line; lines end with LF or CR LF. */
static void feed_byte(struct event_stream *stream, char byte) {
    if (byte == '\r')
        return;
    if (byte == '\n' && (stream->line_end || !stream->open)) {
        if (stream->open && stream->start[0] == ':')
            memcpy(stream->comment, stream->start, sizeof stream->comment);
        stream->open = false;
        return;
    }

    stream->line_end = byte == '\n';
    if (!stream->open) {
        stream->open = true;
        stream->length = 0;
        memset(stream->start, 0, sizeof stream->start);
    }

    if (stream->length < sizeof stream->start - 1)
        stream->start[stream->length++] = byte;
}

void event_stream_feed(struct event_stream *stream, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        feed_byte(stream, ((const char *)bytes)[i]);
}

static bool starts_with(const struct event_stream *stream, const char *text) {
    size_t length = strlen(text);
    return stream->length >= length && memcmp(stream->start, text, length) == 0;
}

void event_stream_write_error(const struct event_stream *stream, enum error_form form,
                              const struct error *error, struct buffer *text) {
    bool told = starts_with(stream, "event: error\n") || starts_with(stream, "data: {\"error\":");
    if (told && !stream->open)
        return;

    if (stream->open)
        buffer_append_string(text, stream->line_end ? "\n" : "\n\n");
    buffer_append_string(text, form == ERRORS_OPENAI ? "data: " : "event: error\ndata: ");
    error_write(text, form, error);
    buffer_append_string(text, "\n\n");
}
