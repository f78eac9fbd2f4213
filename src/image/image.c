#include "image/image.h"

#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

bool image_size_allowed(int64_t width, int64_t height) {
    return width >= 1 && height >= 1 && width <= LIMIT_IMAGE_SIDE && height <= LIMIT_IMAGE_SIDE &&
           width * height <= (int64_t)LIMIT_IMAGE_PIXELS;
}

bool image_check_size(int64_t width, int64_t height, struct error *error) {
    if (image_size_allowed(width, height))
        return true;

    if (width < 1 || height < 1)
        return error_set(error, ERROR_INVALID, "the image is empty (%lldx%lld pixels)", (long long)width,
                         (long long)height);
    return error_set(
        error, ERROR_INVALID,
        "the image is too large: %lldx%lld pixels, but the limits are %d a side and %u million in all",
        (long long)width, (long long)height, LIMIT_IMAGE_SIDE, LIMIT_IMAGE_PIXELS / 1000000);
}

bool image_no_memory(int64_t width, int64_t height, struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for an image of %lldx%lld pixels",
                     (long long)width, (long long)height);
}

static bool begins_with(const uint8_t *bytes, size_t size, const char *magic, size_t length) {
    return size >= length && memcmp(bytes, magic, length) == 0;
}

enum image_format image_sniff(const uint8_t *bytes, size_t size) {
    if (begins_with(bytes, size, "\xff\xd8\xff", 3))
        return IMAGE_JPEG;
    if (begins_with(bytes, size, "\x89PNG\r\n\x1a\n", 8))
        return IMAGE_PNG;
    if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return IMAGE_WEBP;
    if (begins_with(bytes, size, "GIF87a", 6) || begins_with(bytes, size, "GIF89a", 6))
        return IMAGE_GIF;
    if (begins_with(bytes, size, "BM", 2))
        return IMAGE_BMP;
    if (begins_with(bytes, size, "II*\0", 4) || begins_with(bytes, size, "MM\0*", 4))
        return IMAGE_TIFF;

    return IMAGE_UNKNOWN;
}

/* A file in the form of ISO 14496-12 says what it is by a list of brands; the first one may be a common one
 * (mif1: still pictures). */
static const char *name_brands(const uint8_t *bytes, size_t size) {
    size_t length = (size_t)bytes[2] << 8 | bytes[3];
    bool still = false;

    for (size_t at = 8; at + 4 <= size && (at < length || at == 8); at += 4) {
        if (memcmp(bytes + at, "avi", 3) == 0)
            return "an AVIF: save it as JPEG, or let a browser convert it";
        if (memcmp(bytes + at, "he", 2) == 0)
            return "a HEIC: save it as JPEG, or let a browser convert it";
        still |= memcmp(bytes + at, "mif1", 4) == 0;
    }
    return still ? "a HEIF" : "a video";
}

/* Formats that people send by mistake, by name. */
static const char *foreign_format(const uint8_t *bytes, size_t size) {
    static const struct {
        const char *magic, *name;
        size_t length;
    } formats[] = {
        {"II+\0", "a BigTIFF", 4},     {"MM\0+", "a BigTIFF", 4},      {"%PDF", "a PDF", 4},
        {"<svg", "an SVG drawing", 4}, {"<!DOCTYPE", "a web page", 9}, {"<!doctype", "a web page", 9},
        {"<html", "a web page", 5},    {"<HTML", "a web page", 5},     {"{", "JSON text", 1},
    };
    if (size == 0)
        return "empty";
    if (size >= 12 && memcmp(bytes + 4, "ftyp", 4) == 0)
        return name_brands(bytes, size);

    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (begins_with(bytes, size, formats[i].magic, formats[i].length))
            return formats[i].name;

    return NULL;
}

static bool refuse_format(const uint8_t *bytes, size_t size, struct error *error) {
    const char *name = foreign_format(bytes, size);
    if (name)
        return error_set(error, ERROR_INVALID, "it is %s; JPEG, PNG, WebP, GIF, BMP and TIFF are read", name);
    return error_set(error, ERROR_INVALID, "neither JPEG, PNG, WebP, GIF, BMP nor TIFF");
}

