#include "cli/text_stream.h"

#include "base/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static bool is_control(const unsigned char *character, size_t size) {
    if (size == 1)
        return (character[0] < 0x20 && character[0] != '\n' && character[0] != '\t') || character[0] == 0x7f;
    return size == 2 && character[0] == 0xc2 && character[1] < 0xa0;
}

static void write_character(struct text_stream *stream) {
    if (stream->is_plain && is_control(stream->held, stream->held_count))
        fputs(REPLACEMENT, stream->file);
    else
        fwrite(stream->held, 1, stream->held_count, stream->file);
    stream->held_count = 0;
}

static void give_up(struct text_stream *stream) {
    if (stream->held_count)
        fputs(REPLACEMENT, stream->file);
    stream->held_count = 0;
}

/* `byte` comes behind what is held, which is no whole character. */
static void add_byte(struct text_stream *stream, unsigned char byte) {
    stream->held[stream->held_count++] = byte;
    int length = utf8_length(stream->held, stream->held_count);
    if (length > 0)
        write_character(stream);
    if (length != 0)
        return;

    bool begins = stream->held_count > 1; /* the last byte may begin another one */
    give_up(stream);
    if (begins)
        add_byte(stream, byte);
}

void text_stream_write(struct text_stream *stream, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        add_byte(stream, (unsigned char)bytes[i]);
    fflush(stream->file);
}

void text_stream_end(struct text_stream *stream) {
    give_up(stream);
    fflush(stream->file);
}
