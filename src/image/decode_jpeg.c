/* JPEG through libjpeg-turbo: accurate integer DCT and fancy upsampling, as Pillow decodes.
 *
 * The markers are walked here first: for the size and what decoding takes (refused before anything is
 * allocated), the EXIF block, and to know whether the file ends where it says. Rec. ITU-T T.81, annex B. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/checked.h"
#include "image/decode.h"
#include "image/resample.h"

enum {
    COMPONENTS_MOST = 4,
    BLOCK_SIDE = 8,
    COEFFICIENT_BYTES = BLOCK_SIDE * BLOCK_SIDE * 2, /* of a block */
    SCANS_MOST = 500,
    DECODER_BYTES = 256 << 10, /* of a decoder, beside its rows and coefficients */
};

/* Pixels that all scans together may go over: each takes time, however few bytes it has. */
#define SCANNED_MOST (2ll << 30)

struct jpeg_facts {
    int width, height, components, precision; /* components 0: no frame header was found */
    int orientation;
    bool complete; /* an end-of-image marker closes it */
    bool huffman;  /* not arithmetic-coded */
    bool staged;   /* progressive, or a scan for each component: all coefficients are kept */
    int across[COMPONENTS_MOST], down[COMPONENTS_MOST]; /* sampling factors */
    bool scanned;                                       /* a scan header was read */
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

static void read_sampling(const uint8_t *segment, size_t length, struct jpeg_facts *facts) {
    for (int i = 0; i < facts->components && i < COMPONENTS_MOST && length >= 6 + 3 * ((size_t)i + 1); i++) {
        facts->across[i] = segment[7 + 3 * i] >> 4;
        facts->down[i] = segment[7 + 3 * i] & 15;
    }
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
        read_sampling(segment, length, facts);
    } else if (marker == 0xda && !facts->scanned && length >= 1) {
        facts->staged |= segment[0] < facts->components;
        facts->scanned = true;
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

/* The largest of the sampling factors: 1 to 4 in a file that can be decoded. */
static int largest_factor(const int *factors, int count) {
    int largest = 1;
    for (int i = 0; i < count; i++)
        largest = factors[i] > largest ? factors[i] : largest;
    return largest;
}

/* Blocks of a component in one direction, up to the end of the last unit. */
static int64_t count_blocks(int side, int factor, int largest) {
    int64_t units = (side + BLOCK_SIDE * largest - 1) / (BLOCK_SIDE * largest);
    return units * factor;
}

/* A file of several scans keeps every coefficient; one of a single scan, some rows of each component, before
 * and after they are enlarged. */
static int64_t find_cost(const struct jpeg_facts *facts) {
    int count = facts->components, across = largest_factor(facts->across, count);
    int down = largest_factor(facts->down, count);
    int64_t width = (int64_t)(facts->width / (BLOCK_SIDE * across) + 1) * BLOCK_SIDE * across, blocks = 0;

    for (int i = 0; i < count; i++)
        blocks += count_blocks(facts->width, facts->across[i], across) *
                  count_blocks(facts->height, facts->down[i], down);

    int64_t rows = width * count * (2 * BLOCK_SIDE + 4) * down;
    int64_t ours = (int64_t)facts->width * IMAGE_ROWS_AT_ONCE * (count == 4 ? 7 : 3);
    return DECODER_BYTES + ours + rows + (facts->staged ? blocks * COEFFICIENT_BYTES : 0);
}

bool image_jpeg_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    struct jpeg_facts facts;
    walk_markers(bytes, size, &facts);
    if (!check_facts(&facts, size, error))
        return false;

    *ret = (struct stored_info){facts.width, facts.height, facts.orientation, find_cost(&facts)};
    return true;
}

/* ---- Decoding ---- */

/* libjpeg reports errors by a jump: everything that must survive it lives here, outside the frames that call
 * setjmp. */
struct jpeg_decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    struct error *error; /* of the call under way */
    int width, scans_most;
    bool premature; /* data are missing, as libjpeg's first warning says */
    uint8_t *rows;  /* [IMAGE_ROWS_AT_ONCE, width, 3], with slack */
    uint8_t *cmyk;  /* [IMAGE_ROWS_AT_ONCE, width, 4]; NULL where there are not four components */
};

static struct jpeg_decoder *decoder_of(j_common_ptr jpeg) {
    return jpeg->client_data;
}

static void fail(j_common_ptr jpeg) {
    struct jpeg_decoder *decoder = decoder_of(jpeg);
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY)
        error_set(decoder->error, ERROR_MEMORY, "no memory to decode a JPEG");
    else
        error_set(decoder->error, ERROR_INVALID, "the JPEG is damaged: %s", message);
    longjmp(decoder->jump, 1);
}

