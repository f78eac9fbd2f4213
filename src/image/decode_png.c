/* PNG through libpng, into the pixels Pillow's convert("RGB") gives: alpha and transparency are dropped,
 * 16-bit colour keeps its high bytes, 16-bit grey is clipped at 255, no gamma is applied. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

enum {
    PNG_CHUNK_LIMIT = 8 << 20,
    PNG_CHUNKS_KEPT = 16,
    PNG_DECODER_BYTES = 256 << 10, /* of a decoder, beside its rows */
};

/* Everything that must survive libpng's longjmp lives here, outside the frames that call setjmp. */
struct png_reader {
    const uint8_t *bytes;
    size_t size, at;
    struct error *error; /* of the call under way */
    png_structp png;
    png_infop info;
    int width, height, next; /* next: the row that is read next */
    int raw_pixel;       /* bytes of a pixel as libpng gives it: 3 (RGB), 2 (16-bit grey) or 1 (palette) */
    uint8_t *rows;       /* [IMAGE_ROWS_AT_ONCE, width, 3], with slack */
    uint8_t *raw;        /* a row; of an interlaced file, all of them */
    png_bytep *raw_rows; /* of an interlaced file */
    uint8_t palette[256][3];
};

static void reader_fail(png_structp png, png_const_charp message) {
    struct png_reader *reader = png_get_error_ptr(png);
    error_set(reader->error, ERROR_INVALID, "the PNG is damaged: %s", message);
    png_longjmp(png, 1);
}

static void reader_warn(png_structp png, png_const_charp message) {
}

static void reader_read(png_structp png, png_bytep to, size_t count) {
    struct png_reader *reader = png_get_io_ptr(png);
    if (count > reader->size - reader->at)
        png_error(png, "it is truncated");
    memcpy(to, reader->bytes + reader->at, count);
    reader->at += count;
}

static void reader_free(void *state) {
    struct png_reader *reader = state;
    if (!reader)
        return;
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    free(reader->rows);
    free(reader->raw);
    free(reader->raw_rows);
    free(reader);
}

/* Bytes of a pixel of this colour type and depth, as reader_configure has libpng give it. */
static int find_raw_pixel(int type, int depth) {
    if (type == PNG_COLOR_TYPE_PALETTE)
        return 1;
    return type == PNG_COLOR_TYPE_GRAY && depth == 16 ? 2 : 3;
}

/* Pillow's palette is a grey ramp where the file's ends. */
static void read_palette(struct png_reader *reader) {
    png_colorp colours = NULL;
    int count = 0;
    png_get_PLTE(reader->png, reader->info, &colours, &count);

    for (int i = 0; i < 256; i++)
        memset(reader->palette[i], i, 3);
    for (int i = 0; i < count && i < 256; i++)
        memcpy(reader->palette[i], (uint8_t[3]){colours[i].red, colours[i].green, colours[i].blue}, 3);
}

/* Ask libpng for 8-bit RGB, or for something that convert_row knows. */
static void reader_configure(struct png_reader *reader) {
    png_structp png = reader->png;
    int type = png_get_color_type(png, reader->info), depth = png_get_bit_depth(png, reader->info);
    bool grey16 = type == PNG_COLOR_TYPE_GRAY && depth == 16;
    reader->raw_pixel = find_raw_pixel(type, depth);

    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_packing(png);
    else if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);

    if (depth == 16 && !grey16)
        png_set_strip_16(png);
    if (type & PNG_COLOR_MASK_ALPHA)
        png_set_strip_alpha(png);
    if (!(type & PNG_COLOR_MASK_COLOR) && !grey16)
        png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    read_palette(reader);
}

static bool reader_allocate(struct png_reader *reader) {
    size_t stride = (size_t)reader->width * (size_t)reader->raw_pixel, height = (size_t)reader->height;
    bool whole = png_get_interlace_type(reader->png, reader->info) != PNG_INTERLACE_NONE;
    if (png_get_rowbytes(reader->png, reader->info) != stride)
        return error_set(reader->error, ERROR_INTERNAL, "libpng gave rows of %zu bytes instead of %zu",
                         png_get_rowbytes(reader->png, reader->info), stride);

    reader->rows = malloc((size_t)reader->width * 3 * IMAGE_ROWS_AT_ONCE + RESAMPLE_SLACK);
    reader->raw = malloc(whole ? stride * height : stride);
    reader->raw_rows = whole ? malloc(height * sizeof *reader->raw_rows) : NULL;
    if (!reader->rows || !reader->raw || (whole && !reader->raw_rows))
        return image_no_memory(reader->width, reader->height, reader->error);

    for (size_t y = 0; whole && y < height; y++)
        reader->raw_rows[y] = reader->raw + y * stride;
    return true;
}

