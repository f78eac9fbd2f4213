/* TIFF through libtiff: the first picture of a baseline file, 1 to 16 bits grey, with a palette or RGB, in
 * strips or tiles, plain or compressed by PackBits, LZW or Deflate. Further channels (alpha) are dropped, 16
 * bits keep their high byte. What photographs do not use is refused by name. */
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

enum {
    TIFF_DECODER_BYTES = 512 << 10, /* of a decoder, beside its strips and tags */
    TIFF_ENTRIES = 256,             /* of a directory: more are refused */
    TIFF_TAG_BYTES = 1 << 20,       /* of the values of all tags together */
};

struct tiff_reader {
    const uint8_t *bytes;
    size_t size, at;
    char message[160]; /* libtiff's */
    TIFF *tiff;
    int width, height, orientation;
    int bits, channels, photometric;
    int band;         /* rows of a strip, or of a row of tiles */
    int tile_width;   /* 0: strips */
    size_t stride;    /* bytes of a row of the band */
    size_t piece;     /* bytes of a strip or tile */
    size_t tag_bytes; /* of the values of all tags */
    int next;         /* the row that is read next */
    uint8_t *pixels;  /* [band, stride]: the band that `next` is in */
    uint8_t *tile;    /* [piece] */
    uint8_t *rows;    /* [IMAGE_ROWS_AT_ONCE, width, 3], with slack */
    uint8_t colours[256][3];
};

/* --- The file, as libtiff wants to read it ---------------------------------------------------------------
 */

static tmsize_t source_read(thandle_t handle, void *to, tmsize_t count) {
    struct tiff_reader *reader = handle;
    size_t left = reader->size - reader->at, taken = (size_t)count < left ? (size_t)count : left;

    memcpy(to, reader->bytes + reader->at, taken);
    reader->at += taken;
    return (tmsize_t)taken;
}

static tmsize_t source_write(thandle_t handle, void *from, tmsize_t count) {
    return 0;
}

static toff_t source_seek(thandle_t handle, toff_t offset, int whence) {
    struct tiff_reader *reader = handle;
    toff_t from = whence == SEEK_CUR ? reader->at : whence == SEEK_END ? reader->size : 0;

    if (offset > reader->size - (from < reader->size ? from : reader->size))
        return (toff_t)-1;
    reader->at = (size_t)(from + offset);
    return reader->at;
}

static int source_close(thandle_t handle) {
    return 0;
}

static toff_t source_size(thandle_t handle) {
    const struct tiff_reader *reader = handle;
    return reader->size;
}

static int source_map(thandle_t handle, void **ret, toff_t *ret_size) {
    return 0;
}

static void source_unmap(thandle_t handle, void *bytes, toff_t size) {
}

static int keep_message(TIFF *tiff, void *context, const char *module, const char *format, va_list values) {
    struct tiff_reader *reader = context;
    if (!reader->message[0])
        vsnprintf(reader->message, sizeof reader->message, format, values);
    return 1;
}

static int drop_message(TIFF *tiff, void *context, const char *module, const char *format, va_list values) {
    return 1;
}

static bool refuse_damaged(const struct tiff_reader *reader, struct error *error) {
    return error_set(error, ERROR_INVALID, "the TIFF is truncated or damaged%s%s",
                     reader->message[0] ? ": " : "", reader->message);
}

/* --- Before libtiff sees it ------------------------------------------------------------------------------
 */

static uint32_t read_number(const uint8_t *bytes, int count, bool big) {
    uint32_t number = 0;
    for (int i = 0; i < count; i++)
        number |= (uint32_t)bytes[big ? count - 1 - i : i] << 8 * i;
    return number;
}

/* Tags that decide how much libtiff allocates. */
enum { WIDTH, LENGTH, SAMPLES, ROWS, PLANES, TILE_WIDTH, TILE_LENGTH, OFFSETS, COUNTS, TAGS };

