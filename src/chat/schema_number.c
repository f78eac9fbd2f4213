/* Numbers: the digits of all whole numbers between two, as nodes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "chat/schema_parts.h"

enum { DIGITS = 18 };
static const int64_t largest = 999999999999999999; /* of DIGITS digits */

/* Any `count` digits. */
static uint32_t any_digits(struct automaton *automaton, size_t count, uint32_t next) {
    while (count--)
        next = automaton_bytes(automaton, byte_set_range('0', '9'), next);
    return next;
}

/* All texts of size digits between low and high, where one that is NULL does not count. */
static uint32_t digits_between(struct automaton *automaton, const char *low, const char *high, size_t size,
                               uint32_t next) {
    uint32_t ways[3];
    size_t count = 0;
    if (size == 0)
        return next;
    if (!low && !high)
        return any_digits(automaton, size, next);

    char from = low ? *low : '0', to = high ? *high : '9';
    if (low && high && from == to)
        return automaton_byte(automaton, (uint8_t)from,
                              digits_between(automaton, low + 1, high + 1, size - 1, next));
    if (low)
        ways[count++] = automaton_byte(automaton, (uint8_t)from++,
                                       digits_between(automaton, low + 1, NULL, size - 1, next));
    if (high)
        ways[count++] = automaton_byte(automaton, (uint8_t)to--,
                                       digits_between(automaton, NULL, high + 1, size - 1, next));
    if (from <= to)
        ways[count++] = automaton_bytes(automaton, byte_set_range((uint8_t)from, (uint8_t)to),
                                        any_digits(automaton, size - 1, next));
    return automaton_split(automaton, ways, count);
}

/* Numbers of `least` to `most` digits that do not begin with 0. */
static uint32_t whole_of_sizes(struct automaton *automaton, int least, int most, uint32_t next) {
    uint32_t rest = next;

    for (int i = least; i < most; i++) {
        uint32_t ways[] = {next, automaton_bytes(automaton, byte_set_range('0', '9'), rest)};
        rest = automaton_split(automaton, ways, 2);
    }
    rest = any_digits(automaton, (size_t)least - 1, rest);
    return automaton_bytes(automaton, byte_set_range('1', '9'), rest);
}

/* Is it a digit and then only `others`? */
static bool is_round(const char *text, char first, char others) {
    return text[0] == first && strspn(text + 1, (char[]){others, 0}) == strlen(text + 1);
}

/* Whole numbers from low to high, 0 <= low <= high <= largest. Sizes of which all numbers are meant go
 * together, so that a text has few places to be in. */
static uint32_t whole_between(struct automaton *automaton, int64_t low, int64_t high, uint32_t next) {
    char low_text[24], high_text[24];
    uint32_t ways[4];
    size_t count = 0;
    if (low == 0) {
        ways[count++] = automaton_byte(automaton, '0', next);
        low = 1;
    }
    int least = snprintf(low_text, sizeof low_text, "%" PRId64, low),
        most = snprintf(high_text, sizeof high_text, "%" PRId64, high);

    if (low <= high && least == most) {
        ways[count++] = digits_between(automaton, low_text, high_text, (size_t)least, next);
    } else if (low <= high) {
        int first = least + !is_round(low_text, '1', '0'), last = most - !is_round(high_text, '9', '9');
        if (first > least)
            ways[count++] = digits_between(automaton, low_text, NULL, (size_t)least, next);
        if (first <= last)
            ways[count++] = whole_of_sizes(automaton, first, last, next);
        if (last < most)
            ways[count++] = digits_between(automaton, "100000000000000000", high_text, (size_t)most, next);
    }
    return automaton_split(automaton, ways, count);
}

/* Up to DIGITS digits: at least one. `last` of them: what may come last. */
static uint32_t some_digits(struct automaton *automaton, struct byte_set set, uint32_t next) {
    uint32_t rest = next;
    for (int i = 1; i < DIGITS; i++) {
        uint32_t ways[] = {next, automaton_bytes(automaton, set, rest)};
        rest = automaton_split(automaton, ways, 2);
    }
    return automaton_bytes(automaton, set, rest);
}

/* A point and digits, not all of them 0: zeros, another digit, any. */
static uint32_t fraction_above_zero(struct automaton *automaton, uint32_t next) {
    uint32_t ways[] = {next, some_digits(automaton, byte_set_range('0', '9'), next)};
    uint32_t tail = automaton_split(automaton, ways, 2),
             nonzero = automaton_bytes(automaton, byte_set_range('1', '9'), tail), start = nonzero;

    for (int i = 1; i < DIGITS; i++) {
        uint32_t also[] = {nonzero, automaton_byte(automaton, '0', start)};
        start = automaton_split(automaton, also, 2);
    }
    return automaton_byte(automaton, '.', start);
}

static uint32_t fraction(struct automaton *automaton, struct byte_set digits, uint32_t next) {
    uint32_t ways[] = {next, automaton_byte(automaton, '.', some_digits(automaton, digits, next))};
    return automaton_split(automaton, ways, 2);
}

