/* `"%s" % x` and "{}".format(x), as Python has them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "chat/builtins.h"

#define MOST_WIDTH 10000
#define MOST_PRECISION 300

/* How one value is written. */
struct format_spec {
    char fill[4]; /* a character in UTF-8 */
    size_t fill_length;
    char align; /* < > ^ =, or 0 */
    char sign;  /* + - space, or 0 */
    bool alternate, zero, comma;
    int width;     /* 0: none */
    int precision; /* -1: none */
    char type;     /* or 0 */
};

static bool pad(struct jinja_builder *builder, const struct jinja_text *text, const struct format_spec *spec,
                char align) {
    size_t missing = (size_t)spec->width > text->characters ? (size_t)spec->width - text->characters : 0;
    size_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    const char *fill = spec->fill_length ? spec->fill : " ";
    size_t fill_length = spec->fill_length ? spec->fill_length : 1;

    for (size_t i = 0; i < before; i++)
        if (!jinja_build_bytes(builder, fill, fill_length, false))
            return false;
    if (!jinja_build_text(builder, text))
        return false;
    for (size_t i = before; i < missing; i++)
        if (!jinja_build_bytes(builder, fill, fill_length, false))
            return false;
    return true;
}

static bool format_text(struct jinja_builder *builder, const struct jinja_text *text,
                        const struct format_spec *spec, char align) {
    if (spec->precision >= 0 && (size_t)spec->precision < text->characters &&
        !(text = jinja_text_cut(builder->run, text, 0, jinja_text_offset(text, (size_t)spec->precision))))
        return false;
    return pad(builder, text, spec, align);
}

/* The digits of a number without its sign; at most 400 bytes. */
static bool write_digits(struct jinja_run *run, const struct jinja_value *value,
                         const struct format_spec *spec, char *ret) {
    uint64_t whole = jinja_is_whole(value) ? (uint64_t)jinja_whole(value) : 0;
    int precision = spec->precision < 0 ? 6 : spec->precision;
    if (jinja_is_whole(value) && jinja_whole(value) < 0)
        whole = 0 - whole;
    double real = fabs(jinja_real(value));
    if (!isfinite(real)) {
        strcpy(ret, isnan(real) ? "nan" : "inf");
        return true;
    }
    if (real > 1e80 && spec->type && strchr("fF%", spec->type))
        return jinja_fail(run, "a number is too large to be formatted");

    switch (spec->type) {
    case 'd':
        snprintf(ret, 400, "%" PRIu64, whole);
        return true;
    case 'x':
    case 'X':
        snprintf(ret, 400, spec->type == 'x' ? "%s%" PRIx64 : "%s%" PRIX64,
                 !spec->alternate    ? ""
                 : spec->type == 'x' ? "0x"
                                     : "0X",
                 whole);
        return true;
    case 'o':
        snprintf(ret, 400, "%s%" PRIo64, spec->alternate ? "0o" : "", whole);
        return true;
    case 'b':
        if (spec->alternate)
            ret = stpcpy(ret, "0b");
        for (int bit = whole ? 63 - __builtin_clzll(whole) : 0; bit >= 0; bit--)
            *ret++ = (char)('0' + (whole >> bit & 1));
        *ret = 0;
        return true;
    case '%':
        snprintf(ret, 400, "%.*f%%", precision, real * 100);
        return true;
    case 'f':
    case 'F':
        snprintf(ret, 400, "%.*f", precision, real);
        return true;
    case 'e':
        snprintf(ret, 400, "%.*e", precision, real);
        return true;
    case 'E':
        snprintf(ret, 400, "%.*E", precision, real);
        return true;
    case 'g':
    case 'n':
        snprintf(ret, 400, "%.*g", precision, real);
        return true;
    case 'G':
        snprintf(ret, 400, "%.*G", precision, real);
        return true;
    case 0:
        if (spec->precision >= 0) {
            snprintf(ret, 400, "%.*g", precision, real);
            return true;
        }
        jinja_float_text(real, ret);
        return true;
    default:
        return jinja_fail(run, "Unknown format code '%c' for object of type '%s'", spec->type,
                          jinja_type_name(value));
    }
}