static int tag_of(uint32_t number) {
    switch (number) {
    case TIFFTAG_IMAGEWIDTH:
        return WIDTH;
    case TIFFTAG_IMAGELENGTH:
        return LENGTH;
    case TIFFTAG_SAMPLESPERPIXEL:
        return SAMPLES;
    case TIFFTAG_ROWSPERSTRIP:
        return ROWS;
    case TIFFTAG_PLANARCONFIG:
        return PLANES;
    case TIFFTAG_TILEWIDTH:
        return TILE_WIDTH;
    case TIFFTAG_TILELENGTH:
        return TILE_LENGTH;
    case TIFFTAG_STRIPOFFSETS:
    case TIFFTAG_TILEOFFSETS:
        return OFFSETS;
    case TIFFTAG_STRIPBYTECOUNTS:
    case TIFFTAG_TILEBYTECOUNTS:
        return COUNTS;
    default:
        return TAGS;
    }
}

struct tiff_tags {
    bool is_there[TAGS];
    uint32_t value[TAGS]; /* the first; of offsets and counts, how many there are */
};

static uint64_t pieces_along(const struct tiff_tags *tags, int side, int piece) {
    uint64_t length = tags->value[side], step = tags->value[piece];
    return step ? (length + step - 1) / step : length;
}

/* libtiff makes room for the offset and the size of each strip or tile that the picture's sides ask for,
 * however few the file has: those are counted first. */
static bool check_pieces(struct tiff_reader *reader, const struct tiff_tags *tags, struct error *error) {
    bool tiled = tags->is_there[TILE_WIDTH] || tags->is_there[TILE_LENGTH];
    if (!tags->is_there[WIDTH] || !tags->is_there[LENGTH])
        return refuse_damaged(reader, error);
    if (!image_check_size(tags->value[WIDTH], tags->value[LENGTH], error))
        return false;

    uint64_t pieces = 1;
    if (tiled)
        pieces = pieces_along(tags, WIDTH, TILE_WIDTH) * pieces_along(tags, LENGTH, TILE_LENGTH);
    else if (tags->is_there[ROWS])
        pieces = pieces_along(tags, LENGTH, ROWS);
    if (tags->value[PLANES] == PLANARCONFIG_SEPARATE)
        pieces *= tags->value[SAMPLES];
    if (pieces > tags->value[OFFSETS])
        return error_set(error, ERROR_INVALID, "the TIFF is damaged: it has %u of its %llu strips or tiles",
                         tags->value[OFFSETS], (unsigned long long)pieces);
    return true;
}

/* The bytes that an entry's values take in libtiff's memory; what decides about more is put down in `tags`.
 */
static bool note_entry(const uint8_t *entry, bool big, struct tiff_tags *tags, size_t *ret_bytes) {
    static const uint8_t sizes[] = {1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};
    uint32_t type = read_number(entry + 2, 2, big), values = read_number(entry + 4, 4, big);
    size_t size = type < sizeof sizes ? sizes[type] : 1;
    int tag = tag_of(read_number(entry, 2, big));

    if (tag < TAGS && tags->is_there[tag])
        return false;
    if (tag < TAGS)
        tags->is_there[tag] = true;
    if (tag == OFFSETS || tag == COUNTS) {
        tags->value[tag] = values;
        size = sizeof(uint64_t); /* which they become */
    } else if (tag < TAGS) {
        if (type != TIFF_BYTE && type != TIFF_SHORT && type != TIFF_LONG)
            return false;
        tags->value[tag] = read_number(entry + 8, (int)size, big);
    }
    *ret_bytes = (size_t)values * size;
    return true;
}

/* libtiff copies the values of every tag, and several tags may stand for the same bytes: their sum is
 * bounded. */
static bool check_directory(struct tiff_reader *reader, struct error *error) {
    const uint8_t *bytes = reader->bytes;
    struct tiff_tags tags = {0};
    bool big = bytes[0] == 'M';
    if (reader->size < 10)
        return refuse_damaged(reader, error);

    size_t at = read_number(bytes + 4, 4, big);
    if (at > reader->size - 2)
        return refuse_damaged(reader, error);
    size_t count = read_number(bytes + at, 2, big);
    if (count > TIFF_ENTRIES || count * 12 > reader->size - at - 2)
        return count > TIFF_ENTRIES ? error_set(error, ERROR_INVALID, "the TIFF has %zu tags, more than %d",
                                                count, TIFF_ENTRIES)
                                    : refuse_damaged(reader, error);

    for (size_t i = 0; i < count; i++) {
        size_t taken;
        if (!note_entry(bytes + at + 2 + 12 * i, big, &tags, &taken))
            return refuse_damaged(reader, error);
        reader->tag_bytes += taken;
    }
    if (reader->tag_bytes > TIFF_TAG_BYTES)
        return error_set(error, ERROR_INVALID, "the TIFF has tags of more than %d MB", TIFF_TAG_BYTES >> 20);
    return check_pieces(reader, &tags, error);
}

