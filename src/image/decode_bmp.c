/* BMP, as Pillow reads it: 1, 4 and 8 bits with a palette (also run-length encoded), 16, 24 and 32 bits; rows
 * from the bottom or from the top; alpha is dropped.
 * https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-storage describes the structures. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

enum { BMP_FILE_HEADER = 14, BMP_CORE_HEADER = 12, BMP_INFO_HEADER = 40 };
enum { BMP_PLAIN, BMP_RLE8, BMP_RLE4, BMP_BITFIELDS };

struct bmp_header {
    int width, height;
    bool from_top;
    int bits, compression;
    uint32_t masks[3];      /* of red, green, blue, where a pixel has 16 or 32 bits */
    const uint8_t *palette; /* [colours] */
    int colours, entry;     /* entry: bytes of one, blue first */
    const uint8_t *pixels;
    size_t size; /* bytes from there to the file's end */
};

struct bmp_reader {
    struct bmp_header header;
    size_t stride;    /* bytes of a row in the file */
    int next;         /* the row that is read next */
    uint8_t *indices; /* [height, width], bottom row first, where the file is run-length encoded */
    uint8_t *rows;    /* [IMAGE_ROWS_AT_ONCE, width, 3], with slack */
    uint8_t colours[256][3];
};

static uint32_t read_u16(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t read_u32(const uint8_t *bytes) {
    return read_u16(bytes) | read_u16(bytes + 2) << 16;
}

static bool refuse_truncated(struct error *error) {
    return error_set(error, ERROR_INVALID, "the BMP is truncated or damaged");
}

/* A mask is one run of ones. */
static bool mask_is_good(uint32_t mask) {
    uint32_t low = mask & -mask;
    return mask && ((mask / low) & (mask / low + 1)) == 0;
}

static bool check_form(const struct bmp_header *header, struct error *error) {
    int bits = header->bits, compression = header->compression;
    bool palette = bits == 1 || bits == 4 || bits == 8;

    if (!palette && bits != 16 && bits != 24 && bits != 32)
        return error_set(error, ERROR_INVALID, "the BMP has %d bits a pixel; 1, 4, 8, 16, 24 and 32 are read",
                         bits);
    if (compression == BMP_PLAIN || (compression == BMP_RLE8 && bits == 8) ||
        (compression == BMP_RLE4 && bits == 4))
        return true;
    if (compression != BMP_BITFIELDS || (bits != 16 && bits != 32))
        return error_set(error, ERROR_INVALID, "the BMP is compressed in a way that is not read (%d)",
                         compression);
    for (int i = 0; i < 3; i++)
        if (!mask_is_good(header->masks[i]))
            return error_set(error, ERROR_INVALID, "the BMP has no mask for one of its colours");
    return true;
}

/* The header behind the file's own 14 bytes: the old form with 16-bit sizes, or the usual one. */
static bool read_info_header(const uint8_t *bytes, size_t length, struct bmp_header *ret) {
    if (length == BMP_CORE_HEADER) {
        ret->width = (int)read_u16(bytes + 4);
        ret->height = (int)read_u16(bytes + 6);
        ret->bits = (int)read_u16(bytes + 10);
        ret->entry = 3;
        return true;
    }
    if (length < BMP_INFO_HEADER)
        return false;

    int32_t width = (int32_t)read_u32(bytes + 4), height = (int32_t)read_u32(bytes + 8);
    if (width < 0 || height == INT32_MIN)
        return false;
    ret->width = width;
    ret->from_top = height < 0;
    ret->height = height < 0 ? -height : height;
    ret->bits = (int)read_u16(bytes + 14);
    ret->compression = read_u32(bytes + 16) <= BMP_BITFIELDS ? (int)read_u32(bytes + 16) : -1;
    ret->colours = read_u32(bytes + 32) <= 256 ? (int)read_u32(bytes + 32) : 256;
    ret->entry = 4;
    return true;
}

/* The masks stand in the header's later forms, or behind its first one. */
static bool read_masks(const uint8_t *bytes, size_t left, struct bmp_header *ret) {
    static const uint32_t usual[2][3] = {{0x7c00, 0x3e0, 0x1f}, {0xff0000, 0xff00, 0xff}};

    memcpy(ret->masks, usual[ret->bits == 32], sizeof ret->masks);
    if (ret->compression != BMP_BITFIELDS)
        return true;
    if (left < BMP_INFO_HEADER + 12)
        return false;
    for (int i = 0; i < 3; i++)
        ret->masks[i] = read_u32(bytes + BMP_INFO_HEADER + 4 * i);
    return true;
}

static bool read_header(const uint8_t *bytes, size_t size, struct bmp_header *ret, struct error *error) {
    if (size < BMP_FILE_HEADER + BMP_CORE_HEADER)
        return refuse_truncated(error);

    size_t start = read_u32(bytes + 10), length = read_u32(bytes + BMP_FILE_HEADER);
    const uint8_t *info = bytes + BMP_FILE_HEADER;
    if (length > size - BMP_FILE_HEADER || start > size)
        return refuse_truncated(error);

    *ret = (struct bmp_header){.pixels = bytes + start, .size = size - start};
    if (!read_info_header(info, length, ret) || !read_masks(info, size - BMP_FILE_HEADER, ret))
        return refuse_truncated(error);
    if (!image_check_size(ret->width, ret->height, error) || !check_form(ret, error))
        return false;
    if (ret->bits > 8)
        return true;

    bool masked = length == BMP_INFO_HEADER && ret->compression == BMP_BITFIELDS;
    size_t at = BMP_FILE_HEADER + length + (masked ? 12 : 0), left = at < size ? size - at : 0;
    if (ret->colours == 0 || ret->colours > 1 << ret->bits)
        ret->colours = 1 << ret->bits;
    if (left < (size_t)ret->colours * (size_t)ret->entry)
        return refuse_truncated(error);
    ret->palette = bytes + at;
    return true;
}

bool image_bmp_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    struct bmp_header header;
    if (!read_header(bytes, size, &header, error))
        return false;

    bool packed = header.compression == BMP_RLE8 || header.compression == BMP_RLE4;
    int64_t cost = (int64_t)header.width * 3 * IMAGE_ROWS_AT_ONCE + (int64_t)sizeof(struct bmp_reader) +
                   (packed ? (int64_t)header.width * header.height : 0);
    *ret = (struct stored_info){header.width, header.height, 1, cost};
    return true;
}