/* A row as libpng gives it -> RGB. */
static void convert_row(const struct png_reader *reader, const uint8_t *raw, uint8_t *rgb) {
    size_t width = (size_t)reader->width;
    if (reader->raw_pixel == 3)
        memcpy(rgb, raw, width * 3);
    else if (reader->raw_pixel == 1)
        for (size_t x = 0; x < width; x++)
            memcpy(rgb + 3 * x, reader->palette[raw[x]], 3);
    else
        for (size_t x = 0; x < width; x++)
            memset(rgb + 3 * x, raw[2 * x] ? 255 : raw[2 * x + 1], 3);
}

/* Chunks that change no pixel are skipped unread: libpng would inflate and keep every text. */
static void skip_ancillary(png_structp png) {
    static const png_byte skipped[] =
        "tEXt\0zTXt\0iTXt\0iCCP\0sPLT\0eXIf\0hIST\0tIME\0pCAL\0sCAL\0oFFs\0pHYs\0gAMA\0cHRM\0"
        "sRGB\0sBIT\0bKGD";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
    png_set_chunk_cache_max(png, PNG_CHUNKS_KEPT);
    png_set_chunk_malloc_max(png, PNG_CHUNK_LIMIT);
}

static bool reader_start(struct png_reader *reader) {
    if (setjmp(png_jmpbuf(reader->png)))
        return false;

    png_set_read_fn(reader->png, reader, reader_read);
    png_set_user_limits(reader->png, LIMIT_IMAGE_SIDE, LIMIT_IMAGE_SIDE);
    skip_ancillary(reader->png);
    png_read_info(reader->png, reader->info);
    reader->width = (int)png_get_image_width(reader->png, reader->info);
    reader->height = (int)png_get_image_height(reader->png, reader->info);
    reader_configure(reader);
    if (!reader_allocate(reader))
        return false;

    if (reader->raw_rows)
        png_read_image(reader->png, reader->raw_rows);
    return true;
}

static const uint8_t *reader_rows(void *state, int count, struct error *error) {
    struct png_reader *reader = state;
    reader->error = error;
    if (setjmp(png_jmpbuf(reader->png)))
        return NULL;

    uint8_t *rgb = reader->rows;
    for (int i = 0; i < count; i++, rgb += (size_t)reader->width * 3, reader->next++) {
        if (reader->raw_rows) {
            convert_row(reader, reader->raw_rows[reader->next], rgb);
        } else if (reader->raw_pixel == 3) {
            png_read_row(reader->png, rgb, NULL);
        } else {
            png_read_row(reader->png, reader->raw, NULL);
            convert_row(reader, reader->raw, rgb);
        }
    }
    return reader->rows;
}

static bool reader_finish(void *state, struct error *error) {
    struct png_reader *reader = state;
    reader->error = error;
    if (setjmp(png_jmpbuf(reader->png)))
        return false;
    png_read_end(reader->png, NULL);
    return true;
}

static uint32_t read_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* libpng keeps two rows of at most 8 bytes a pixel, and a compressor; of interlaced files we keep all rows.
 */
bool image_png_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    if (size < 29 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return error_set(error, ERROR_INVALID, "the PNG is truncated: it has no header");
    if (!image_check_size(read_u32(bytes + 16), read_u32(bytes + 20), error))
        return false;

    int64_t width = read_u32(bytes + 16), height = read_u32(bytes + 20);
    int64_t cost = PNG_DECODER_BYTES + width * (2 * 8 + 3 * IMAGE_ROWS_AT_ONCE + 3);
    if (bytes[28] != PNG_INTERLACE_NONE)
        cost += width * height * find_raw_pixel(bytes[25], bytes[24]) + height * (int64_t)sizeof(png_bytep);

    *ret = (struct stored_info){(int)width, (int)height, png_find_orientation(bytes, size), cost};
    return true;
}

bool image_png_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    struct png_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return error_set(error, ERROR_MEMORY, "no memory for a PNG decoder");

    reader->bytes = bytes;
    reader->size = size;
    reader->error = error;
    reader->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, reader_fail, reader_warn);
    reader->info = reader->png ? png_create_info_struct(reader->png) : NULL;
    if (!reader->info) {
        reader_free(reader);
        return error_set(error, ERROR_MEMORY, "no memory for a PNG decoder");
    }
    if (!reader_start(reader)) {
        reader_free(reader);
        return false;
    }

    *ret = (struct row_reader){reader, reader_rows, reader_finish, reader_free};
    return true;
}