static bool read_stored(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    switch (image_sniff(bytes, size)) {
    case IMAGE_JPEG:
        return image_jpeg_info(bytes, size, ret, error);
    case IMAGE_PNG:
        return image_png_info(bytes, size, ret, error);
    case IMAGE_WEBP:
        return image_webp_info(bytes, size, ret, error);
    case IMAGE_GIF:
        return image_gif_info(bytes, size, ret, error);
    case IMAGE_BMP:
        return image_bmp_info(bytes, size, ret, error);
    case IMAGE_TIFF:
        return image_tiff_info(bytes, size, ret, error);
    case IMAGE_UNKNOWN:
        break;
    }
    return refuse_format(bytes, size, error);
}

static bool blame_image(struct error *error) {
    return error->code == ERROR_INVALID ? error_prefix(error, "not an image that can be read") : false;
}

bool image_read_info(const uint8_t *bytes, size_t size, struct image_info *ret, struct error *error) {
    if (size > LIMIT_IMAGE_BYTES)
        return error_set(error, ERROR_TOO_LARGE, "the image file has %zu bytes, but the limit is %u MB", size,
                         LIMIT_IMAGE_BYTES >> 20);

    struct stored_info stored;
    if (!read_stored(bytes, size, &stored, error))
        return blame_image(error);
    if (stored.decoder_bytes > LIMIT_DECODE_BYTES)
        return error_set(
            error, ERROR_TOO_LARGE,
            "the image is too large: decoding it takes %lld MB of memory, but the limit is %lld MB",
            (long long)(stored.decoder_bytes >> 20), (long long)(LIMIT_DECODE_BYTES >> 20));

    bool swapped = stored.orientation >= 5;
    *ret = (struct image_info){.format = image_sniff(bytes, size),
                               .width = swapped ? stored.height : stored.width,
                               .height = swapped ? stored.width : stored.height,
                               .orientation = stored.orientation,
                               .decoder_bytes = stored.decoder_bytes};

    return true;
}

static bool open_reader(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    switch (image_sniff(bytes, size)) {
    case IMAGE_JPEG:
        return image_jpeg_open(bytes, size, ret, error);
    case IMAGE_PNG:
        return image_png_open(bytes, size, ret, error);
    case IMAGE_WEBP:
        return image_webp_open(bytes, size, ret, error);
    case IMAGE_GIF:
        return image_gif_open(bytes, size, ret, error);
    case IMAGE_BMP:
        return image_bmp_open(bytes, size, ret, error);
    case IMAGE_TIFF:
        return image_tiff_open(bytes, size, ret, error);
    case IMAGE_UNKNOWN:
        break;
    }
    return refuse_format(bytes, size, error);
}

/* All rows of a reader into the resizer. */
static bool read_rows(const struct row_reader *reader, int height, struct resizer *resizer, double *decode_ms,
                      struct error *error) {
    for (int y = 0; y < height; y += IMAGE_ROWS_AT_ONCE) {
        int count = height - y < IMAGE_ROWS_AT_ONCE ? height - y : IMAGE_ROWS_AT_ONCE;
        double start = clock_ms();
        const uint8_t *rows = reader->read(reader->state, count, error);
        *decode_ms += clock_ms() - start;

        if (!rows)
            return false;
        resizer_push(resizer, rows, count);
    }
    return reader->finish(reader->state, error);
}

bool image_read_resized(const uint8_t *bytes, size_t size, const struct image_info *info,
                        const struct resizing *resize, uint8_t *pixels, double *decode_ms,
                        struct error *error) {
    struct resizer *resizer = resizer_create(resize, pixels, error);
    struct row_reader reader = {0};
    double start = clock_ms();
    if (!resizer)
        return false;

    bool done = open_reader(bytes, size, &reader, error);
    *decode_ms += clock_ms() - start;
    if (done) {
        done = read_rows(&reader, info->orientation >= 5 ? info->width : info->height, resizer, decode_ms,
                         error);
        reader.free(reader.state);
    }

    resizer_free(resizer);
    return done || blame_image(error);
}