/* --- Run-length encoding ---------------------------------------------------------------------------------
 */

struct run_writer {
    uint8_t *indices;
    int64_t width, height, x, y;
};

static void write_index(struct run_writer *writer, uint8_t index) {
    if (writer->x < writer->width && writer->y < writer->height)
        writer->indices[writer->y * writer->width + writer->x] = index;
    writer->x++;
}

/* A run of one byte, or of two nibbles in turn. */
static void write_run(struct run_writer *writer, int count, uint8_t value, bool nibbles) {
    for (int i = 0; i < count; i++)
        write_index(writer, !nibbles ? value : i % 2 ? value & 15 : value >> 4);
}

/* `count` indices that stand as they are, in whole 16-bit words. Bytes taken; -1: the file ends. */
static int64_t write_literal(struct run_writer *writer, const uint8_t *bytes, size_t left, int count,
                             bool nibbles) {
    int size = nibbles ? (count + 1) / 2 : count;
    if ((size_t)size > left)
        return -1;

    for (int i = 0; i < count; i++) {
        uint8_t byte = bytes[nibbles ? i / 2 : i];
        write_index(writer, !nibbles ? byte : i % 2 ? byte & 15 : byte >> 4);
    }
    return size % 2 && (size_t)size < left ? size + 1 : size;
}

static bool unpack_runs(struct bmp_reader *reader) {
    const struct bmp_header *header = &reader->header;
    struct run_writer writer = {reader->indices, header->width, header->height, 0, 0};
    bool nibbles = header->compression == BMP_RLE4;

    for (size_t at = 0; at + 2 <= header->size && writer.y < writer.height;) {
        int count = header->pixels[at], value = header->pixels[at + 1];
        at += 2;
        if (count) {
            write_run(&writer, count, (uint8_t)value, nibbles);
        } else if (value == 0) { /* the end of a row */
            writer.x = 0;
            writer.y++;
        } else if (value == 1) { /* … of the picture */
            return true;
        } else if (value == 2) { /* further right and up */
            if (at + 2 > header->size)
                return false;
            writer.x += header->pixels[at];
            writer.y += header->pixels[at + 1];
            at += 2;
        } else {
            int64_t taken = write_literal(&writer, header->pixels + at, header->size - at, value, nibbles);
            if (taken < 0)
                return false;
            at += (size_t)taken;
        }
    }
    return writer.y >= writer.height;
}

