/* Inside image/: what the decoders share. */
#pragma once
#include "image/image.h"

/* Refuse sizes beyond the limits, then allocate the pixels. */
bool image_allocate(int64_t width, int64_t height, struct image *ret, struct error *error);
/* Only the check. */
bool image_check_size(int64_t width, int64_t height, struct error *error);

/* The orientation (1 to 8, 1 where there is none or it is damaged) in EXIF data: a TIFF structure, with or
 * without "Exif\0\0" before it. CIPA DC-008 (EXIF 2.32), tag 0x0112 of the first directory. */
int exif_orientation(const uint8_t *bytes, size_t size);
/* Turn the pixels so that they stand upright. */
bool image_orient(struct image *image, int orientation, struct error *error);

/* Each decodes one format into RGB, not yet turned; *ret_orientation is 1 to 8. */
bool image_decode_jpeg(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error);
bool image_decode_png(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                      struct error *error);
bool image_decode_webp(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error);
