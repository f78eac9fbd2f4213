#include "cli/text_stream.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the character that begins so; 0: none does. */
static size_t length_by_first(unsigned char first) {
    if (first < 0x80)
        return 1;
    return first >= 0xc2 && first < 0xe0   ? 2
           : first >= 0xe0 && first < 0xf0 ? 3
           : first >= 0xf0 && first < 0xf5 ? 4
                                           : 0;
}

/* May `next` be byte `index` (from 1) of a character that begins with `first`? Unicode's table 3-7. */
static bool goes_on(unsigned char first, size_t index, unsigned char next) {
    unsigned char least = 0x80, most = 0xbf;
    if (index == 1) {
        least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : least;
        most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : most;
    }
    return next >= least && next <= most;
}

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

static void add_byte(struct text_stream *stream, unsigned char byte) {
    if (stream->held_count && !goes_on(stream->held[0], stream->held_count, byte))
        give_up(stream);

    stream->held[stream->held_count++] = byte;
    size_t length = length_by_first(stream->held[0]);
    if (length == 0)
        give_up(stream);
    else if (stream->held_count == length)
        write_character(stream);
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
