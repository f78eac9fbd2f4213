/* How many groups of prefix codes a lossless WebP has. libwebp keeps tables of some 10 kB for each, so that a
 * file of 300 kB can have it take 370 MB, and no header tells: the image that says which group a pixel uses
 * must be read. Nothing is kept of it: a copy of earlier pixels brings no group that was not there.
 *
 * https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification */
#include <string.h>

#include "image/decode.h"

enum {
    GREENS = 256,
    LENGTHS = 24, /* codes of lengths, after those of green */
    DISTANCES = 40,
    CACHE_BITS_MOST = 11,
    ALPHABET_MOST = GREENS + LENGTHS + (1 << CACHE_BITS_MOST),
    CODE_BITS_MOST = 15,
    CODES = 5, /* of a group: green and lengths, red, blue, alpha, distances */
    GROUPS_MOST = 1 << 16,
    GROUPS_UNMAPPED = 1000,        /* up to so many, libwebp makes those that are not used, too */
    TABLE_BYTES = 4 * 2300 + 1024, /* of a group, beside the green code's */
};

/* Bits from the lowest of each byte. Beyond the end come zeros, and `ended`. */
struct bit_reader {
    const uint8_t *bytes;
    size_t size, at; /* at: in bits */
    bool ended;
};

static uint32_t read_bits(struct bit_reader *reader, int count) {
    uint32_t value = 0;

    for (int i = 0; i < count; i++, reader->at++) {
        if (reader->at / 8 >= reader->size) {
            reader->ended = true;
            return value;
        }
        value |= (uint32_t)(reader->bytes[reader->at / 8] >> reader->at % 8 & 1) << i;
    }
    return value;
}

/* A canonical prefix code. */
struct prefix_code {
    uint16_t counts[CODE_BITS_MOST + 1]; /* symbols of each length */
    uint16_t symbols[ALPHABET_MOST];     /* in the order of their codes */
    int only; /* the one symbol there is, which takes no bits; -1: there are more */
};

static void make_code(struct prefix_code *code, const uint8_t *lengths, int count) {
    uint16_t starts[CODE_BITS_MOST + 2] = {0};
    int used = 0;

    memset(code->counts, 0, sizeof code->counts);
    code->only = 0;
    for (int i = 0; i < count; i++) {
        code->counts[lengths[i]]++;
        if (lengths[i]) {
            code->only = i;
            used++;
        }
    }
    if (used > 1)
        code->only = -1;

    code->counts[0] = 0;
    for (int i = 1; i <= CODE_BITS_MOST; i++)
        starts[i + 1] = (uint16_t)(starts[i] + code->counts[i]);
    for (int i = 0; i < count; i++)
        if (lengths[i])
            code->symbols[starts[lengths[i]]++] = (uint16_t)i;
}

/* The next symbol; a code that no symbol has ends the reading. */
static int read_symbol(struct bit_reader *reader, const struct prefix_code *code) {
    int value = 0, first = 0, index = 0;
    if (code->only >= 0)
        return code->only;

    for (int length = 1; length <= CODE_BITS_MOST; length++) {
        value |= (int)read_bits(reader, 1);
        int count = code->counts[length];
        if (value - count < first)
            return code->symbols[index + value - first];
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }

    reader->ended = true;
    return 0;
}

