/* Inside image/: what the decoders share. Any thread. */
#pragma once
#include "image/image.h"

enum { IMAGE_ROWS_AT_ONCE = 16 };

/* Within the limits of an image? */
bool image_size_allowed(int64_t width, int64_t height);
/* The same; ERROR_INVALID says what is wrong with a size that is not. */
bool image_check_size(int64_t width, int64_t height, struct error *error);
/* ERROR_MEMORY; false. */
bool image_no_memory(int64_t width, int64_t height, struct error *error);

/* The orientation in EXIF data (a TIFF structure, "Exif\0\0" before it or not), 1 to 8; 1 where there is none
 * or the data are damaged. CIPA DC-008 (EXIF 2.32), tag 0x0112 of the first directory. */
int exif_orientation(const uint8_t *bytes, size_t size);
/* The orientation that XMP (an RDF/XML text) states as tiff:Orientation; 1 where there is none. */
int xmp_orientation(const uint8_t *bytes, size_t size);
/* The orientation in a PNG's ancillary chunks: eXIf, a "Raw profile type exif" or APP1 in zTXt, tEXt or iTXt
 * as ImageMagick writes it, or XMP. What is read and inflated is bounded; other chunks are skipped. */
int png_find_orientation(const uint8_t *bytes, size_t size);

/* What a file's header tells: the size as it is stored, not turned. */
struct stored_info {
    int width, height, orientation;
    int64_t decoder_bytes;
};

bool image_jpeg_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);
bool image_png_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);
/* Bytes of the tables that libwebp makes for a lossless frame, at most; 0 where it is damaged before them. */
int64_t webp_lossless_table_bytes(const uint8_t *bytes, size_t size);
bool image_webp_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);
bool image_gif_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);
bool image_bmp_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);
bool image_tiff_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error);

/* A decoder that gives RGB row by row, from the top. `bytes` live longer. */
struct row_reader {
    void *state;
    /* The next `count` (at most IMAGE_ROWS_AT_ONCE) rows: [count, width, 3], until the next call, with
     * RESAMPLE_SLACK bytes behind them that may be read. NULL: ERROR_INVALID or ERROR_MEMORY. */
    const uint8_t *(*read)(void *state, int count, struct error *error);
    /* After the last row: false where the file is damaged behind it. */
    bool (*finish)(void *state, struct error *error);
    void (*free)(void *state); /* takes NULL */
};

/* Each opens one format. The reader is to be freed when it succeeds. */
bool image_jpeg_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
bool image_png_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
bool image_webp_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
bool image_gif_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
bool image_bmp_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
bool image_tiff_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error);
