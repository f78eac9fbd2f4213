/* GIF through giflib: the first frame, into the pixels that Pillow's convert("RGB") gives. What the frame
 * leaves open of the canvas has the transparent colour, or the first one; transparency itself is dropped. */
#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

#include "image/decode.h"
#include "image/resample.h"

enum { GIF_DECODER_BYTES = 96 << 10 /* of a decoder, beside its frame */ };

struct gif_reader {
    const uint8_t *bytes;
    size_t size, at;
    GifFileType *gif;
    int width, height;           /* of the canvas */
    int left, top, inner, lines; /* of the frame: where it stands, its columns and rows */
    int background;              /* index of the colour around it */
    int next;                    /* the row that is read next */
    uint8_t *frame;              /* indices: [lines, inner] */
    uint8_t *rows;               /* [IMAGE_ROWS_AT_ONCE, width, 3], with slack */
    uint8_t palette[256][3];
};

static int read_bytes(GifFileType *gif, GifByteType *to, int count) {
    struct gif_reader *reader = gif->UserData;
    size_t left = reader->size - reader->at, taken = (size_t)count < left ? (size_t)count : left;

    memcpy(to, reader->bytes + reader->at, taken);
    reader->at += taken;
    return (int)taken;
}

static bool refuse_damaged(struct error *error) {
    return error_set(error, ERROR_INVALID, "the GIF is truncated or damaged");
}

/* Past an extension; a graphic control names the transparent colour of the frame behind it. */
static bool skip_extension(struct gif_reader *reader) {
    GifByteType *block;
    int code;

    if (DGifGetExtension(reader->gif, &code, &block) == GIF_ERROR)
        return false;
    if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4)
        reader->background = block[1] & 1 ? block[4] : 0;
    while (block)
        if (DGifGetExtensionNext(reader->gif, &block) == GIF_ERROR)
            return false;
    return true;
}

/* As far as the header of the first frame. */
static bool find_frame(struct gif_reader *reader) {
    GifRecordType type;
    int code;

    reader->gif = DGifOpen(reader, read_bytes, &code);
    if (!reader->gif)
        return false;

    while (DGifGetRecordType(reader->gif, &type) != GIF_ERROR && type == EXTENSION_RECORD_TYPE)
        if (!skip_extension(reader))
            return false;
    if (type != IMAGE_DESC_RECORD_TYPE || DGifGetImageDesc(reader->gif) == GIF_ERROR)
        return false;

    const GifImageDesc *frame = &reader->gif->Image;
    reader->left = frame->Left;
    reader->top = frame->Top;
    reader->inner = frame->Width;
    reader->lines = frame->Height;
    /* A frame that stands out makes the canvas larger. */
    reader->width = frame->Left + frame->Width;
    reader->height = frame->Top + frame->Height;
    if (reader->gif->SWidth > reader->width)
        reader->width = reader->gif->SWidth;
    if (reader->gif->SHeight > reader->height)
        reader->height = reader->gif->SHeight;
    return true;
}

static void reader_free(void *state) {
    struct gif_reader *reader = state;
    if (!reader)
        return;

    if (reader->gif)
        DGifCloseFile(reader->gif, NULL);
    free(reader->frame);
    free(reader->rows);
    free(reader);
}

/* Its header, with the size checked. NULL: the reason. */
static struct gif_reader *reader_create(const uint8_t *bytes, size_t size, struct error *error) {
    struct gif_reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        error_set(error, ERROR_MEMORY, "not enough memory for a GIF decoder");
        return NULL;
    }

    reader->bytes = bytes;
    reader->size = size;
    bool good = find_frame(reader) || refuse_damaged(error);
    if (good && image_check_size(reader->width, reader->height, error) &&
        image_check_size(reader->inner, reader->lines, error))
        return reader;

    reader_free(reader);
    return NULL;
}

bool image_gif_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    struct gif_reader *reader = reader_create(bytes, size, error);
    if (!reader)
        return false;

    int64_t cost = GIF_DECODER_BYTES + (int64_t)reader->inner * reader->lines +
                   (int64_t)reader->width * 3 * IMAGE_ROWS_AT_ONCE;
    *ret = (struct stored_info){reader->width, reader->height, 1, cost};
    reader_free(reader);
    return true;
}

/* Pillow's palette is a grey ramp where the file's ends. */
static void read_palette(struct gif_reader *reader) {
    const GifFileType *gif = reader->gif;
    const ColorMapObject *map = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;

    for (int i = 0; i < 256; i++)
        memset(reader->palette[i], i, 3);
    for (int i = 0; map && i < map->ColorCount && i < 256; i++)
        memcpy(reader->palette[i],
               (uint8_t[3]){map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue}, 3);
}

static bool read_frame(struct gif_reader *reader) {
    static const struct { int first, step; } passes[] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}, {0, 1}};
    bool interlaced = reader->gif->Image.Interlace;

    for (int pass = interlaced ? 0 : 4; pass < (interlaced ? 4 : 5); pass++)
        for (int y = passes[pass].first; y < reader->lines; y += passes[pass].step)
            if (DGifGetLine(reader->gif, reader->frame + (size_t)y * (size_t)reader->inner, reader->inner) ==
                GIF_ERROR)
                return false;
    return true;
}

static const uint8_t *reader_rows(void *state, int count, struct error *error) {
    struct gif_reader *reader = state;
    uint8_t *to = reader->rows;

    for (int i = 0; i < count; i++, reader->next++) {
        int y = reader->next - reader->top;
        const uint8_t *from = reader->frame + (size_t)y * (size_t)reader->inner;
        for (int x = 0; x < reader->width; x++, to += 3) {
            bool inside =
                y >= 0 && y < reader->lines && x >= reader->left && x < reader->left + reader->inner;
            memcpy(to, reader->palette[inside ? from[x - reader->left] : reader->background], 3);
        }
    }
    return reader->rows;
}

static bool reader_finish(void *state, struct error *error) {
    return true;
}

bool image_gif_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    struct gif_reader *reader = reader_create(bytes, size, error);
    if (!reader)
        return false;

    reader->frame = malloc((size_t)reader->inner * (size_t)reader->lines);
    reader->rows = malloc((size_t)reader->width * 3 * IMAGE_ROWS_AT_ONCE + RESAMPLE_SLACK);
    if (!reader->frame || !reader->rows) {
        image_no_memory(reader->width, reader->height, error);
        reader_free(reader);
        return false;
    }

    read_palette(reader);
    if (!read_frame(reader)) {
        reader_free(reader);
        return refuse_damaged(error);
    }
    *ret = (struct row_reader){reader, reader_rows, reader_finish, reader_free};
    return true;
}
