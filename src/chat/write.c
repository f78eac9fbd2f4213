/* Values as text: str(), repr() and json.dumps(), as Python writes them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/builtins.h"

void jinja_float_text(double real, char ret[32]) {
    if (isnan(real) || isinf(real)) {
        strcpy(ret, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }

    /* The fewest digits that give the number back. */
    char digits[32];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, real);
        if (strtod(digits, NULL) == real)
            break;
    }
    char *exponent_text = strchr(digits, 'e');
    int exponent = atoi(exponent_text + 1), places = (int)(exponent_text - digits) - (digits[0] == '-') - 2;
    if (places < 0)
        places = 0;

    if (exponent >= -4 && exponent < 16)
        snprintf(ret, 32, "%.*f", places > exponent ? places - exponent : 1, real);
    else
        snprintf(ret, 32, "%.*se%c%02d", (int)(exponent_text - digits), digits, exponent < 0 ? '-' : '+',
                 abs(exponent));
}

static bool write_number(struct jinja_builder *builder, const struct jinja_value *value) {
    char text[32];
    if (value->type == JINJA_FLOAT)
        jinja_float_text(value->real, text);
    else
        snprintf(text, sizeof text, "%" PRId64, value->integer);
    return jinja_build_bytes(builder, text, strlen(text), value->from_input);
}

static bool is_printable(uint32_t c) {
    return !(c < 0x20 || (c >= 0x7f && c < 0xa1) || c == 0xad || (c != 0x20 && jinja_is_space(c)) ||
             (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
             c == 0xfeff || (c >= 0xd800 && c < 0xf900) || (c >= 0xfff0 && c <= 0xfffb) ||
             (c & 0xfffe) == 0xfffe || c >= 0xe0000);
}

static bool write_quoted(struct jinja_builder *builder, const struct jinja_text *text) {
    static const char controls[] = "\t\n\r\\", letters[] = "tnr\\";
    bool single = memchr(text->bytes, '\'', text->length) != NULL,
         twofold = memchr(text->bytes, '"', text->length) != NULL;
    char quote = single && !twofold ? '"' : '\'', escape[16];
    if (text->markup && !jinja_build_literal(builder, "Markup("))
        return false;
    if (!jinja_build_bytes(builder, &quote, 1, false))
        return false;

    const char *at = text->bytes, *end = at + text->length, *done = at;
    while (at < end) {
        const char *start = at;
        uint32_t c = jinja_utf8_next(&at);
        const char *control = c && c < 0x80 ? strchr(controls, (int)c) : NULL;
        if (control)
            snprintf(escape, sizeof escape, "\\%c", letters[control - controls]);
        else if (c == (uint32_t)quote)
            snprintf(escape, sizeof escape, "\\%c", quote);
        else if (!is_printable(c))
            snprintf(escape, sizeof escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        else
            continue;
        if (!jinja_build_part(builder, text, (size_t)(done - text->bytes), (size_t)(start - done)) ||
            !jinja_build_bytes(builder, escape, strlen(escape),
                               jinja_text_mark(text, (size_t)(start - text->bytes))))
            return false;
        done = at;
    }

    return jinja_build_part(builder, text, (size_t)(done - text->bytes), (size_t)(end - done)) &&
           jinja_build_bytes(builder, &quote, 1, false) &&
           (!text->markup || jinja_build_literal(builder, ")"));
}

static bool write_items(struct jinja_builder *builder, const char *before, const struct jinja_list *list,
                        const char *behind) {
    if (!jinja_build_literal(builder, before))
        return false;

    for (size_t i = 0; i < list->count; i++)
        if ((i && !jinja_build_literal(builder, ", ")) || !jinja_write_repr(builder, &list->items[i]))
            return false;
    return jinja_build_literal(builder, behind);
}

static bool write_dict(struct jinja_builder *builder, const struct jinja_dict *dict) {
    if (!jinja_build_literal(builder, "{"))
        return false;

    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_build_literal(builder, ", ")) || !jinja_write_repr(builder, &dict->entries[i].key) ||
            !jinja_build_literal(builder, ": ") || !jinja_write_repr(builder, &dict->entries[i].value))
            return false;
    return jinja_build_literal(builder, "}");
}

