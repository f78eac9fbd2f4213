/* The orientation that EXIF states. */
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