/* Commas between thousands, before the point. */
static void group_digits(const char *digits, char *ret) {
    size_t whole = strspn(digits, "0123456789");
    for (size_t i = 0; digits[i]; i++) {
        if (i && i < whole && (whole - i) % 3 == 0)
            *ret++ = ',';
        *ret++ = digits[i];
    }
    *ret = 0;
}

static bool format_number(struct jinja_builder *builder, const struct jinja_value *value,
                          const struct format_spec *given) {
    char digits[400], grouped[600], text[12000];
    struct format_spec spec = *given;
    if (!spec.type && jinja_is_whole(value))
        spec.type = 'd';
    if (value->type == JINJA_FLOAT && spec.type && strchr("dxXob", spec.type))
        return jinja_fail(builder->run, "Unknown format code '%c' for object of type 'float'", spec.type);
    if (!write_digits(builder->run, value, &spec, digits))
        return false;
    if (spec.comma)
        group_digits(digits, grouped);

    bool negative =
        value->type == JINJA_FLOAT ? signbit(value->real) && !isnan(value->real) : jinja_whole(value) < 0;
    const char *sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
    const char *body = spec.comma ? grouped : digits;
    int length = (int)(strlen(sign) + strlen(body));
    int zeros = (spec.zero || spec.align == '=') && spec.width > length ? spec.width - length : 0;
    char *at = stpcpy(text, sign);
    memset(at, spec.zero || !spec.fill_length ? '0' : spec.fill[0], (size_t)zeros);
    strcpy(at + zeros, body);

    const struct jinja_text *made;
    struct jinja_builder number = {.run = builder->run};
    if (!jinja_build_bytes(&number, text, strlen(text), value->from_input) ||
        !(made = jinja_build_end(&number)))
        return false;
    return pad(builder, made, &spec, spec.align && spec.align != '=' ? spec.align : '>');
}

static bool read_number(const struct jinja_text *text, size_t *at, int most, int *ret) {
    int number = 0;
    for (; *at < text->length && text->bytes[*at] >= '0' && text->bytes[*at] <= '9'; ++*at)
        if ((number = number * 10 + text->bytes[*at] - '0') > most)
            return false;
    *ret = number;
    return true;
}

/* The next value of `%`. */
struct percent {
    struct jinja_run *run;
    const struct jinja_value *values;
    size_t used;
};

static bool next_value(struct percent *percent, struct jinja_value *ret) {
    const struct jinja_value *values = percent->values;
    size_t count = values->type == JINJA_TUPLE ? values->list->count : 1;
    if (percent->used >= count)
        return jinja_fail(percent->run, "not enough arguments for format string");

    *ret = values->type == JINJA_TUPLE ? values->list->items[percent->used] : *values;
    percent->used++;
    return true;
}

/* %(key) */
static bool named_value(struct percent *percent, const struct jinja_text *format, size_t *at,
                        struct jinja_value *ret) {
    const char *end = memchr(format->bytes + *at, ')', format->length - *at);
    const struct jinja_value *found;
    if (!end)
        return jinja_fail(percent->run, "incomplete format key");
    if (percent->values->type != JINJA_DICT)
        return jinja_fail(percent->run, "format requires a mapping");

    size_t length = (size_t)(end - format->bytes) - *at;
    const struct jinja_text *name = jinja_text_cut(percent->run, format, *at, length);
    const struct jinja_value key = jinja_string(name);
    if (!name || !jinja_dict_get(percent->run, percent->values->dict, &key, &found))
        return false;
    if (!found)
        return jinja_fail(percent->run, "'%.*s'", (int)(length < 60 ? length : 60), name->bytes);
    *at += length + 1;
    *ret = *found;
    return true;
}