/* --- Its header ------------------------------------------------------------------------------------------
 */

static bool check_compression(TIFF *tiff, struct error *error) {
    uint16_t compression = COMPRESSION_NONE;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);

    switch (compression) {
    case COMPRESSION_NONE:
    case COMPRESSION_PACKBITS:
    case COMPRESSION_LZW:
    case COMPRESSION_DEFLATE:
    case COMPRESSION_ADOBE_DEFLATE:
        return true;
    default:
        return error_set(error, ERROR_INVALID,
                         "the TIFF is compressed in a way that is not read (%d): save it with LZW or as JPEG",
                         compression);
    }
}

static bool check_colours(const struct tiff_reader *reader, int planes, int format, struct error *error) {
    static const char *const names[] = {[PHOTOMETRIC_MASK] = "a mask",
                                        [PHOTOMETRIC_SEPARATED] = "CMYK colours",
                                        [PHOTOMETRIC_YCBCR] = "YCbCr colours",
                                        [PHOTOMETRIC_CIELAB] = "CIELab colours",
                                        [PHOTOMETRIC_ICCLAB] = "ICCLab colours"};
    int bits = reader->bits, photometric = reader->photometric;
    bool grey = photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE;
    bool whole = bits == 8 || bits == 16;
    bool known = (grey && (whole || (bits <= 4 && reader->channels == 1))) ||
                 (photometric == PHOTOMETRIC_RGB && whole && reader->channels >= 3) ||
                 (photometric == PHOTOMETRIC_PALETTE && bits <= 8 && reader->channels == 1);

    if (!grey && photometric != PHOTOMETRIC_RGB && photometric != PHOTOMETRIC_PALETTE)
        return error_set(error, ERROR_INVALID, "the TIFF holds %s: save it as RGB",
                         photometric <= PHOTOMETRIC_ICCLAB && names[photometric] ? names[photometric]
                                                                                 : "unusual colours");
    if (!known || (bits & (bits - 1)) || format != SAMPLEFORMAT_UINT ||
        (planes != PLANARCONFIG_CONTIG && reader->channels > 1))
        return error_set(error, ERROR_INVALID,
                         "the TIFF has %d channels of %d bits%s: save it as RGB with 8 bits",
                         reader->channels, bits, planes != PLANARCONFIG_CONTIG ? ", in planes" : "");
    return true;
}

static bool read_colours(struct tiff_reader *reader, struct error *error) {
    uint16_t bits = 1, channels = 1, photometric = PHOTOMETRIC_MINISBLACK, planes = PLANARCONFIG_CONTIG,
             orientation = 1, format = SAMPLEFORMAT_UINT;
    TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_SAMPLESPERPIXEL, &channels);
    TIFFGetField(reader->tiff, TIFFTAG_PHOTOMETRIC, &photometric);
    TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_PLANARCONFIG, &planes);
    TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_ORIENTATION, &orientation);
    TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_SAMPLEFORMAT, &format);

    reader->bits = bits;
    reader->channels = channels;
    reader->photometric = photometric;
    reader->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
    return check_compression(reader->tiff, error) && check_colours(reader, planes, format, error);
}

