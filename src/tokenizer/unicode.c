#include "tokenizer/unicode.h"

#include <utf8proc.h>

int32_t character_at(const char *text, size_t size, size_t *ret_size) {
    utf8proc_int32_t character;
    utf8proc_ssize_t length =
        utf8proc_iterate((const uint8_t *)text, (utf8proc_ssize_t)(size < 4 ? size : 4), &character);

    *ret_size = length > 0 ? (size_t)length : 1;
    return length > 0 ? character : -1;
}

size_t character_write(int32_t character, char *ret) {
    return (size_t)utf8proc_encode_char(character, (uint8_t *)ret);
}

/* Is its general category one of those from `first` to `last`? */
static bool in_categories(int32_t character, utf8proc_category_t first, utf8proc_category_t last) {
    utf8proc_category_t category = character < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(character);
    return category >= first && category <= last;
}

bool character_is_letter(int32_t character) {
    return in_categories(character, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool character_is_mark(int32_t character) {
    return in_categories(character, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
}

bool character_is_number(int32_t character) {
    return in_categories(character, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool character_is_space(int32_t character) {
    return (character >= '\t' && character <= '\r') || character == 0x85 ||
           in_categories(character, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
}

bool character_is_punctuation(int32_t character) {
    bool ascii = (character >= 33 && character <= 47) || (character >= 58 && character <= 64) ||
                 (character >= 91 && character <= 96) || (character >= 123 && character <= 126);
    return ascii || in_categories(character, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool character_is_control(int32_t character) {
    if (character == '\t' || character == '\n' || character == '\r')
        return false;
    return in_categories(character, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO) ||
           in_categories(character, UTF8PROC_CATEGORY_CN, UTF8PROC_CATEGORY_CN);
}

bool character_is_ideograph(int32_t character) {
    static const struct {
        int32_t first, last;
    } blocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                  {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};

    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (character >= blocks[i].first && character <= blocks[i].last)
            return true;
    return false;
}

int character_fold(int32_t character, int32_t *ret) {
    enum { MOST = 18 }; /* no decomposition is longer */
    int32_t parts[MOST];
    int boundary = 0, count = 0;
    utf8proc_ssize_t length =
        utf8proc_decompose_char(utf8proc_tolower(character), parts, MOST, UTF8PROC_DECOMPOSE, &boundary);

    for (utf8proc_ssize_t i = 0; i < length && i < MOST; i++)
        if (!in_categories(parts[i], UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_MN))
            ret[count++] = utf8proc_tolower(parts[i]);
    return count;
}
