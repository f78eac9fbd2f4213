#include "image/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "image/decode.h"

void image_release(struct image *image) {
    free(image->pixels);
    *image = (struct image){0};
}

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
        "the image is too large: %lldx%lld pixels, and the limits are %d a side and %u million in all",
        (long long)width, (long long)height, LIMIT_IMAGE_SIDE, LIMIT_IMAGE_PIXELS / 1000000);
}

bool image_allocate(int64_t width, int64_t height, struct image *ret, struct error *error) {
    uint8_t *pixels = malloc((size_t)width * (size_t)height * 3);
    if (!pixels)
        return error_set(error, ERROR_MEMORY, "no memory for an image of %lldx%lld pixels", (long long)width,
                         (long long)height);

    *ret = (struct image){(int)width, (int)height, pixels};
    return true;
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

    return IMAGE_UNKNOWN;
}

/* Formats that people send by mistake, by name. */
static const char *foreign_format(const uint8_t *bytes, size_t size) {
    static const struct {
        const char *magic, *name;
        size_t length;
    } formats[] = {
        {"GIF8", "a GIF", 4},           {"BM", "a BMP", 2},
        {"II*\0", "a TIFF", 4},         {"MM\0*", "a TIFF", 4},
        {"%PDF", "a PDF", 4},           {"<svg", "an SVG drawing", 4},
        {"<!DOCTYPE", "a web page", 9}, {"<!doctype", "a web page", 9},
        {"<html", "a web page", 5},     {"<HTML", "a web page", 5},
        {"{", "JSON text", 1},
    };
    if (size == 0)
        return "empty";
    if (size >= 12 && memcmp(bytes + 4, "ftyp", 4) == 0)
        return memcmp(bytes + 8, "avi", 3) == 0  ? "an AVIF"
               : memcmp(bytes + 8, "he", 2) == 0 ? "a HEIC"
                                                 : "a video";

    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (begins_with(bytes, size, formats[i].magic, formats[i].length))
            return formats[i].name;

    return NULL;
}

static bool decode_any(const uint8_t *bytes, size_t size, struct image *ret, int *orientation,
                       struct error *error) {
    switch (image_sniff(bytes, size)) {
    case IMAGE_JPEG:
        return image_decode_jpeg(bytes, size, ret, orientation, error);
    case IMAGE_PNG:
        return image_decode_png(bytes, size, ret, orientation, error);
    case IMAGE_WEBP:
        return image_decode_webp(bytes, size, ret, orientation, error);
    case IMAGE_UNKNOWN:
        break;
    }

    const char *name = foreign_format(bytes, size);
    if (name)
        return error_set(error, ERROR_INVALID, "it is %s; JPEG, PNG and WebP are read", name);
    return error_set(error, ERROR_INVALID, "neither JPEG, PNG nor WebP");
}

int64_t image_decode_cost(const uint8_t *bytes, size_t size) {
    switch (image_sniff(bytes, size)) {
    case IMAGE_JPEG:
        return image_jpeg_cost(bytes, size);
    case IMAGE_PNG:
        return image_png_cost(bytes, size);
    case IMAGE_WEBP:
        return image_webp_cost(bytes, size);
    case IMAGE_UNKNOWN:
        break;
    }
    return 0;
}

bool image_decode_within(const uint8_t *bytes, size_t size, int64_t limit, struct image *ret,
                         struct error *error) {
    if (size > LIMIT_IMAGE_BYTES)
        return error_set(error, ERROR_TOO_LARGE, "the image file has %zu bytes, and the limit is %u MB", size,
                         LIMIT_IMAGE_BYTES >> 20);

    int64_t cost = image_decode_cost(bytes, size);
    if (cost > limit)
        return error_set(
            error, ERROR_INVALID,
            "the image is too large: decoding it takes %lld MB of memory, and the limit is %lld MB",
            (long long)(cost >> 20), (long long)(limit >> 20));

    struct image image = {0};
    int orientation = 1;
    if (!decode_any(bytes, size, &image, &orientation, error))
        return error->code == ERROR_INVALID ? error_prefix(error, "not an image that can be read") : false;
    if (!image_orient(&image, orientation, error)) {
        image_release(&image);
        return false;
    }

    *ret = image;
    return true;
}

bool image_decode(const uint8_t *bytes, size_t size, struct image *ret, struct error *error) {
    return image_decode_within(bytes, size, LIMIT_DECODE_BYTES, ret, error);
}