static bool write_range(struct jinja_builder *builder, const struct jinja_list *list) {
    const struct jinja_value *bounds = list->items + list->count;
    char text[96], step[32] = "";
    if (bounds[2].integer != 1)
        snprintf(step, sizeof step, ", %" PRId64, bounds[2].integer);
    snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64 "%s)", bounds[0].integer, bounds[1].integer,
             step);
    return jinja_build_literal(builder, text);
}

static bool write_composed(struct jinja_builder *builder, const struct jinja_value *value) {
    char text[64];

    switch (value->type) {
    case JINJA_LIST:
        return write_items(builder, "[", value->list, "]");
    case JINJA_TUPLE:
        return write_items(builder, "(", value->list, value->list->count == 1 ? ",)" : ")");
    case JINJA_KEYS:
        return write_items(builder, "dict_keys([", value->list, "])");
    case JINJA_VALUES:
        return write_items(builder, "dict_values([", value->list, "])");
    case JINJA_ITEMS:
        return write_items(builder, "dict_items([", value->list, "])");
    case JINJA_RANGE:
        return write_range(builder, value->list);
    case JINJA_DICT:
        return write_dict(builder, value->dict);
    case JINJA_NAMESPACE:
        return jinja_build_literal(builder, "<Namespace ") && write_dict(builder, value->dict) &&
               jinja_build_literal(builder, ">");
    default:
        snprintf(text, sizeof text, "<%s object>", jinja_type_name(value));
        return jinja_build_literal(builder, text);
    }
}

bool jinja_write_repr(struct jinja_builder *builder, const struct jinja_value *value) {
    if (!jinja_step(builder->run, 1))
        return false;

    switch (value->type) {
    case JINJA_UNDEFINED:
        return jinja_build_literal(builder, "Undefined");
    case JINJA_NONE:
        return jinja_build_literal(builder, "None");
    case JINJA_BOOL:
        return jinja_build_bytes(builder, value->boolean ? "True" : "False", value->boolean ? 4 : 5,
                                 value->from_input);
    case JINJA_INT:
    case JINJA_FLOAT:
        return write_number(builder, value);
    case JINJA_TEXT:
        return write_quoted(builder, value->text);
    default:
        break;
    }

    if (!jinja_enter(builder->run))
        return false;
    bool done = write_composed(builder, value);
    jinja_leave(builder->run);
    return done;
}

bool jinja_write_text(struct jinja_builder *builder, const struct jinja_value *value) {
    if (value->type == JINJA_TEXT)
        return jinja_build_text(builder, value->text);
    if (value->type == JINJA_UNDEFINED)
        return true;
    return jinja_write_repr(builder, value);
}

bool jinja_to_text(struct jinja_run *run, const struct jinja_value *value, const struct jinja_text **ret) {
    struct jinja_builder builder = {.run = run};
    if (value->type == JINJA_TEXT) {
        *ret = value->text;
        return true;
    }
    return jinja_write_text(&builder, value) && (*ret = jinja_build_end(&builder));
}

static bool json_escape(struct jinja_builder *builder, uint32_t c, bool from_input) {
    static const char controls[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
    const char *control = c && c < 0x80 ? strchr(controls, (int)c) : NULL;
    char escape[16];

    if (control)
        snprintf(escape, sizeof escape, "\\%c", letters[control - controls]);
    else if (c < 0x10000)
        snprintf(escape, sizeof escape, "\\u%04x", c);
    else
        snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                 0xdc00 + ((c - 0x10000) & 0x3ff));
    return jinja_build_bytes(builder, escape, strlen(escape), from_input);
}

static bool json_string_text(struct jinja_builder *builder, const struct jinja_text *text, bool ascii) {
    const char *at = text->bytes, *end = at + text->length, *done = at;
    if (!jinja_build_literal(builder, "\""))
        return false;

    while (at < end) {
        const char *start = at;
        uint32_t c = jinja_utf8_next(&at);
        if (c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x80))
            continue;
        if (!jinja_build_part(builder, text, (size_t)(done - text->bytes), (size_t)(start - done)) ||
            !json_escape(builder, c, jinja_text_mark(text, (size_t)(start - text->bytes))))
            return false;
        done = at;
    }

    return jinja_build_part(builder, text, (size_t)(done - text->bytes), (size_t)(end - done)) &&
           jinja_build_literal(builder, "\"");
}

