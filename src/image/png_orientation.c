/* The orientation in a PNG's ancillary chunks, read without libpng: it would keep every text of the file in
 * memory. PNG (Third Edition), 11.3; the raw profiles are ImageMagick's. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "image/decode.h"

enum {
    CHUNKS_MOST = 4096,        /* looked at, of one file */
    TEXTS_MOST = 4,            /* orientation texts that are read, of one file */
    CHUNK_MOST = 256 << 10,    /* bytes of a chunk that is read */
    INFLATED_MOST = 512 << 10, /* bytes of a text, inflated */
    KEYWORD_MOST = 79,
};

struct png_chunk {
    const uint8_t *type, *bytes; /* [4]; [size] */
    size_t size;
};

/* What a text holds, as its keyword says. */
enum content { CONTENT_OTHER, CONTENT_PROFILE, CONTENT_XMP };

static bool is_type(const struct png_chunk *chunk, const char *type) {
    return memcmp(chunk->type, type, 4) == 0;
}

/* The next chunk at *at, which moves past it; false at the end. */
static bool next_chunk(const uint8_t *bytes, size_t size, size_t *at, struct png_chunk *ret) {
    if (*at > size || size - *at < 12)
        return false;

    const uint8_t *start = bytes + *at;
    size_t length = (size_t)start[0] << 24 | (size_t)start[1] << 16 | (size_t)start[2] << 8 | start[3];
    if (length > size - *at - 12)
        return false;

    *ret = (struct png_chunk){start + 4, start + 8, length};
    *at += length + 12;
    return true;
}

static enum content classify_keyword(const char *keyword) {
    if (strcmp(keyword, "Raw profile type exif") == 0 || strcmp(keyword, "Raw profile type APP1") == 0)
        return CONTENT_PROFILE;
    if (strcmp(keyword, "XML:com.adobe.xmp") == 0 || strcmp(keyword, "Raw profile type xmp") == 0)
        return CONTENT_XMP;
    return CONTENT_OTHER;
}

/* malloc'ed; NULL where it is damaged, too large, or memory is out. */
static uint8_t *inflate_text(const uint8_t *bytes, size_t size, size_t *ret_size) {
    uint8_t *text = malloc(INFLATED_MOST);
    z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
    if (!text || inflateInit(&stream) != Z_OK) {
        free(text);
        return NULL;
    }

    stream.next_out = text;
    stream.avail_out = INFLATED_MOST;
    int code = inflate(&stream, Z_FINISH);
    *ret_size = INFLATED_MOST - stream.avail_out;
    inflateEnd(&stream);
    if (code == Z_STREAM_END)
        return text;

    free(text);
    return NULL;
}

static int hexadecimal_digit(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "\nexif\n      26\n4578…": a name, a length, lines of hexadecimal digits. malloc'ed bytes; NULL where it is
 * something else. */
static uint8_t *read_profile(const uint8_t *text, size_t size, size_t *ret_size) {
    size_t at = 0, length = 0;
    while (at < size && text[at] == '\n')
        at++;
    while (at < size && text[at] != '\n') /* the name */
        at++;

    while (at < size && (text[at] == '\n' || text[at] == ' '))
        at++;
    for (; at < size && text[at] >= '0' && text[at] <= '9'; at++)
        if ((length = length * 10 + (size_t)(text[at] - '0')) > size)
            return NULL;

    if (at >= size || text[at] != '\n' || length == 0)
        return NULL;

    uint8_t *bytes = malloc(length);
    size_t count = 0;
    int high = -1;

    for (; bytes && at < size && count < length; at++) {
        int digit = hexadecimal_digit(text[at]);
        if (digit < 0)
            continue;
        if (high >= 0)
            bytes[count++] = (uint8_t)(high << 4 | digit);
        high = high < 0 ? digit : -1;
    }

    *ret_size = count;
    return bytes;
}

/* EXIF, or in an APP1 profile perhaps XMP behind its name. */
static int profile_orientation(const uint8_t *text, size_t size, enum content content) {
    size_t count = 0;
    cleanup(freep) uint8_t *bytes = read_profile(text, size, &count);
    if (!bytes)
        return content == CONTENT_XMP ? xmp_orientation(text, size) : 1;

    bool is_xmp = content == CONTENT_XMP || (count >= 4 && memcmp(bytes, "http", 4) == 0);
    return is_xmp ? xmp_orientation(bytes, count) : exif_orientation(bytes, count);
}

/* Where an iTXt's text begins: behind its flags, language and translated keyword. NULL where it is damaged.
 */
static const uint8_t *skip_language(const uint8_t *at, const uint8_t *end, bool *ret_compressed) {
    if (end - at < 2 || at[0] > 1 || at[1] != 0)
        return NULL;

    *ret_compressed = at[0] == 1;
    at += 2;
    for (int i = 0; i < 2; i++) {
        const uint8_t *zero = memchr(at, 0, (size_t)(end - at));
        if (!zero)
            return NULL;
        at = zero + 1;
    }

    return at;
}

static int text_orientation(const struct png_chunk *chunk, int *texts) {
    size_t most = chunk->size < KEYWORD_MOST + 1 ? chunk->size : KEYWORD_MOST + 1;
    const uint8_t *zero = memchr(chunk->bytes, 0, most), *end = chunk->bytes + chunk->size;
    enum content content = zero ? classify_keyword((const char *)chunk->bytes) : CONTENT_OTHER;
    if (content == CONTENT_OTHER || chunk->size > CHUNK_MOST || ++*texts > TEXTS_MOST)
        return 1;

    const uint8_t *text = zero + 1;
    bool compressed = is_type(chunk, "zTXt");
    if (compressed)
        text = text < end && *text == 0 ? text + 1 : NULL; /* the method: deflate */
    else if (is_type(chunk, "iTXt"))
        text = skip_language(text, end, &compressed);

    if (!text)
        return 1;
    if (!compressed)
        return profile_orientation(text, (size_t)(end - text), content);

    size_t size;
    cleanup(freep) uint8_t *inflated = inflate_text(text, (size_t)(end - text), &size);
    return inflated ? profile_orientation(inflated, size, content) : 1;
}

int png_find_orientation(const uint8_t *bytes, size_t size) {
    struct png_chunk chunk;
    size_t at = 8;
    int orientation = 1, texts = 0;

    for (int i = 0; i < CHUNKS_MOST && next_chunk(bytes, size, &at, &chunk); i++) {
        if (is_type(&chunk, "IEND"))
            break;
        if (is_type(&chunk, "eXIf") && chunk.size <= CHUNK_MOST)
            return exif_orientation(chunk.bytes, chunk.size);
        if (orientation == 1 &&
            (is_type(&chunk, "zTXt") || is_type(&chunk, "tEXt") || is_type(&chunk, "iTXt")))
            orientation = text_orientation(&chunk, &texts);
    }
    return orientation;
}

int xmp_orientation(const uint8_t *bytes, size_t size) {
    static const char name[] = "tiff:Orientation";
    const uint8_t *found = memmem(bytes, size, name, sizeof name - 1), *end = bytes + size;
    if (!found)
        return 1;

    /* tiff:Orientation="6" or <tiff:Orientation>6< */
    for (found += sizeof name - 1; found < end && strchr(" \t\r\n=", *found) && *found; found++)
        ;
    if (found >= end || !strchr("\"'>", *found) || !*found)
        return 1;

    bool single = end - found >= 3 && (found[2] == '"' || found[2] == '\'' || found[2] == '<');
    return single && found[1] >= '1' && found[1] <= '8' ? found[1] - '0' : 1;
}