/* Strips, or tiles: how many rows come together, and their bytes. */
static bool read_layout(struct tiff_reader *reader, struct error *error) {
    size_t pixel = (size_t)reader->bits * (size_t)reader->channels;
    uint32_t width = 0, rows = 0;

    if (TIFFIsTiled(reader->tiff)) {
        TIFFGetField(reader->tiff, TIFFTAG_TILEWIDTH, &width);
        TIFFGetField(reader->tiff, TIFFTAG_TILELENGTH, &rows);
        if (!image_check_size(width, rows, error))
            return false;
        if (reader->bits < 8)
            return error_set(error, ERROR_INVALID, "the TIFF has tiles of %d bits: save it as RGB",
                             reader->bits);
        reader->tile_width = (int)width;
        reader->band = (int)rows;
        reader->piece = (size_t)width * pixel / 8 * rows;
    } else {
        TIFFGetFieldDefaulted(reader->tiff, TIFFTAG_ROWSPERSTRIP, &rows);
        reader->band = rows < 1 || rows > (uint32_t)reader->height ? reader->height : (int)rows;
        reader->piece = ((size_t)reader->width * pixel + 7) / 8 * (size_t)reader->band;
    }

    reader->stride = ((size_t)reader->width * pixel + 7) / 8;
    tmsize_t told = reader->tile_width ? TIFFTileSize(reader->tiff) : TIFFStripSize(reader->tiff);
    return (told > 0 && (size_t)told == reader->piece) || refuse_damaged(reader, error);
}

static void reader_free(void *state) {
    struct tiff_reader *reader = state;
    if (!reader)
        return;

    if (reader->tiff)
        TIFFClose(reader->tiff);
    free(reader->pixels);
    free(reader->tile);
    free(reader->rows);
    free(reader);
}

static bool open_file(struct tiff_reader *reader) {
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options)
        return false;

    TIFFOpenOptionsSetMaxSingleMemAlloc(options, LIMIT_DECODE_BYTES);
    TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, reader);
    TIFFOpenOptionsSetWarningHandlerExtR(options, drop_message, reader);
    reader->tiff = TIFFClientOpenExt("TIFF", "rm", reader, source_read, source_write, source_seek,
                                     source_close, source_size, source_map, source_unmap, options);
    TIFFOpenOptionsFree(options);
    return reader->tiff != NULL;
}

/* Its header, checked. NULL: the reason. */
static struct tiff_reader *reader_create(const uint8_t *bytes, size_t size, struct error *error) {
    struct tiff_reader *reader = calloc(1, sizeof *reader);
    uint32_t width = 0, height = 0;
    if (!reader) {
        error_set(error, ERROR_MEMORY, "not enough memory for a TIFF decoder");
        return NULL;
    }

    reader->bytes = bytes;
    reader->size = size;
    bool good = check_directory(reader, error) && (open_file(reader) || refuse_damaged(reader, error));
    if (good) {
        TIFFGetField(reader->tiff, TIFFTAG_IMAGEWIDTH, &width);
        TIFFGetField(reader->tiff, TIFFTAG_IMAGELENGTH, &height);
        reader->width = (int)(width < INT32_MAX ? width : INT32_MAX);
        reader->height = (int)(height < INT32_MAX ? height : INT32_MAX);
        good = image_check_size(width, height, error) && read_colours(reader, error) &&
               read_layout(reader, error);
    }
    if (good)
        return reader;

    reader_free(reader);
    return NULL;
}

bool image_tiff_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    struct tiff_reader *reader = reader_create(bytes, size, error);
    if (!reader)
        return false;

    /* A compressed strip or tile is read whole; tags are kept as they are, and widened. */
    int64_t cost = TIFF_DECODER_BYTES + 3 * (int64_t)reader->tag_bytes + (int64_t)size +
                   (int64_t)reader->stride * reader->band + (int64_t)reader->width * 3 * IMAGE_ROWS_AT_ONCE;
    cost += reader->tile_width ? (int64_t)reader->piece : 0;
    *ret = (struct stored_info){reader->width, reader->height, reader->orientation, cost};
    reader_free(reader);
    return true;
}

/* --- Rows ------------------------------------------------------------------------------------------------
 */

static bool read_palette(struct tiff_reader *reader, struct error *error) {
    uint16_t *map[3];
    if (reader->photometric != PHOTOMETRIC_PALETTE)
        return true;
    if (!TIFFGetField(reader->tiff, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]))
        return refuse_damaged(reader, error);

    for (int i = 0; i < 1 << reader->bits; i++)
        for (int c = 0; c < 3; c++)
            reader->colours[i][c] = (uint8_t)(map[c][i] >> 8);
    return true;
}

