/* EXIF orientation: reading and applying it. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/decode.h"

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4, ENTRY_BYTES = 12 };

struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
};

/* Read `width` (2 or 4) bytes at `offset`; false beyond the end. */
static bool tiff_read(const struct tiff *tiff, size_t offset, int width, uint32_t *ret) {
    if (!range_fits(offset, (uint64_t)width, tiff->size))
        return false;

    uint32_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | tiff->bytes[offset + (size_t)(tiff->big_endian ? i : width - 1 - i)];

    *ret = value;
    return true;
}

static int tiff_orientation(const struct tiff *tiff, uint32_t directory) {
    uint32_t count;
    if (!tiff_read(tiff, directory, 2, &count))
        return 1;

    for (uint32_t i = 0; i < count; i++) {
        size_t entry = (size_t)directory + 2 + (size_t)i * ENTRY_BYTES;
        uint32_t tag, type, values, value;
        if (!tiff_read(tiff, entry, 2, &tag))
            return 1;
        if (tag != TAG_ORIENTATION)
            continue;
        if (!tiff_read(tiff, entry + 2, 2, &type) || !tiff_read(tiff, entry + 4, 4, &values) || values != 1 ||
            (type != TYPE_SHORT && type != TYPE_LONG) ||
            !tiff_read(tiff, entry + 8, type == TYPE_SHORT ? 2 : 4, &value))
            return 1;
        return value >= 1 && value <= 8 ? (int)value : 1;
    }

    return 1;
}

int exif_orientation(const uint8_t *bytes, size_t size) {
    if (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }

    struct tiff tiff = {bytes, size, false};
    if (size < 8)
        return 1;

    if (memcmp(bytes, "MM\0*", 4) == 0)
        tiff.big_endian = true;
    else if (memcmp(bytes, "II*\0", 4) != 0)
        return 1;

    uint32_t directory;
    return tiff_read(&tiff, 4, 4, &directory) ? tiff_orientation(&tiff, directory) : 1;
}

/* Where the first pixel of the upright image is in the stored one, and the steps (in pixels) to its
 * neighbours on the right and below. */
struct pixel_walk {
    ptrdiff_t start, right, down;
};

static struct pixel_walk find_pixel_walk(int orientation, ptrdiff_t width, ptrdiff_t height) {
    ptrdiff_t last_row = (height - 1) * width, last = width * height - 1;
    switch (orientation) {
    case 2: /* mirrored left to right */
        return (struct pixel_walk){width - 1, -1, width};
    case 3: /* upside down */
        return (struct pixel_walk){last, -1, -width};
    case 4: /* mirrored top to bottom */
        return (struct pixel_walk){last_row, 1, -width};
    case 5: /* transposed */
        return (struct pixel_walk){0, width, 1};
    case 6: /* to be turned clockwise */
        return (struct pixel_walk){last_row, -width, 1};
    case 7: /* transposed along the other diagonal */
        return (struct pixel_walk){last, -width, -1};
    default: /* 8: to be turned anticlockwise */
        return (struct pixel_walk){width - 1, width, -1};
    }
}

bool image_orient(struct image *image, int orientation, struct error *error) {
    if (orientation < 2 || orientation > 8)
        return true;

    struct pixel_walk walk = find_pixel_walk(orientation, image->width, image->height);
    bool swapped = orientation >= 5;
    struct image upright;
    if (!image_allocate(swapped ? image->height : image->width, swapped ? image->width : image->height,
                        &upright, error))
        return false;

    uint8_t *to = upright.pixels;
    for (int y = 0; y < upright.height; y++) {
        const uint8_t *from = image->pixels + 3 * (walk.start + y * walk.down);
        for (int x = 0; x < upright.width; x++, to += 3) {
            const uint8_t *pixel = from + 3 * x * walk.right;
            to[0] = pixel[0];
            to[1] = pixel[1];
            to[2] = pixel[2];
        }
    }

    image_release(image);
    *image = upright;
    return true;
}