/* Any number: an optional sign, fraction and exponent of two digits. */
static uint32_t any_number(struct automaton *automaton, uint32_t next) {
    struct byte_set digit = byte_set_range('0', '9'), mark = byte_set_range('e', 'e'),
                    sign = byte_set_range('+', '+');
    mark.bits[1] |= byte_set_range('E', 'E').bits[1];
    sign.bits[0] |= byte_set_range('-', '-').bits[0];

    uint32_t last[] = {next, automaton_bytes(automaton, digit, next)};
    uint32_t power = automaton_bytes(automaton, digit, automaton_split(automaton, last, 2));
    uint32_t signs[] = {power, automaton_bytes(automaton, sign, power)};
    uint32_t ends[] = {next, automaton_bytes(automaton, mark, automaton_split(automaton, signs, 2))};
    uint32_t start =
        whole_between(automaton, 0, largest, fraction(automaton, digit, automaton_split(automaton, ends, 2)));
    uint32_t ways[] = {start, automaton_byte(automaton, '-', start)};
    return automaton_split(automaton, ways, 2);
}

struct bounds {
    int64_t low, high;
    bool open_low, open_high; /* without the bound itself */
};

/* Numbers of 0 and above that have fractions. */
static uint32_t real_between(struct automaton *automaton, struct bounds bounds, uint32_t next) {
    uint32_t ways[4];
    size_t count = 0;
    if (bounds.low > bounds.high || (bounds.low == bounds.high && (bounds.open_low || bounds.open_high)))
        return NO_NODE;

    int64_t first = bounds.low;
    if (bounds.open_low) { /* low.001 */
        ways[count++] =
            whole_between(automaton, bounds.low, bounds.low, fraction_above_zero(automaton, next));
        first++;
    }
    if (first < bounds.high)
        ways[count++] = whole_between(automaton, first, bounds.high - 1,
                                      fraction(automaton, byte_set_range('0', '9'), next));
    if (!bounds.open_high)
        ways[count++] = whole_between(automaton, bounds.high, bounds.high,
                                      fraction(automaton, byte_set_range('0', '0'), next));
    return automaton_split(automaton, ways, count);
}

/* Those of 0 and above, and, behind a minus sign, those of 0 and below. */
static uint32_t both_signs(struct automaton *automaton, struct bounds bounds, bool integer, uint32_t next) {
    struct bounds above = bounds, below = {-bounds.high, -bounds.low, bounds.open_high, bounds.open_low};
    uint32_t ways[2];
    size_t count = 0;

    if (above.low < 0)
        above.low = 0, above.open_low = false;
    if (below.low < 0)
        below.low = 0, below.open_low = false;
    if (integer) {
        below.low += below.low == 0;
        if (above.low <= above.high)
            ways[count++] = whole_between(automaton, above.low, above.high, next);
        if (below.low <= below.high)
            ways[count++] =
                automaton_byte(automaton, '-', whole_between(automaton, below.low, below.high, next));
    } else {
        uint32_t start = above.high >= 0 ? real_between(automaton, above, next) : NO_NODE;
        if (start)
            ways[count++] = start;
        start = below.high >= 0 ? real_between(automaton, below, next) : NO_NODE;
        if (start)
            ways[count++] = automaton_byte(automaton, '-', start);
    }
    return count ? automaton_split(automaton, ways, count) : NO_NODE;
}

/* The bound of a keyword, if it is there and narrower than *bound. */
static bool read_bound(json_t *schema, const char *keyword, bool integer, bool lower, int64_t *bound,
                       bool *open, struct error *error) {
    json_t *value = json_object_get(schema, keyword);
    bool exclusive = strncmp(keyword, "exclusive", 9) == 0;
    if (!value)
        return true;
    if (!json_is_number(value))
        return error_set(error, ERROR_INVALID, "'%s' is no number", keyword);

    double number = json_number_value(value), whole = lower ? ceil(number) : floor(number);
    if (whole != number && !integer)
        return error_set(error, ERROR_INVALID, "'%s' is supported for whole numbers only: %g", keyword,
                         number);
    exclusive = exclusive && whole == number;
    int64_t limit = json_is_integer(value)           ? (int64_t)json_integer_value(value)
                    : whole < -(double)largest       ? -largest
                    : whole > (double)largest - 1000 ? largest
                                                     : (int64_t)whole;
    limit = limit > largest ? largest : limit < -largest ? -largest : limit;
    if (integer && exclusive) {
        limit += lower ? 1 : -1;
        exclusive = false;
    }
    if (lower ? limit > *bound : limit < *bound) {
        *bound = limit;
        *open = exclusive;
    } else if (limit == *bound) {
        *open |= exclusive;
    }
    return true;
}

uint32_t schema_number(struct automaton *automaton, json_t *schema, bool integer, uint32_t next,
                       struct error *error) {
    struct bounds bounds = {-largest, largest, false, false};
    bool bounded = json_object_get(schema, "minimum") || json_object_get(schema, "maximum") ||
                   json_object_get(schema, "exclusiveMinimum") || json_object_get(schema, "exclusiveMaximum");
    if (!read_bound(schema, "minimum", integer, true, &bounds.low, &bounds.open_low, error) ||
        !read_bound(schema, "exclusiveMinimum", integer, true, &bounds.low, &bounds.open_low, error) ||
        !read_bound(schema, "maximum", integer, false, &bounds.high, &bounds.open_high, error) ||
        !read_bound(schema, "exclusiveMaximum", integer, false, &bounds.high, &bounds.open_high, error))
        return NO_NODE;
    if (!integer && !bounded)
        return any_number(automaton, next);

    uint32_t start = both_signs(automaton, bounds, integer, next);
    if (!start && !automaton->failed)
        error_set(error, ERROR_INVALID, "no number of at most %d digits fits its bounds", DIGITS);
    else if (!start)
        error_set(error, ERROR_MEMORY, "not enough memory for the schema");
    return start;
}
