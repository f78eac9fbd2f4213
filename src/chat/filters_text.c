/* Filters of single values: strings, numbers, JSON. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chat/builtins.h"

static bool give_text(const struct jinja_text *text, struct jinja_value *ret) {
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}

static bool self_text(struct jinja_run *run, const struct jinja_bound *bound, const struct jinja_text **ret) {
    return jinja_to_text(run, &bound->self, ret);
}

static bool filter_case(struct jinja_run *run, const struct jinja_bound *bound, enum jinja_case to,
                        struct jinja_value *ret) {
    const struct jinja_text *text;
    return self_text(run, bound, &text) && jinja_change_case(run, text, to, &text) && give_text(text, ret);
}

static bool filter_upper(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return filter_case(run, bound, JINJA_UPPER, ret);
}

static bool filter_lower(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return filter_case(run, bound, JINJA_LOWER, ret);
}

static bool filter_capitalize(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return filter_case(run, bound, JINJA_CAPITALIZE, ret);
}

/* Words begin behind white space, hyphens and opening brackets only, unlike those of str.title(). */
static bool filter_title(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_builder builder = {.run = run};
    const struct jinja_text *text;
    bool within = false;
    if (!self_text(run, bound, &text))
        return false;

    for (const char *at = text->bytes, *end = at + text->length; at < end;) {
        size_t start = (size_t)(at - text->bytes);
        uint32_t c = jinja_utf8_next(&at), changed[3];
        size_t count = within ? jinja_lower(c, changed) : jinja_upper(c, changed);
        within = !jinja_is_space(c) && !(c < 0x80 && c && strchr("-({[<", (int)c));
        if (!jinja_step(run, 1))
            return false;
        for (size_t i = 0; i < count; i++)
            if (!jinja_build_character(&builder, changed[i], jinja_text_mark(text, start)))
                return false;
    }
    return give_text(jinja_build_end(&builder), ret);
}

static bool filter_trim(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text, *characters;
    return self_text(run, bound, &text) && jinja_argument_text(run, bound, 0, NULL, &characters) &&
           jinja_strip(run, text, characters, true, true, &text) && give_text(text, ret);
}

static bool filter_replace(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text, *old, *fresh;
    int64_t most;
    if (!self_text(run, bound, &text) || !jinja_to_text(run, &bound->values[0], &old) ||
        !jinja_to_text(run, &bound->values[1], &fresh) || !jinja_argument_int(run, bound, 2, -1, &most) ||
        !(text = jinja_text_with_markup(run, text, false)))
        return false;
    return jinja_replace(run, text, old, fresh, most, &text) && give_text(text, ret);
}

/* The indent that a width means: so many blanks, or a string itself. */
static const struct jinja_text *indent_of(struct jinja_run *run, const struct jinja_bound *bound, int index,
                                          int64_t otherwise) {
    const struct jinja_text *blank = jinja_text_literal(run, " ");
    struct jinja_builder builder = {.run = run};
    int64_t width;
    if (bound->given[index] && bound->values[index].type == JINJA_TEXT)
        return bound->values[index].text;
    if (!blank || !jinja_argument_int(run, bound, index, otherwise, &width) ||
        !jinja_build_repeat(&builder, blank, width > 0 ? (size_t)width : 0))
        return NULL;
    return jinja_build_end(&builder);
}

static bool filter_indent(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *indent = indent_of(run, bound, 0, 4), *newline = jinja_text_literal(run, "\n"),
                            *text;
    struct jinja_builder builder = {.run = run};
    struct jinja_list *lines;
    if (bound->self.type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &bound->self);
    if (bound->self.type != JINJA_TEXT)
        return jinja_fail(run, "unsupported operand type(s) for +=: '%s' and 'str'",
                          jinja_type_name(&bound->self));
    /* As Jinja: with a line break behind it, so that an empty last line counts. */
    if (!indent || !newline || !(text = jinja_text_join(run, bound->self.text, newline)) ||
        !jinja_split_lines(run, text, false, &lines))
        return false;

    bool first = jinja_argument_truth(bound, 1), blank = jinja_argument_truth(bound, 2);
    for (size_t i = 0; i < lines->count; i++) {
        const struct jinja_text *line = lines->items[i].text;
        bool indented = i == 0 ? first : blank || line->length;
        if ((i && !jinja_build_literal(&builder, "\n")) ||
            (indented && !jinja_build_text(&builder, indent)) || !jinja_build_text(&builder, line))
            return false;
    }
    return give_text(jinja_build_end(&builder), ret);
}