static bool write_percent(struct percent *percent, struct jinja_builder *builder,
                          const struct format_spec *spec, const struct jinja_value *value) {
    struct format_spec numeric = *spec;
    struct jinja_builder repr = {.run = percent->run};
    const struct jinja_text *text = NULL;
    char align = spec->align ? spec->align : '>';

    if (spec->type == 's')
        return jinja_to_text(percent->run, value, &text) && format_text(builder, text, spec, align);
    if (spec->type == 'r' || spec->type == 'a')
        return jinja_write_repr(&repr, value) && (text = jinja_build_end(&repr)) &&
               format_text(builder, text, spec, align);
    if (spec->type == 'c' && value->type == JINJA_TEXT && value->text->characters == 1)
        return format_text(builder, value->text, spec, align);

    if (!jinja_is_number(value))
        return jinja_fail(percent->run, "%%%c format: a real number is required, not %s", spec->type,
                          jinja_type_name(value));
    if (spec->type == 'i' || spec->type == 'u')
        numeric.type = 'd';
    if (spec->type == 'c' || !strchr("dxXoeEfFgG", numeric.type))
        return jinja_fail(percent->run, "unsupported format character '%c'",
                          spec->type >= 0x20 ? spec->type : '?');
    struct jinja_value number = *value;
    if (value->type == JINJA_FLOAT && numeric.type == 'd') {
        if (!(fabs(value->real) < 9e18))
            return jinja_fail(percent->run, "a number does not fit into 64 bits");
        number = jinja_int((int64_t)value->real);
        number.from_input = value->from_input;
    }
    return format_number(builder, &number, &numeric);
}

/* Behind a `%`. */
static bool percent_field(struct percent *percent, struct jinja_builder *builder,
                          const struct jinja_text *format, size_t *at) {
    struct format_spec spec = {.precision = -1};
    struct jinja_value value;
    bool named = *at < format->length && format->bytes[*at] == '(';
    if (named && (++*at, !named_value(percent, format, at, &value)))
        return false;

    for (; *at < format->length && format->bytes[*at] && strchr("-+ #0", format->bytes[*at]); ++*at) {
        char flag = format->bytes[*at];
        if (flag == '-')
            spec.align = '<';
        else if (flag == '0')
            spec.zero = true;
        else if (flag == '#')
            spec.alternate = true;
        else if (spec.sign != '+')
            spec.sign = flag;
    }
    if (spec.align)
        spec.zero = false;
    if (!read_number(format, at, MOST_WIDTH, &spec.width))
        return jinja_fail(percent->run, "the width of a format is more than %d", MOST_WIDTH);
    if (*at < format->length && format->bytes[*at] == '.' &&
        (++*at, !read_number(format, at, MOST_PRECISION, &spec.precision)))
        return jinja_fail(percent->run, "the precision of a format is more than %d", MOST_PRECISION);
    if (*at >= format->length)
        return jinja_fail(percent->run, "incomplete format");

    spec.type = format->bytes[(*at)++];
    if (spec.type == '%')
        return jinja_build_bytes(builder, "%", 1, jinja_text_mark(format, *at - 1));
    return (named || next_value(percent, &value)) && write_percent(percent, builder, &spec, &value);
}

