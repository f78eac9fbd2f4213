/* Inside image/: what the decoders share. Any thread. */
#pragma once
#include "image/image.h"

/* Within the limits of an image? */
bool image_size_allowed(int64_t width, int64_t height);
/* The same; ERROR_INVALID says what is wrong with a size that is not. */
bool image_check_size(int64_t width, int64_t height, struct error *error);
/* The pixels of an image of an allowed size. ERROR_MEMORY. */
bool image_allocate(int64_t width, int64_t height, struct image *ret, struct error *error);

/* The orientation in EXIF data (a TIFF structure, "Exif\0\0" before it or not), 1 to 8; 1 where there is none
 * or the data are damaged. CIPA DC-008 (EXIF 2.32), tag 0x0112 of the first directory. */
int exif_orientation(const uint8_t *bytes, size_t size);
/* The orientation that XMP (an RDF/XML text) states as tiff:Orientation; 1 where there is none. */
int xmp_orientation(const uint8_t *bytes, size_t size);
/* The orientation in a PNG's ancillary chunks: eXIf, a "Raw profile type exif" or APP1 in zTXt, tEXt or iTXt
 * as ImageMagick writes it, or XMP. What is read and inflated is bounded; other chunks are skipped. */
int png_find_orientation(const uint8_t *bytes, size_t size);
/* Turn the pixels upright. ERROR_MEMORY. */
bool image_orient(struct image *image, int orientation, struct error *error);

/* The most bytes that decoding and turning take at once, by the header; 0 where it is damaged. */
int64_t image_jpeg_cost(const uint8_t *bytes, size_t size);
int64_t image_png_cost(const uint8_t *bytes, size_t size);
int64_t image_webp_cost(const uint8_t *bytes, size_t size);

/* Each decodes one format into RGB, not yet turned; *ret_orientation: 1 to 8. */
bool image_decode_jpeg(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error);
bool image_decode_png(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                      struct error *error);
bool image_decode_webp(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error);
