/* PNG through libpng, into the pixels Pillow's convert("RGB") gives: alpha and transparency are dropped,
 * 16-bit colour keeps its high bytes, 16-bit grey is clipped at 255, no gamma is applied. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "image/decode.h"

enum { PNG_CHUNK_LIMIT = 8 << 20, PNG_CHUNKS_KEPT = 16 };

/* Everything that must survive libpng's longjmp lives here, outside the frame that calls setjmp. */
struct png_reader {
    const uint8_t *bytes;
    size_t size, at;
    struct error *error;
    png_structp png;
    png_infop info;
    struct image image;
    uint8_t *raw; /* rows as libpng gives them, where they are not RGB yet */
    png_bytep *rows;
    size_t raw_stride;
    int orientation;
    bool is_palette, is_grey16;
};

static void reader_fail(png_structp png, png_const_charp message) {
    struct png_reader *reader = png_get_error_ptr(png);
    error_set(reader->error, ERROR_INVALID, "the PNG is damaged: %s", message);
    png_longjmp(png, 1);
}

static void reader_warn(png_structp png, png_const_charp message) {
}

static void reader_read(png_structp png, png_bytep to, size_t count) {
    struct png_reader *reader = png_get_io_ptr(png);
    if (count > reader->size - reader->at)
        png_error(png, "it is truncated");
    memcpy(to, reader->bytes + reader->at, count);
    reader->at += count;
}

static void reader_release(struct png_reader *reader) {
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    image_release(&reader->image);
    free(reader->raw);
    free(reader->rows);
}

/* Ask libpng for 8-bit RGB, or for something that rows_convert knows. */
static void reader_configure(struct png_reader *reader) {
    png_structp png = reader->png;
    int type = png_get_color_type(png, reader->info), depth = png_get_bit_depth(png, reader->info);
    reader->is_palette = type == PNG_COLOR_TYPE_PALETTE;
    reader->is_grey16 = type == PNG_COLOR_TYPE_GRAY && depth == 16;

    if (reader->is_palette)
        png_set_packing(png);
    else if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);

    if (depth == 16 && !reader->is_grey16)
        png_set_strip_16(png);
    if (type & PNG_COLOR_MASK_ALPHA)
        png_set_strip_alpha(png);
    if (!(type & PNG_COLOR_MASK_COLOR) && !reader->is_grey16)
        png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
}

static bool reader_allocate(struct png_reader *reader) {
    struct image *image = &reader->image;
    if (!image_allocate(png_get_image_width(reader->png, reader->info),
                        png_get_image_height(reader->png, reader->info), image, reader->error))
        return false;

    size_t rgb_stride = (size_t)image->width * 3;
    reader->raw_stride = png_get_rowbytes(reader->png, reader->info);
    bool direct = !reader->is_palette && !reader->is_grey16;
    size_t expected = direct ? rgb_stride : (size_t)image->width * (reader->is_grey16 ? 2 : 1);
    if (reader->raw_stride != expected)
        return error_set(reader->error, ERROR_INTERNAL, "libpng gave rows of %zu bytes instead of %zu",
                         reader->raw_stride, expected);

    reader->rows = malloc((size_t)image->height * sizeof *reader->rows);
    if (!direct)
        reader->raw = malloc(reader->raw_stride * (size_t)image->height);
    if (!reader->rows || (!direct && !reader->raw))
        return error_set(reader->error, ERROR_MEMORY, "no memory for an image of %dx%d pixels", image->width,
                         image->height);

    uint8_t *base = direct ? image->pixels : reader->raw;
    for (int y = 0; y < image->height; y++)
        reader->rows[y] = base + (size_t)y * reader->raw_stride;

    return true;
}