/* The tiles of a row of tiles, side by side. */
static bool read_tiles(struct tiff_reader *reader, int first, int rows) {
    size_t pixel = (size_t)reader->bits * (size_t)reader->channels / 8;
    size_t tile_stride = (size_t)reader->tile_width * pixel;

    for (int x = 0; x < reader->width; x += reader->tile_width) {
        int columns = reader->width - x < reader->tile_width ? reader->width - x : reader->tile_width;
        if (TIFFReadTile(reader->tiff, reader->tile, (uint32_t)x, (uint32_t)first, 0, 0) < 0)
            return false;
        for (int y = 0; y < rows; y++)
            memcpy(reader->pixels + (size_t)y * reader->stride + (size_t)x * pixel,
                   reader->tile + (size_t)y * tile_stride, (size_t)columns * pixel);
    }
    return true;
}

/* The band that begins with row `first`. */
static bool read_band(struct tiff_reader *reader, int first) {
    int rows = reader->height - first < reader->band ? reader->height - first : reader->band;
    if (reader->tile_width)
        return read_tiles(reader, first, rows);

    size_t size = (size_t)rows * reader->stride;
    uint32_t strip = TIFFComputeStrip(reader->tiff, (uint32_t)first, 0);
    return TIFFReadEncodedStrip(reader->tiff, strip, reader->pixels, (tmsize_t)size) == (tmsize_t)size;
}

/* Sample `at` of a row, with 8 bits; an index of a palette as it is. */
static int sample(const struct tiff_reader *reader, const uint8_t *row, size_t at) {
    int bits = reader->bits;
    if (bits == 8)
        return row[at];
    if (bits == 16) {
        uint16_t value;
        memcpy(&value, row + 2 * at, sizeof value);
        return value >> 8;
    }

    size_t bit = at * (size_t)bits;
    int most = (1 << bits) - 1, value = row[bit / 8] >> (8 - bits - (int)(bit % 8)) & most;
    return reader->photometric == PHOTOMETRIC_PALETTE ? value : value * 255 / most;
}

static void convert_row(const struct tiff_reader *reader, const uint8_t *row, uint8_t *rgb) {
    for (size_t x = 0; x < (size_t)reader->width; x++, rgb += 3) {
        size_t at = x * (size_t)reader->channels;
        int first = sample(reader, row, at);

        switch (reader->photometric) {
        case PHOTOMETRIC_RGB:
            rgb[0] = (uint8_t)first;
            rgb[1] = (uint8_t)sample(reader, row, at + 1);
            rgb[2] = (uint8_t)sample(reader, row, at + 2);
            break;
        case PHOTOMETRIC_PALETTE:
            memcpy(rgb, reader->colours[first], 3);
            break;
        case PHOTOMETRIC_MINISWHITE:
            memset(rgb, 255 - first, 3);
            break;
        default:
            memset(rgb, first, 3);
        }
    }
}

static const uint8_t *reader_rows(void *state, int count, struct error *error) {
    struct tiff_reader *reader = state;
    uint8_t *rgb = reader->rows;

    for (int i = 0; i < count; i++, rgb += (size_t)reader->width * 3, reader->next++) {
        int within = reader->next % reader->band;
        if (within == 0 && !read_band(reader, reader->next)) {
            refuse_damaged(reader, error);
            return NULL;
        }
        convert_row(reader, reader->pixels + (size_t)within * reader->stride, rgb);
    }
    return reader->rows;
}

static bool reader_finish(void *state, struct error *error) {
    return true;
}

bool image_tiff_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    struct tiff_reader *reader = reader_create(bytes, size, error);
    if (!reader)
        return false;

    reader->pixels = malloc(reader->stride * (size_t)reader->band);
    reader->tile = reader->tile_width ? malloc(reader->piece) : NULL;
    reader->rows = malloc((size_t)reader->width * 3 * IMAGE_ROWS_AT_ONCE + RESAMPLE_SLACK);
    bool good = reader->pixels && reader->rows && (reader->tile || !reader->tile_width);
    if (!good)
        image_no_memory(reader->width, reader->height, error);
    if (good && read_palette(reader, error)) {
        *ret = (struct row_reader){reader, reader_rows, reader_finish, reader_free};
        return true;
    }

    reader_free(reader);
    return false;
}