/* A line break and the indent of this level; nothing where JSON is one line. */
static bool json_line(struct jinja_builder *builder, const struct jinja_json_style *style, size_t level) {
    return !style->indent ||
           (jinja_build_literal(builder, "\n") && jinja_build_repeat(builder, style->indent, level));
}

static bool write_json(struct jinja_builder *builder, const struct jinja_value *value,
                       const struct jinja_json_style *style, size_t level);

static bool json_list(struct jinja_builder *builder, const struct jinja_list *list,
                      const struct jinja_json_style *style, size_t level) {
    if (!list->count)
        return jinja_build_literal(builder, "[]");
    if (!jinja_build_literal(builder, "["))
        return false;

    for (size_t i = 0; i < list->count; i++)
        if ((i && !jinja_build_text(builder, style->item_separator)) ||
            !json_line(builder, style, level + 1) || !write_json(builder, &list->items[i], style, level + 1))
            return false;
    return json_line(builder, style, level) && jinja_build_literal(builder, "]");
}

static bool json_scalar(struct jinja_builder *builder, const struct jinja_value *value) {
    const char *word = "null";
    if (value->type == JINJA_BOOL)
        word = value->boolean ? "true" : "false";
    else if (value->type == JINJA_FLOAT && !isfinite(value->real))
        word = isnan(value->real) ? "NaN" : value->real < 0 ? "-Infinity" : "Infinity";
    else if (value->type != JINJA_NONE)
        return write_number(builder, value);
    return jinja_build_bytes(builder, word, strlen(word), value->from_input);
}

static bool is_scalar(const struct jinja_value *value) {
    return value->type == JINJA_NONE || jinja_is_number(value);
}

static bool json_key(struct jinja_builder *builder, const struct jinja_value *key,
                     const struct jinja_json_style *style) {
    if (key->type == JINJA_TEXT)
        return json_string_text(builder, key->text, style->ascii);
    if (!is_scalar(key))
        return jinja_fail(builder->run, "keys must be str, int, float, bool or None, not %s",
                          jinja_type_name(key));

    return jinja_build_literal(builder, "\"") && json_scalar(builder, key) &&
           jinja_build_literal(builder, "\"");
}

/* The entries, by key if the style wants that. */
static bool sorted_entries(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_list **ret_keys,
                           struct jinja_list **ret_values, bool sort) {
    return jinja_dict_list(run, dict, JINJA_KEYS, ret_keys) &&
           jinja_dict_list(run, dict, JINJA_VALUES, ret_values) &&
           (!sort || jinja_sort(run, (*ret_keys)->items, (*ret_values)->items, dict->count, false));
}

static bool json_dict(struct jinja_builder *builder, const struct jinja_dict *dict,
                      const struct jinja_json_style *style, size_t level) {
    struct jinja_list *keys, *values;
    if (!dict->count)
        return jinja_build_literal(builder, "{}");
    if (!sorted_entries(builder->run, dict, &keys, &values, style->sort_keys) ||
        !jinja_build_literal(builder, "{"))
        return false;

    for (size_t i = 0; i < dict->count; i++)
        if ((i && !jinja_build_text(builder, style->item_separator)) ||
            !json_line(builder, style, level + 1) || !json_key(builder, &keys->items[i], style) ||
            !jinja_build_text(builder, style->key_separator) ||
            !write_json(builder, &values->items[i], style, level + 1))
            return false;
    return json_line(builder, style, level) && jinja_build_literal(builder, "}");
}

static bool write_json(struct jinja_builder *builder, const struct jinja_value *value,
                       const struct jinja_json_style *style, size_t level) {
    bool done;
    if (value->type == JINJA_TEXT)
        return json_string_text(builder, value->text, style->ascii);
    if (is_scalar(value))
        return json_scalar(builder, value);
    if (!jinja_step(builder->run, 1) || !jinja_enter(builder->run))
        return false;

    if (value->type == JINJA_LIST || value->type == JINJA_TUPLE)
        done = json_list(builder, value->list, style, level);
    else if (value->type == JINJA_DICT)
        done = json_dict(builder, value->dict, style, level);
    else
        done = jinja_fail(builder->run, "Object of type %s is not JSON serializable", jinja_type_name(value));
    jinja_leave(builder->run);
    return done;
}

bool jinja_write_json(struct jinja_builder *builder, const struct jinja_value *value,
                      const struct jinja_json_style *style) {
    return write_json(builder, value, style, 0);
}