/* Pillow ignores warnings ("extraneous bytes before marker") but for missing data. */
static void note_message(j_common_ptr jpeg, int level) {
    if (level >= 0)
        return;
    if (jpeg->err->num_warnings++ == 0)
        decoder_of(jpeg)->premature =
            jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JWRN_HIT_MARKER;
}

static void write_nothing(j_common_ptr jpeg) {
}

static void limit_scans(j_common_ptr jpeg) {
    struct jpeg_decoder *decoder = decoder_of(jpeg);
    if (((j_decompress_ptr)jpeg)->input_scan_number <= decoder->scans_most)
        return;
    error_set(decoder->error, ERROR_INVALID, "the JPEG has more than %d scans", decoder->scans_most);
    longjmp(decoder->jump, 1);
}

static void decoder_free(void *state) {
    struct jpeg_decoder *decoder = state;
    if (!decoder)
        return;
    jpeg_destroy_decompress(&decoder->jpeg);
    free(decoder->rows);
    free(decoder->cmyk);
    free(decoder);
}

static bool decoder_start(struct jpeg_decoder *decoder, const uint8_t *bytes, size_t size,
                          const struct jpeg_facts *facts) {
    if (setjmp(decoder->jump))
        return false;

    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = decoder;
    jpeg->progress = &decoder->progress;
    jpeg_mem_src(jpeg, bytes, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);
    if ((int)jpeg->image_width != facts->width || (int)jpeg->image_height != facts->height ||
        jpeg->num_components != facts->components)
        return error_set(decoder->error, ERROR_INVALID, "the JPEG is damaged: it has two headers");

    jpeg->out_color_space = facts->components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(jpeg);
    return true;
}

static bool check_premature(const struct jpeg_decoder *decoder) {
    return !decoder->premature ||
           error_set(decoder->error, ERROR_INVALID, "the JPEG is damaged: its data end too early");
}

static bool read_into(struct jpeg_decoder *decoder, uint8_t *pixels, int count) {
    if (setjmp(decoder->jump))
        return false;

    size_t stride = (size_t)decoder->width * (decoder->cmyk ? 4 : 3);
    JSAMPROW rows[IMAGE_ROWS_AT_ONCE];
    for (int i = 0; i < count; i++)
        rows[i] = pixels + (size_t)i * stride;
    for (int i = 0; i < count;)
        i += (int)jpeg_read_scanlines(&decoder->jpeg, rows + i, (JDIMENSION)(count - i));
    return check_premature(decoder);
}

static const uint8_t *decoder_read(void *state, int count, struct error *error) {
    struct jpeg_decoder *decoder = state;
    decoder->error = error;
    if (!read_into(decoder, decoder->cmyk ? decoder->cmyk : decoder->rows, count))
        return NULL;
    if (decoder->cmyk)
        convert_cmyk(decoder->cmyk, (size_t)decoder->width * (size_t)count, decoder->rows);
    return decoder->rows;
}

static bool decoder_finish(void *state, struct error *error) {
    struct jpeg_decoder *decoder = state;
    decoder->error = error;
    if (setjmp(decoder->jump))
        return false;
    jpeg_finish_decompress(&decoder->jpeg);
    return check_premature(decoder);
}

/* NULL when memory is out. */
static struct jpeg_decoder *decoder_create(const struct jpeg_facts *facts, struct error *error) {
    struct jpeg_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;

    int64_t pixels = (int64_t)facts->width * facts->height, scans = SCANNED_MOST / (pixels ? pixels : 1);
    decoder->jpeg.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = fail;
    decoder->errors.emit_message = note_message;
    decoder->errors.output_message = write_nothing;
    decoder->progress.progress_monitor = limit_scans;
    decoder->jpeg.client_data = decoder;
    decoder->error = error;
    decoder->width = facts->width;
    decoder->scans_most = scans < SCANS_MOST ? (int)scans : SCANS_MOST;

    size_t held = (size_t)facts->width * IMAGE_ROWS_AT_ONCE;
    bool inks = facts->components == 4;
    decoder->rows = malloc(held * 3 + RESAMPLE_SLACK);
    decoder->cmyk = inks ? malloc(held * 4) : NULL;
    if (decoder->rows && (decoder->cmyk || !inks))
        return decoder;

    decoder_free(decoder);
    return NULL;
}

bool image_jpeg_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    struct jpeg_facts facts;
    walk_markers(bytes, size, &facts);
    if (!check_facts(&facts, size, error))
        return false;

    struct jpeg_decoder *decoder = decoder_create(&facts, error);
    if (!decoder)
        return image_no_memory(facts.width, facts.height, error);
    if (!decoder_start(decoder, bytes, size, &facts)) {
        decoder_free(decoder);
        return false;
    }

    *ret = (struct row_reader){decoder, decoder_read, decoder_finish, decoder_free};
    return true;
}