static void convert_palette(struct png_reader *reader) {
    png_colorp colours = NULL;
    int count = 0;
    png_get_PLTE(reader->png, reader->info, &colours, &count);
    uint8_t table[256][3];

    for (int i = 0; i < 256; i++) /* Pillow's palette is a grey ramp where the file's ends */
        memset(table[i], i, 3);
    for (int i = 0; i < count && i < 256; i++)
        memcpy(table[i], (uint8_t[3]){colours[i].red, colours[i].green, colours[i].blue}, 3);

    size_t pixels = (size_t)reader->image.width * (size_t)reader->image.height;
    for (size_t i = 0; i < pixels; i++)
        memcpy(reader->image.pixels + 3 * i, table[reader->raw[i]], 3);
}

static void convert_grey16(struct png_reader *reader) {
    size_t pixels = (size_t)reader->image.width * (size_t)reader->image.height;
    for (size_t i = 0; i < pixels; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch): libpng has filled `raw` */
        memset(reader->image.pixels + 3 * i, reader->raw[2 * i] ? 255 : reader->raw[2 * i + 1], 3);
}

/* Chunks that change no pixel are skipped unread: libpng would inflate and keep every text. */
static void skip_ancillary(png_structp png) {
    static const png_byte skipped[] =
        "tEXt\0zTXt\0iTXt\0iCCP\0sPLT\0eXIf\0hIST\0tIME\0pCAL\0sCAL\0oFFs\0pHYs\0gAMA\0cHRM\0"
        "sRGB\0sBIT\0bKGD";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
    png_set_chunk_cache_max(png, PNG_CHUNKS_KEPT);
    png_set_chunk_malloc_max(png, PNG_CHUNK_LIMIT);
}

static bool reader_decode(struct png_reader *reader) {
    if (setjmp(png_jmpbuf(reader->png)))
        return false;

    png_set_read_fn(reader->png, reader, reader_read);
    png_set_user_limits(reader->png, LIMIT_IMAGE_SIDE, LIMIT_IMAGE_SIDE);
    skip_ancillary(reader->png);
    png_read_info(reader->png, reader->info);
    reader_configure(reader);
    if (!reader_allocate(reader))
        return false;

    png_read_image(reader->png, reader->rows);
    png_read_end(reader->png, NULL);

    if (reader->is_palette)
        convert_palette(reader);
    else if (reader->is_grey16)
        convert_grey16(reader);
    return true;
}

static uint32_t read_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

bool image_decode_png(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                      struct error *error) {
    if (size < 24 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return error_set(error, ERROR_INVALID, "the PNG is truncated: it has no header");
    if (!image_check_size(read_u32(bytes + 16), read_u32(bytes + 20), error))
        return false;

    struct png_reader reader = {
        .bytes = bytes, .size = size, .error = error, .orientation = png_find_orientation(bytes, size)};
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, reader_fail, reader_warn);
    reader.info = reader.png ? png_create_info_struct(reader.png) : NULL;
    bool done =
        reader.info ? reader_decode(&reader) : error_set(error, ERROR_MEMORY, "no memory for a PNG decoder");

    if (done) {
        *ret = reader.image;
        *ret_orientation = reader.orientation;
        reader.image = (struct image){0};
    }

    reader_release(&reader);
    return done;
}

/* Rows that are not RGB yet are kept beside the pixels; interlaced files are not different, as the whole
 * picture is kept for all. */
int64_t image_png_cost(const uint8_t *bytes, size_t size) {
    if (size < 26 || !image_size_allowed(read_u32(bytes + 16), read_u32(bytes + 20)))
        return 0;

    int64_t pixels = (int64_t)read_u32(bytes + 16) * read_u32(bytes + 20);
    bool grey16 = bytes[25] == PNG_COLOR_TYPE_GRAY && bytes[24] == 16;
    int64_t raw = bytes[25] == PNG_COLOR_TYPE_PALETTE ? pixels : grey16 ? pixels * 2 : 0;
    int64_t turned = png_find_orientation(bytes, size) > 1 ? pixels * 3 : 0;
    return pixels * 3 + (raw > turned ? raw : turned);
}