/* Lengths that are themselves coded. */
static void read_lengths(struct bit_reader *reader, uint8_t *lengths, int alphabet) {
    static const uint8_t order[19] = {17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t of_lengths[19] = {0}, previous = 8;
    struct prefix_code code;

    int count = 4 + (int)read_bits(reader, 4);
    for (int i = 0; i < count; i++)
        of_lengths[order[i]] = (uint8_t)read_bits(reader, 3);
    make_code(&code, of_lengths, 19);

    int left = alphabet;
    if (read_bits(reader, 1))
        left = 2 + (int)read_bits(reader, 2 + 2 * (int)read_bits(reader, 3));
    for (int i = 0; i < alphabet && left > 0 && !reader->ended; left--) {
        int symbol = read_symbol(reader, &code), repeat = 1;
        uint8_t length = 0;

        if (symbol < 16)
            length = (uint8_t)symbol;
        else if (symbol == 16)
            length = previous;
        if (symbol >= 16)
            repeat = symbol == 18 ? 11 + (int)read_bits(reader, 7)
                                  : 3 + (int)read_bits(reader, symbol == 16 ? 2 : 3);
        if (symbol < 16 && length)
            previous = length;
        for (; repeat > 0 && i < alphabet; repeat--)
            lengths[i++] = length;
    }
}

static void read_code(struct bit_reader *reader, int alphabet, struct prefix_code *ret) {
    uint8_t lengths[ALPHABET_MOST] = {0};

    if (read_bits(reader, 1)) { /* one or two symbols, by name */
        bool two = read_bits(reader, 1);
        uint32_t symbol = read_bits(reader, read_bits(reader, 1) ? 8 : 1);
        lengths[symbol] = 1;
        if (two)
            lengths[read_bits(reader, 8)] = 1;
    } else {
        read_lengths(reader, lengths, alphabet);
    }
    make_code(ret, lengths, alphabet);
}

/* Extra bits of a length or a distance. */
static int64_t read_extent(struct bit_reader *reader, int symbol) {
    if (symbol < 4)
        return symbol + 1;

    int extra = (symbol - 2) >> 1;
    return ((int64_t)(2 + (symbol & 1)) << extra) + read_bits(reader, extra) + 1;
}

/* Groups that pixels name. */
struct groups {
    uint8_t named[GROUPS_MOST / 8];
    int count, most;
};

static void name_group(struct groups *groups, int group) {
    if (groups->named[group / 8] >> group % 8 & 1)
        return;

    groups->named[group / 8] |= (uint8_t)(1 << group % 8);
    groups->count++;
    if (group > groups->most)
        groups->most = group;
}

static int read_cache_bits(struct bit_reader *reader) {
    int bits = read_bits(reader, 1) ? (int)read_bits(reader, 4) : 0;
    if (bits > CACHE_BITS_MOST) {
        reader->ended = true;
        bits = 0;
    }
    return bits;
}

/* An image within the image: one group of codes, then its pixels. `groups` NULL: they are only skipped. */
static void read_image(struct bit_reader *reader, int64_t pixels, struct groups *groups) {
    int cache_bits = read_cache_bits(reader);
    const int alphabets[CODES] = {GREENS + LENGTHS + (cache_bits ? 1 << cache_bits : 0), 256, 256, 256,
                                  DISTANCES};
    struct prefix_code codes[CODES];

    for (int i = 0; i < CODES; i++)
        read_code(reader, alphabets[i], &codes[i]);

    for (int64_t at = 0; at < pixels && !reader->ended;) {
        int green = read_symbol(reader, &codes[0]);
        if (green < GREENS) {
            int red = read_symbol(reader, &codes[1]);
            read_symbol(reader, &codes[2]);
            read_symbol(reader, &codes[3]);
            if (groups)
                name_group(groups, red << 8 | green);
            at++;
        } else if (green < GREENS + LENGTHS) {
            at += read_extent(reader, green - GREENS);
            read_extent(reader, read_symbol(reader, &codes[4]));
        } else {
            at++; /* of the cache: a pixel that was there, or 0 */
            if (groups)
                name_group(groups, 0);
        }
    }
}

static int64_t blocks(int64_t size, int bits) {
    return (size + (1 << bits) - 1) >> bits;
}

/* What comes before the pixels; returns the width that is left of them. */
static int64_t read_transforms(struct bit_reader *reader, int64_t width, int64_t height) {
    enum { PREDICTOR, COLOR, SUBTRACT_GREEN, COLOR_INDEXING };
    int seen = 0;

    while (read_bits(reader, 1) && !reader->ended) {
        int type = (int)read_bits(reader, 2);
        if (seen >> type & 1) /* each comes once at most */
            reader->ended = true;
        seen |= 1 << type;

        if (type == PREDICTOR || type == COLOR) {
            int bits = 2 + (int)read_bits(reader, 3);
            read_image(reader, blocks(width, bits) * blocks(height, bits), NULL);
        } else if (type == COLOR_INDEXING) {
            int colors = 1 + (int)read_bits(reader, 8);
            read_image(reader, colors, NULL);
            width = blocks(width, colors <= 2 ? 3 : colors <= 4 ? 2 : colors <= 16 ? 1 : 0);
        }
    }
    return width;
}

int64_t webp_lossless_table_bytes(const uint8_t *bytes, size_t size) {
    struct bit_reader reader = {.bytes = bytes, .size = size};
    struct groups groups = {.most = 0};

    if (size >= 8 && memcmp(bytes, "VP8L", 4) == 0) { /* the chunk's head */
        reader.bytes += 8;
        reader.size -= 8;
    }
    if (read_bits(&reader, 8) != 0x2f)
        return 0;

    int64_t width = 1 + read_bits(&reader, 14), height = 1 + read_bits(&reader, 14);
    read_bits(&reader, 4); /* alpha, version */
    width = read_transforms(&reader, width, height);

    int cache_bits = read_cache_bits(&reader);
    if (read_bits(&reader, 1)) {
        int bits = 2 + (int)read_bits(&reader, 3);
        read_image(&reader, blocks(width, bits) * blocks(height, bits), &groups);
    }

    int64_t count = groups.most < GROUPS_UNMAPPED ? groups.most + 1 : groups.count + 1;
    return count * (TABLE_BYTES + 4 * (700 + 2 * (cache_bits ? 1 << cache_bits : 0)));
}
