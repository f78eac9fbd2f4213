/* JPEG through TurboJPEG: accurate integer DCT and fancy upsampling, as Pillow decodes.
 *
 * The markers are walked here first: for the size (refused before anything is allocated), the EXIF block, and
 * to know whether the file ends where it says. Rec. ITU-T T.81, annex B. */
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "image/decode.h"

struct jpeg_facts {
    int width, height, components, precision; /* components 0: no frame header was found */
    int orientation;
    bool complete; /* an end-of-image marker closes it */
    bool huffman;  /* not arithmetic-coded */
    bool staged;   /* progressive: all coefficients are kept */
};

static bool marker_is_frame(int marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Markers without a segment. */
static bool marker_is_bare(int marker) {
    return marker == 0x00 || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8);
}

/* The next marker at or after *at, which moves past it; -1 at the end. Skips entropy-coded data: within it,
 * 0xff is followed by 0 or a restart marker, and marker_is_bare knows both. */
static int next_marker(const uint8_t *bytes, size_t size, size_t *at) {
    while (*at < size) {
        const uint8_t *found = memchr(bytes + *at, 0xff, size - *at);
        if (!found)
            return -1;
        *at = (size_t)(found - bytes);
        while (*at < size && bytes[*at] == 0xff)
            ++*at;
        if (*at < size)
            return bytes[(*at)++];
    }

    return -1;
}

static void read_segment(int marker, const uint8_t *segment, size_t length, struct jpeg_facts *facts,
                         bool *has_exif) {
    if (marker_is_frame(marker) && !facts->components && length >= 6) {
        facts->precision = segment[0];
        facts->height = segment[1] << 8 | segment[2];
        facts->width = segment[3] << 8 | segment[4];
        facts->components = segment[5];
        facts->huffman = marker < 0xc8;
        facts->staged = (marker & 3) == 2;
    } else if (marker == 0xe1 && !*has_exif && length >= 6 && memcmp(segment, "Exif\0", 5) == 0) {
        facts->orientation = exif_orientation(segment, length);
        *has_exif = true;
    }
}

static void walk_markers(const uint8_t *bytes, size_t size, struct jpeg_facts *facts) {
    *facts = (struct jpeg_facts){.orientation = 1};
    bool has_exif = false;
    size_t at = 2;
    for (int marker; (marker = next_marker(bytes, size, &at)) >= 0;) {
        if (marker == 0xd9) {
            facts->complete = true;
            return;
        }
        if (marker_is_bare(marker))
            continue;

        if (!range_fits(at, 2, size))
            return;
        size_t length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2 || !range_fits(at, length, size))
            return;

        read_segment(marker, bytes + at + 2, length - 2, facts, &has_exif);
        at += length;
    }
}

/* a * b / 255, rounded, the way Pillow does. */
static int multiply_255(int a, int b) {
    int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

/* Adobe's inverted CMYK, [pixels, 4] -> RGB, [pixels, 3]. */
static void convert_cmyk(const uint8_t *cmyk, size_t pixels, uint8_t *rgb) {
    for (size_t i = 0; i < pixels; i++, cmyk += 4, rgb += 3) {
        int light = cmyk[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(light - multiply_255(255 - cmyk[c], light));
    }
}

/* Every block of 8x8 pixels takes at least a bit: refuses a few bytes that announce millions of pixels. */
static bool bytes_suffice(const struct jpeg_facts *facts, size_t size) {
    return !facts->huffman || (int64_t)facts->width * facts->height / 64 <= (int64_t)size * 8;
}

static bool check_facts(const struct jpeg_facts *facts, size_t size, struct error *error) {
    if (!facts->components)
        return error_set(error, ERROR_INVALID, "the JPEG ends before its image begins");
    if (facts->precision != 8)
        return error_set(error, ERROR_INVALID, "the JPEG has %d bits a sample, and only 8 are read",
                         facts->precision);
    if (facts->components != 1 && facts->components != 3 && facts->components != 4)
        return error_set(error, ERROR_INVALID, "the JPEG has %d colour components", facts->components);
    if (!image_check_size(facts->width, facts->height, error))
        return false;
    if (!facts->complete)
        return error_set(error, ERROR_INVALID, "the JPEG is truncated: it has no end marker");
    if (!bytes_suffice(facts, size))
        return error_set(error, ERROR_INVALID, "the JPEG is truncated: %zu bytes cannot hold %dx%d pixels",
                         size, facts->width, facts->height);

    return true;
}

static void tjhandle_freep(tjhandle *handle) {
    if (*handle)
        tjDestroy(*handle);
}

/* Pillow ignores warnings ("extraneous bytes before marker") but for missing data. */
static bool decompress_failed(tjhandle handle) {
    return tjGetErrorCode(handle) != TJERR_WARNING || strstr(tjGetErrorStr2(handle), "remature end");
}

/* A progressive file keeps a coefficient of two bytes for each sample; one that is not, some rows. Subsampled
 * components count in full: what the frame says of them is not looked at. */
int64_t image_jpeg_cost(const uint8_t *bytes, size_t size) {
    struct jpeg_facts facts;
    struct error ignored;
    walk_markers(bytes, size, &facts);
    if (!check_facts(&facts, size, &ignored))
        return 0;

    int64_t pixels = (int64_t)facts.width * facts.height, cost = pixels * 3;
    int64_t turned = facts.orientation > 1 ? pixels * 3 : 0;

    if (facts.staged)
        cost += pixels * 2 * facts.components;
    if (facts.components == 4)
        cost += pixels * 4;
    return cost > pixels * 3 + turned ? cost : pixels * 3 + turned;
}

bool image_decode_jpeg(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error) {
    struct jpeg_facts facts;
    walk_markers(bytes, size, &facts);
    if (!check_facts(&facts, size, error))
        return false;

    cleanup(tjhandle_freep) tjhandle handle = tjInitDecompress();
    struct image image;
    if (!handle)
        return error_set(error, ERROR_MEMORY, "no memory for a JPEG decoder");
    if (!image_allocate(facts.width, facts.height, &image, error))
        return false;

    size_t pixels = (size_t)facts.width * (size_t)facts.height;
    cleanup(freep) uint8_t *cmyk = facts.components == 4 ? malloc(pixels * 4) : NULL;
    if (facts.components == 4 && !cmyk) {
        image_release(&image);
        return error_set(error, ERROR_MEMORY, "no memory for an image of %dx%d pixels", facts.width,
                         facts.height);
    }

    int format = cmyk ? TJPF_CMYK : TJPF_RGB;
    /* TurboJPEG never writes beyond the width and height that it is given, whatever the file says. */
    if (tjDecompress2(handle, bytes, (unsigned long)size, cmyk ? cmyk : image.pixels, facts.width,
                      facts.width * tjPixelSize[format], facts.height, format, TJFLAG_LIMITSCANS) < 0 &&
        decompress_failed(handle)) {
        image_release(&image);
        return error_set(error, ERROR_INVALID, "the JPEG is damaged: %s", tjGetErrorStr2(handle));
    }

    if (cmyk)
        convert_cmyk(cmyk, pixels, image.pixels);
    *ret = image;
    *ret_orientation = facts.orientation;
    return true;
}
