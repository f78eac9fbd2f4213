/* UTF-8, and what Python knows of characters. */
#include "chat/text.h"

size_t jinja_utf8_count(const char *bytes, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return count;
}

uint32_t jinja_utf8_next(const char **at) {
    const unsigned char *c = (const unsigned char *)*at;
    int more = c[0] < 0x80 ? 0 : c[0] < 0xe0 ? 1 : c[0] < 0xf0 ? 2 : 3;
    uint32_t character = more == 0 ? c[0] : c[0] & (0x3fu >> more);

    for (int i = 1; i <= more; i++)
        character = character << 6 | (c[i] & 0x3f);
    *at += more + 1;
    return character;
}

bool jinja_utf8_valid(const char *bytes, size_t length) {
    const unsigned char *at = (const unsigned char *)bytes, *end = at + length;

    while (at < end) {
        unsigned char c = *at++;
        int more = c < 0x80 ? 0 : c < 0xc2 ? -1 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : -1;
        if (more < 0 || end - at < more)
            return false;
        if ((c == 0xe0 && at[0] < 0xa0) || (c == 0xed && at[0] > 0x9f) || (c == 0xf0 && at[0] < 0x90) ||
            (c == 0xf4 && at[0] > 0x8f)) /* overlong, surrogates, beyond U+10FFFF */
            return false;
        for (; more > 0; more--)
            if ((*at++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}

size_t jinja_utf8_write(uint32_t character, char *ret) {
    size_t length = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = length - 1; i > 0; i--, character >>= 6)
        ret[i] = (char)(0x80 | (character & 0x3f));
    ret[0] = (char)(leads[length] | character);
    return length;
}

bool jinja_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

size_t jinja_space_before(const char *bytes, size_t length) {
    const char *at = bytes, *end = bytes + length, *start = at;

    while (at < end && jinja_is_space(jinja_utf8_next(&at)))
        start = at;
    return (size_t)(start - bytes);
}

size_t jinja_space_behind(const char *bytes, size_t length) {
    size_t kept = length;

    while (kept) {
        size_t at = kept - 1;
        while (at && ((unsigned char)bytes[at] & 0xc0) == 0x80)
            at--;
        const char *character = bytes + at;
        if (!jinja_is_space(jinja_utf8_next(&character)))
            break;
        kept = at;
    }
    return length - kept;
}

struct case_row {
    uint32_t first, last;
    int8_t stride;
    int32_t shift;
};
struct case_special {
    uint32_t character;
    uint16_t upper[3];
};
#include "chat/unicode_case.inc"

static uint32_t shift_case(const struct case_row *rows, size_t count, uint32_t character) {
    for (size_t i = 0; i < count && rows[i].first <= character; i++)
        if (character <= rows[i].last && (character - rows[i].first) % (uint32_t)rows[i].stride == 0)
            return character + (uint32_t)rows[i].shift;
    return character;
}

size_t jinja_upper(uint32_t character, uint32_t ret[3]) {
    ret[0] = character;
    if (character < 0x80) {
        ret[0] -= character >= 'a' && character <= 'z' ? 'a' - 'A' : 0;
        return 1;
    }

    for (size_t i = 0; i < sizeof upper_special / sizeof *upper_special; i++)
        if (upper_special[i].character == character) {
            size_t length = 0;
            for (; length < 3 && upper_special[i].upper[length]; length++)
                ret[length] = upper_special[i].upper[length];
            return length;
        }
    ret[0] = shift_case(upper_rows, sizeof upper_rows / sizeof *upper_rows, character);
    return 1;
}

size_t jinja_lower(uint32_t character, uint32_t ret[3]) {
    ret[0] = character;
    if (character < 0x80) {
        ret[0] += character >= 'A' && character <= 'Z' ? 'a' - 'A' : 0;
        return 1;
    }
    if (character == 0x130) { /* the only one that becomes two */
        ret[0] = 'i';
        ret[1] = 0x307;
        return 2;
    }

    ret[0] = shift_case(lower_rows, sizeof lower_rows / sizeof *lower_rows, character);
    return 1;
}

size_t jinja_title(uint32_t character, uint32_t ret[3]) {
    uint32_t rest[3];
    size_t length = jinja_upper(character, ret);

    if (character >= 0x10d0 && character <= 0x10ff) /* Georgian */
        ret[0] = character;
    else if ((character >= 0x1c4 && character <= 0x1cc) ||
             (character >= 0x1f1 && character <= 0x1f3)) /* DŽ, LJ, NJ, DZ */
        ret[0] = character >= 0x1f1 ? 0x1f2 : character - (character - 0x1c4) % 3 + 1;
    for (size_t i = 1; i < length; i++) {
        jinja_lower(ret[i], rest);
        ret[i] = rest[0];
    }
    return length;
}

bool jinja_is_upper(uint32_t character) {
    uint32_t other[3];
    return jinja_lower(character, other) != 1 || other[0] != character;
}

bool jinja_is_lower(uint32_t character) {
    uint32_t other[3];
    return !jinja_is_upper(character) && (jinja_upper(character, other) != 1 || other[0] != character);
}