bool jinja_format_percent(struct jinja_run *run, const struct jinja_text *format,
                          const struct jinja_value *values, struct jinja_value *ret) {
    struct percent percent = {.run = run, .values = values};
    struct jinja_builder builder = {.run = run};
    size_t at = 0;

    while (at < format->length) {
        const char *found = memchr(format->bytes + at, '%', format->length - at);
        size_t stop = found ? (size_t)(found - format->bytes) : format->length;
        if (!jinja_build_part(&builder, format, at, stop - at))
            return false;
        at = stop + 1;
        if (found && !percent_field(&percent, &builder, format, &at))
            return false;
    }

    size_t count = values->type == JINJA_TUPLE ? values->list->count : 1;
    if (percent.used < count && values->type != JINJA_DICT && values->type != JINJA_LIST)
        return jinja_fail(run, "not all arguments converted during string formatting");
    const struct jinja_text *text = jinja_build_end(&builder);
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool read_spec(struct jinja_run *run, const struct jinja_text *text, struct format_spec *ret) {
    struct format_spec spec = {.precision = -1};
    size_t at = 0;
    const char *end = text->bytes, *stop = text->bytes + text->length;
    if (text->length)
        jinja_utf8_next(&end);

    if (end < stop && text->length && strchr("<>^=", *end) && *end) {
        spec.fill_length = (size_t)(end - text->bytes);
        memcpy(spec.fill, text->bytes, spec.fill_length);
        spec.align = *end;
        at = spec.fill_length + 1;
    } else if (text->length && *text->bytes && strchr("<>^=", *text->bytes)) {
        spec.align = text->bytes[at++];
    }
    if (at < text->length && text->bytes[at] && strchr("+- ", text->bytes[at]))
        spec.sign = text->bytes[at++];
    if (at < text->length && text->bytes[at] == '#')
        spec.alternate = ++at;
    if (at < text->length && text->bytes[at] == '0')
        spec.zero = ++at && !spec.align;
    if (!read_number(text, &at, MOST_WIDTH, &spec.width))
        return jinja_fail(run, "the width of a format is more than %d", MOST_WIDTH);
    if (at < text->length && text->bytes[at] == ',')
        spec.comma = ++at;
    if (at < text->length && text->bytes[at] == '.' &&
        (++at, !read_number(text, &at, MOST_PRECISION, &spec.precision)))
        return jinja_fail(run, "the precision of a format is more than %d", MOST_PRECISION);
    if (at < text->length)
        spec.type = text->bytes[at++];
    if (at < text->length || (spec.comma && spec.zero))
        return jinja_fail(run, "Invalid format specifier");

    *ret = spec;
    return true;
}

static bool write_formatted(struct jinja_builder *builder, const struct jinja_value *value,
                            const struct jinja_text *spec_text) {
    struct format_spec spec;
    if (!spec_text->length || value->type == JINJA_UNDEFINED)
        return jinja_write_text(builder, value);
    if (!read_spec(builder->run, spec_text, &spec))
        return false;
    if (jinja_is_number(value))
        return format_number(builder, value, &spec);
    if (value->type != JINJA_TEXT)
        return jinja_fail(builder->run, "unsupported format string passed to %s.__format__",
                          jinja_type_name(value));
    if (spec.type && spec.type != 's')
        return jinja_fail(builder->run, "Unknown format code '%c' for object of type 'str'", spec.type);
    return format_text(builder, value->text, &spec, spec.align && spec.align != '=' ? spec.align : '<');
}

/* One `{…}`: where it is and what it is given. */
struct braces {
    struct jinja_run *run;
    const struct jinja_given *given;
    int next; /* of fields without a name or number */
};

static bool find_field(struct braces *braces, const struct jinja_text *name, struct jinja_value *ret) {
    int index = 0;
    size_t digits = 0;
    const struct jinja_value key = jinja_string(name), *found = NULL;

    if (!name->length)
        index = braces->next++;
    else if (!read_number(name, &digits, 10000, &index) || digits < name->length)
        index = -1;
    if (index >= 0) {
        if ((size_t)index >= braces->given->count)
            return jinja_fail(braces->run, "Replacement index %d out of range for positional args tuple",
                              index);
        *ret = braces->given->values[index];
        return true;
    }

    if (braces->given->keywords && !jinja_dict_get(braces->run, braces->given->keywords, &key, &found))
        return false;
    if (!found)
        return jinja_fail(braces->run, "'%.*s'", (int)(name->length < 60 ? name->length : 60), name->bytes);
    *ret = *found;
    return true;
}

/* .name and [key] behind the field's name. */
static bool follow_field(struct braces *braces, const struct jinja_text *path, size_t at,
                         struct jinja_value *value) {
    while (at < path->length) {
        bool bracket = path->bytes[at++] == '[';
        size_t end = at;
        while (end < path->length &&
               (bracket ? path->bytes[end] != ']' : path->bytes[end] != '.' && path->bytes[end] != '['))
            end++;
        if (end == at || (bracket && end == path->length))
            return jinja_fail(braces->run, "a field of a format is malformed");

        const struct jinja_text *name = jinja_text_cut(braces->run, path, at, end - at);
        struct jinja_value next, key;
        size_t digits = 0;
        int index;
        if (!name)
            return false;
        bool whole = read_number(name, &digits, 1000000, &index) && digits == name->length;
        key = whole ? jinja_int(index) : jinja_string(name);
        if (!(bracket ? jinja_get_item(braces->run, value, &key, &next)
                      : jinja_get_attribute(braces->run, value, name, &next)))
            return false;
        *value = next;
        at = end + bracket;
    }
    return true;
}

/* The inside of `{…}`. */
static bool write_field(struct braces *braces, struct jinja_builder *builder,
                        const struct jinja_text *field) {
    size_t stop = 0, name_end = 0, spec_start;
    while (stop < field->length && field->bytes[stop] != '!' && field->bytes[stop] != ':')
        stop++;
    while (name_end < stop && field->bytes[name_end] != '.' && field->bytes[name_end] != '[')
        name_end++;

    char conversion = 0;
    spec_start = stop;
    if (stop < field->length && field->bytes[stop] == '!') {
        if (field->length - stop < 2 || !strchr("rsa", field->bytes[stop + 1]) || !field->bytes[stop + 1])
            return jinja_fail(braces->run, "a conversion of a format is not r, s or a");
        conversion = field->bytes[stop + 1];
        spec_start = stop + 2;
    }
    if (spec_start < field->length && field->bytes[spec_start++] != ':')
        return jinja_fail(braces->run, "expected ':' after conversion specifier");

    const struct jinja_text *path = jinja_text_cut(braces->run, field, 0, stop);
    const struct jinja_text *name = path ? jinja_text_cut(braces->run, path, 0, name_end) : NULL;
    const struct jinja_text *spec =
        name ? jinja_text_cut(braces->run, field, spec_start, field->length - spec_start) : NULL;
    struct jinja_value value;
    if (!spec || !find_field(braces, name, &value) || !follow_field(braces, path, name_end, &value))
        return false;

    if (conversion) {
        struct jinja_builder text = {.run = braces->run};
        const struct jinja_text *converted;
        if (!(conversion == 's' ? jinja_write_text(&text, &value) : jinja_write_repr(&text, &value)) ||
            !(converted = jinja_build_end(&text)))
            return false;
        value = jinja_string(converted);
    }
    return write_formatted(builder, &value, spec);
}

bool jinja_format_braces(struct jinja_run *run, const struct jinja_text *format,
                         const struct jinja_given *given, struct jinja_value *ret) {
    struct braces braces = {.run = run, .given = given};
    struct jinja_builder builder = {.run = run};
    size_t done = 0;

    for (size_t at = 0; at < format->length; at++) {
        char c = format->bytes[at];
        if (c != '{' && c != '}')
            continue;
        bool twice = at + 1 < format->length && format->bytes[at + 1] == c;
        if (!jinja_build_part(&builder, format, done, at + twice - done))
            return false;
        if (!twice) {
            const char *end = c == '{' ? memchr(format->bytes + at, '}', format->length - at) : NULL;
            if (!end)
                return jinja_fail(run, "Single '%c' encountered in format string", c);
            size_t stop = (size_t)(end - format->bytes);
            const struct jinja_text *field = jinja_text_cut(run, format, at + 1, stop - at - 1);
            if (!field || !jinja_step(run, 1))
                return false;
            if (memchr(field->bytes, '{', field->length))
                return jinja_fail(run, "a field within a field of a format is not supported");
            if (!write_field(&braces, &builder, field))
                return false;
            at = stop;
        } else {
            at++;
        }
        done = at + 1;
    }

    const struct jinja_text *text = NULL;
    if (jinja_build_part(&builder, format, done, format->length - done))
        text = jinja_build_end(&builder);
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}