/* --- Rows ------------------------------------------------------------------------------------------------
 */

static void reader_free(void *state) {
    struct bmp_reader *reader = state;
    if (!reader)
        return;
    free(reader->indices);
    free(reader->rows);
    free(reader);
}

static uint8_t scale_channel(uint32_t pixel, uint32_t mask) {
    uint32_t low = mask & -mask;
    uint64_t value = (pixel & mask) / low, most = mask / low;
    return (uint8_t)(value * 255 / most);
}

static void convert_row(const struct bmp_reader *reader, const uint8_t *row, uint8_t *rgb) {
    const struct bmp_header *header = &reader->header;
    int bits = header->bits;

    for (int x = 0; x < header->width; x++, rgb += 3) {
        if (bits <= 8) {
            int at = x * bits, index = row[at / 8] >> (8 - bits - at % 8) & ((1 << bits) - 1);
            memcpy(rgb, reader->colours[index], 3);
        } else if (bits == 24) {
            const uint8_t *pixel = row + 3 * (size_t)x;
            memcpy(rgb, (uint8_t[3]){pixel[2], pixel[1], pixel[0]}, 3);
        } else {
            uint32_t pixel = bits == 16 ? read_u16(row + 2 * (size_t)x) : read_u32(row + 4 * (size_t)x);
            for (int i = 0; i < 3; i++)
                rgb[i] = scale_channel(pixel, header->masks[i]);
        }
    }
}

static const uint8_t *reader_rows(void *state, int count, struct error *error) {
    struct bmp_reader *reader = state;
    const struct bmp_header *header = &reader->header;
    size_t width = (size_t)header->width;
    uint8_t *rgb = reader->rows;

    for (int i = 0; i < count; i++, rgb += width * 3, reader->next++) {
        size_t row = (size_t)(header->from_top ? reader->next : header->height - 1 - reader->next);
        if (reader->indices)
            for (size_t x = 0; x < width; x++)
                memcpy(rgb + 3 * x, reader->colours[reader->indices[row * width + x]], 3);
        else
            convert_row(reader, header->pixels + row * reader->stride, rgb);
    }
    return reader->rows;
}

static bool reader_finish(void *state, struct error *error) {
    return true;
}

/* Pillow's palette is a grey ramp where the file's ends. */
static void read_palette(struct bmp_reader *reader) {
    const struct bmp_header *header = &reader->header;
    for (int i = 0; i < 256; i++)
        memset(reader->colours[i], i, 3);
    for (int i = 0; header->palette && i < header->colours; i++) {
        const uint8_t *entry = header->palette + (size_t)i * (size_t)header->entry;
        memcpy(reader->colours[i], (uint8_t[3]){entry[2], entry[1], entry[0]}, 3);
    }
}

bool image_bmp_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    struct bmp_header header;
    if (!read_header(bytes, size, &header, error))
        return false;

    size_t width = (size_t)header.width, height = (size_t)header.height;
    bool packed = header.compression == BMP_RLE8 || header.compression == BMP_RLE4;
    size_t stride = (width * (size_t)header.bits + 31) / 32 * 4;
    if (!packed && header.size < stride * height)
        return refuse_truncated(error);

    struct bmp_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return image_no_memory(header.width, header.height, error);
    reader->header = header;
    reader->stride = stride;
    reader->indices = packed ? calloc(width, height) : NULL;
    reader->rows = malloc(width * 3 * IMAGE_ROWS_AT_ONCE + RESAMPLE_SLACK);
    if ((packed && !reader->indices) || !reader->rows) {
        reader_free(reader);
        return image_no_memory(header.width, header.height, error);
    }

    read_palette(reader);
    if (packed && !unpack_runs(reader)) {
        reader_free(reader);
        return refuse_truncated(error);
    }
    *ret = (struct row_reader){reader, reader_rows, reader_finish, reader_free};
    return true;
}