static bool filter_truncate(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text, *end;
    int64_t length, leeway;
    if (!self_text(run, bound, &text) || !jinja_argument_int(run, bound, 0, 255, &length) ||
        !jinja_argument_text(run, bound, 2, "...", &end) || !jinja_argument_int(run, bound, 3, 5, &leeway))
        return false;
    if (length < (int64_t)end->characters || leeway < 0)
        return jinja_fail(run,
                          "truncate: the length is shorter than what marks the end, or the leeway negative");
    if (leeway > INT64_MAX - length || (int64_t)text->characters <= length + leeway)
        return give_text(text, ret);

    size_t kept = jinja_text_offset(text, (size_t)length - end->characters);
    const char *blank = jinja_argument_truth(bound, 1) ? NULL : memrchr(text->bytes, ' ', kept);
    const struct jinja_text *start =
        jinja_text_cut(run, text, 0, blank ? (size_t)(blank - text->bytes) : kept);
    return start && give_text(jinja_text_join(run, start, end), ret);
}

static bool filter_center(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    struct jinja_value width = bound->given[0] ? bound->values[0] : jinja_int(80);
    const struct jinja_given given = {.values = &width, .count = 1};
    struct jinja_value self;
    if (!self_text(run, bound, &text))
        return false;

    self = jinja_string(text);
    return jinja_call_builtin(run, jinja_find_method(&self, jinja_text_literal(run, "center")), &self, &given,
                              ret);
}

static bool filter_string(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    return self_text(run, bound, &text) && give_text(text, ret);
}

static bool filter_safe(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    return self_text(run, bound, &text) && give_text(jinja_text_with_markup(run, text, true), ret);
}

static bool filter_escape(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    return self_text(run, bound, &text) && give_text(text->markup ? text : jinja_text_escape(run, text), ret);
}

static bool filter_forceescape(struct jinja_run *run, const struct jinja_bound *bound,
                               struct jinja_value *ret) {
    const struct jinja_text *text;
    return self_text(run, bound, &text) && give_text(jinja_text_escape(run, text), ret);
}

static bool filter_format(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    struct jinja_list list = {.items = bound->all->values, .count = bound->all->count};
    struct jinja_value values = jinja_sequence(JINJA_TUPLE, &list);
    if (bound->all->keywords && bound->all->count)
        return jinja_fail(run, "can't handle positional and keyword arguments at the same time");
    if (bound->all->keywords)
        values = (struct jinja_value){.type = JINJA_DICT, .dict = bound->all->keywords};
    return self_text(run, bound, &text) && jinja_format_percent(run, text, &values, ret);
}

static bool filter_default(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    bool replaced =
        bound->self.type == JINJA_UNDEFINED || (jinja_argument_truth(bound, 1) && !jinja_truth(&bound->self));
    if (!replaced)
        *ret = bound->self;
    else if (bound->given[0])
        *ret = bound->values[0];
    else
        return give_text(jinja_text_literal(run, ""), ret);
    return true;
}

static bool filter_length(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    size_t length;
    if (!jinja_length(run, &bound->self, &length))
        return false;
    *ret = jinja_int((int64_t)length);
    return true;
}

static bool filter_attr(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *name;
    if (!jinja_argument_text(run, bound, 0, "", &name))
        return false;
    if (bound->self.type == JINJA_DICT &&
        !jinja_find_method(&bound->self, name)) { /* attributes only, no keys */
        *ret = jinja_undefined_because(run, "a dict has no such attribute");
        return ret->missing != NULL;
    }
    return jinja_get_attribute(run, &bound->self, name, ret);
}

