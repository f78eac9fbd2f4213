#include "chat/string_steps.h"

#include <string.h>

static bool is_hex(uint8_t byte) {
    return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
}

/* https://www.rfc-editor.org/rfc/rfc3629#section-4 */
static uint8_t first_byte(uint8_t byte) {
    if (byte < 0x80)
        return byte >= ' ' && byte != '"' ? (byte == '\\' ? STRING_ESCAPE : STRING_START) : STRING_NONE;
    if (byte < 0xc2 || byte > 0xf4)
        return STRING_NONE;
    if (byte < 0xe0)
        return STRING_LAST;
    if (byte < 0xf0)
        return byte == 0xe0 ? STRING_E0 : byte == 0xed ? STRING_ED : STRING_LAST2;
    return byte == 0xf0 ? STRING_F0 : byte == 0xf4 ? STRING_F4 : STRING_LAST3;
}

static uint8_t within(uint8_t byte, uint8_t from, uint8_t to, uint8_t step) {
    return byte >= from && byte <= to ? step : STRING_NONE;
}

static uint8_t hex(uint8_t byte, uint8_t step) {
    return is_hex(byte) ? step : STRING_NONE;
}

uint8_t string_step(uint8_t step, uint8_t byte) {
    switch (step) {
    case STRING_START:
        return first_byte(byte);
    case STRING_LAST:
        return within(byte, 0x80, 0xbf, STRING_START);
    case STRING_LAST2:
        return within(byte, 0x80, 0xbf, STRING_LAST);
    case STRING_LAST3:
        return within(byte, 0x80, 0xbf, STRING_LAST2);
    case STRING_E0:
        return within(byte, 0xa0, 0xbf, STRING_LAST);
    case STRING_ED:
        return within(byte, 0x80, 0x9f, STRING_LAST);
    case STRING_F0:
        return within(byte, 0x90, 0xbf, STRING_LAST2);
    case STRING_F4:
        return within(byte, 0x80, 0x8f, STRING_LAST2);
    case STRING_ESCAPE:
        return byte == 'u' ? STRING_HEX1 : string_escaped(byte) ? STRING_START : STRING_NONE;
    case STRING_HEX1:
        return (byte | 0x20) == 'd' ? STRING_HEX_D : hex(byte, STRING_HEX2);
    case STRING_HEX2:
        return hex(byte, STRING_HEX3);
    case STRING_HEX3:
        return hex(byte, STRING_HEX4);
    case STRING_HEX4:
        return hex(byte, STRING_START);
    case STRING_HEX_D:
        return byte >= '0' && byte <= '7'       ? STRING_HEX3
               : byte && strchr("89abAB", byte) ? STRING_HIGH3
                                                : STRING_NONE;
    case STRING_HIGH3:
        return hex(byte, STRING_HIGH4);
    case STRING_HIGH4:
        return hex(byte, STRING_LOW_BACKSLASH);
    case STRING_LOW_BACKSLASH:
        return byte == '\\' ? STRING_LOW_U : STRING_NONE;
    case STRING_LOW_U:
        return byte == 'u' ? STRING_LOW1 : STRING_NONE;
    case STRING_LOW1:
        return (byte | 0x20) == 'd' ? STRING_LOW2 : STRING_NONE;
    case STRING_LOW2:
        return byte && strchr("cdefCDEF", byte) ? STRING_HEX3 : STRING_NONE;
    default:
        return STRING_NONE;
    }
}

char string_escaped(uint8_t byte) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *found = byte ? strchr(letters, byte) : NULL;
    return found ? meant[found - letters] : 0;
}