/* The characters of a number: no white space around, no underscores between digits, NUL-terminated. */
static bool number_text(const struct jinja_text *text, char ret[64]) {
    size_t start = jinja_space_before(text->bytes, text->length), length = 0;
    size_t end = start < text->length ? text->length - jinja_space_behind(text->bytes, text->length) : start;

    for (size_t i = start; i < end; i++) {
        char c = text->bytes[i];
        bool between = i > start && i + 1 < end && text->bytes[i - 1] != '_' && text->bytes[i + 1] != '_';
        if (c == '_' && between)
            continue;
        if (length == 63 || c == '_' || c <= 0x20 || c >= 0x7f)
            return false;
        ret[length++] = c;
    }
    ret[length] = 0;
    return length > 0;
}

static bool read_float(const struct jinja_text *text, double *ret) {
    char digits[64], *rest;
    if (!number_text(text, digits) || strpbrk(digits, "xXpP("))
        return false;
    *ret = strtod(digits, &rest);
    return rest > digits && !*rest;
}

/* int(text, base): false where it is none. *fits is false for those beyond 64 bits. */
static bool read_int(const struct jinja_text *text, int base, int64_t *ret, bool *fits) {
    char digits[64], *at = digits, *rest;
    if (!number_text(text, digits))
        return false;

    bool negative = *at == '-';
    at += *at == '-' || *at == '+';
    if (base != 10 && at[0] == '0' && at[1] && strchr("xXoObB", at[1])) {
        int prefix = (at[1] | 0x20) == 'x' ? 16 : (at[1] | 0x20) == 'o' ? 8 : 2;
        if (base == 0 || base == prefix) {
            at += 2;
            base = prefix;
        }
    }
    if (base == 0)
        base = 10;
    if (*at == '-' || *at == '+' || !*at)
        return false;
    errno = 0;
    *ret = strtoll(at, &rest, base);
    *fits = errno == 0;
    if (negative)
        *ret = -*ret;
    return rest > at && !*rest;
}

static bool filter_int(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *self = &bound->self;
    int64_t base, whole;
    double real = NAN;
    bool fits = true;
    if (!jinja_argument_int(run, bound, 1, 10, &base))
        return false;
    if (self->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);

    bool found = jinja_is_whole(self);
    if (found)
        whole = jinja_whole(self);
    else if (self->type == JINJA_TEXT && base >= 0 && base <= 36 && base != 1)
        found = read_int(self->text, (int)base, &whole, &fits);
    if (!found &&
        (self->type == JINJA_FLOAT || (self->type == JINJA_TEXT && read_float(self->text, &real)))) {
        real = self->type == JINJA_FLOAT ? self->real : real;
        if (isinf(real))
            return jinja_fail(run, "cannot convert float infinity to integer");
        found = !isnan(real);
        fits = fabs(real) < 9e18;
        whole = found && fits ? (int64_t)real : 0;
    }
    if (!fits)
        return jinja_fail(run, "a number does not fit into 64 bits");

    *ret = found ? jinja_int(whole) : bound->given[0] ? bound->values[0] : jinja_int(0);
    ret->from_input |= self->type == JINJA_TEXT || self->from_input;
    return true;
}

static bool filter_float(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *self = &bound->self;
    double real = 0;
    if (self->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);

    bool found = jinja_is_number(self) || (self->type == JINJA_TEXT && read_float(self->text, &real));
    if (jinja_is_number(self))
        real = jinja_real(self);
    *ret = found ? jinja_float(real) : bound->given[0] ? bound->values[0] : jinja_float(0);
    ret->from_input |= self->type == JINJA_TEXT || self->from_input;
    return true;
}

static bool filter_abs(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *self = &bound->self, zero = jinja_int(0);
    if (self->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);
    if (!jinja_is_number(self))
        return jinja_fail(run, "bad operand type for abs(): '%s'", jinja_type_name(self));

    *ret = *self;
    if (self->type == JINJA_FLOAT)
        ret->real = fabs(self->real);
    else
        return jinja_operate(run, jinja_whole(self) < 0 ? JINJA_SUBTRACT : JINJA_ADD, &zero, self, ret);
    return true;
}

/* round(): to even where it is halfway, by the number's decimal digits. */
static double round_real(double real, int64_t precision) {
    char digits[400];
    if (!isfinite(real) || precision > 300 || fabs(real) > 1e60)
        return real;
    if (precision < -60)
        return 0;
    if (precision >= 0) {
        snprintf(digits, sizeof digits, "%.*f", (int)precision, real);
        return strtod(digits, NULL);
    }
    double scale = pow(10, (double)-precision);
    return nearbyint(real / scale) * scale;
}

static bool filter_round(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *self = &bound->self;
    const struct jinja_text *method;
    int64_t precision;
    if (!jinja_argument_int(run, bound, 0, 0, &precision) ||
        !jinja_argument_text(run, bound, 1, "common", &method))
        return false;
    if (self->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);
    if (!jinja_is_number(self))
        return jinja_fail(run, "type %s doesn't define __round__ method", jinja_type_name(self));

    bool common = jinja_text_is(method, "common"), up = jinja_text_is(method, "ceil");
    if (!common && !up && !jinja_text_is(method, "floor"))
        return jinja_fail(run, "method must be common, ceil or floor");
    if (common && jinja_is_whole(self)) {
        if (precision < 0)
            return jinja_fail(run, "rounding a whole number to tens is not supported");
        *ret = jinja_int(jinja_whole(self));
    } else if (common) {
        *ret = jinja_float(round_real(self->real, precision));
    } else {
        double scale = pow(10, (double)precision), scaled = jinja_real(self) * scale;
        *ret = jinja_float((up ? ceil(scaled) : floor(scaled)) / scale);
    }
    ret->from_input = self->from_input;
    return true;
}

/* A separator of tojson(separators=(…, …)). */
static bool separator_of(struct jinja_run *run, const struct jinja_value *given, size_t index,
                         const char *otherwise, const struct jinja_text **ret) {
    if (given->type == JINJA_NONE || given->type == JINJA_UNDEFINED)
        return (*ret = jinja_text_literal(run, otherwise)) != NULL;
    if ((given->type != JINJA_TUPLE && given->type != JINJA_LIST) || given->list->count != 2 ||
        given->list->items[index].type != JINJA_TEXT)
        return jinja_fail(run, "tojson: separators are two strings");

    *ret = given->list->items[index].text;
    return true;
}

static bool filter_tojson(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_json_style style = {.ascii = jinja_argument_truth(bound, 0),
                                     .sort_keys = jinja_argument_truth(bound, 3)};
    struct jinja_builder builder = {.run = run};
    bool indented = bound->given[1] && bound->values[1].type != JINJA_NONE;
    if (indented && !(style.indent = indent_of(run, bound, 1, 0)))
        return false;

    return separator_of(run, &bound->values[2], 0, indented ? "," : ", ", &style.item_separator) &&
           separator_of(run, &bound->values[2], 1, ": ", &style.key_separator) &&
           jinja_write_json(&builder, &bound->self, &style) && give_text(jinja_build_end(&builder), ret);
}

const struct jinja_builtin jinja_text_filters[] = {
    {"abs", "", 0, filter_abs},
    {"attr", "name", 1, filter_attr},
    {"capitalize", "", 0, filter_capitalize},
    {"center", "width", 0, filter_center},
    {"count", "", 0, filter_length},
    {"d", "default_value boolean", 0, filter_default},
    {"default", "default_value boolean", 0, filter_default},
    {"e", "", 0, filter_escape},
    {"escape", "", 0, filter_escape},
    {"float", "default", 0, filter_float},
    {"forceescape", "", 0, filter_forceescape},
    {"format", "*", 0, filter_format},
    {"indent", "width first blank", 0, filter_indent},
    {"int", "default base", 0, filter_int},
    {"length", "", 0, filter_length},
    {"lower", "", 0, filter_lower},
    {"replace", "old new count", 2, filter_replace},
    {"round", "precision method", 0, filter_round},
    {"safe", "", 0, filter_safe},
    {"string", "", 0, filter_string},
    {"title", "", 0, filter_title},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"trim", "chars", 0, filter_trim},
    {"truncate", "length killwords end leeway", 0, filter_truncate},
    {"upper", "", 0, filter_upper},
    {0},
};
