/* a OP b */
#include <math.h>

#include "base/checked.h"
#include "chat/builtins.h"

static const char *const signs[] = {
    [JINJA_ADD] = "+",           [JINJA_SUBTRACT] = "-", [JINJA_MULTIPLY] = "*",        [JINJA_DIVIDE] = "/",
    [JINJA_FLOOR_DIVIDE] = "//", [JINJA_MODULO] = "%",   [JINJA_POWER] = "** or pow()", [JINJA_LESS] = "<",
    [JINJA_LESS_EQUAL] = "<=",   [JINJA_GREATER] = ">",  [JINJA_GREATER_EQUAL] = ">=",
};

static bool fail_types(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                       const struct jinja_value *b) {
    if (operation == JINJA_ADD && a->type == JINJA_TEXT)
        return jinja_fail(run, "can only concatenate str (not \"%s\") to str", jinja_type_name(b));
    if (operation == JINJA_ADD && (a->type == JINJA_LIST || a->type == JINJA_TUPLE))
        return jinja_fail(run, "can only concatenate %s (not \"%s\") to %s", jinja_type_name(a),
                          jinja_type_name(b), jinja_type_name(a));
    return jinja_fail(run, "unsupported operand type(s) for %s: '%s' and '%s'", signs[operation],
                      jinja_type_name(a), jinja_type_name(b));
}

static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int64_t floor_modulo(int64_t a, int64_t b) {
    int64_t rest = a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static bool raise_whole(int64_t base, int64_t exponent, int64_t *ret) {
    int64_t result = 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result))
            return false;
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return false;
    }

    *ret = result;
    return true;
}

static bool operate_whole(struct jinja_run *run, enum jinja_operator operation, int64_t a, int64_t b,
                          struct jinja_value *ret) {
    int64_t result = 0;
    bool fits = true, divides = operation == JINJA_FLOOR_DIVIDE || operation == JINJA_MODULO;
    if (divides && b == 0)
        return jinja_fail(run, "integer division or modulo by zero");
    if (divides && b == -1) { /* the smallest number has no opposite */
        fits = operation == JINJA_MODULO || !__builtin_sub_overflow(0, a, &result);
        operation = JINJA_EQUAL;
    }

    switch (operation) {
    case JINJA_ADD:
        fits = !__builtin_add_overflow(a, b, &result);
        break;
    case JINJA_SUBTRACT:
        fits = !__builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_MULTIPLY:
        fits = !__builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_FLOOR_DIVIDE:
        result = floor_divide(a, b);
        break;
    case JINJA_MODULO:
        result = floor_modulo(a, b);
        break;
    case JINJA_POWER:
        fits = raise_whole(a, b, &result);
        break;
    default:
        break;
    }

    if (!fits)
        return jinja_fail(run, "a number does not fit into 64 bits");
    *ret = jinja_int(result);
    return true;
}

static bool operate_real(struct jinja_run *run, enum jinja_operator operation, double a, double b,
                         struct jinja_value *ret) {
    double result = 0;
    bool divides = operation == JINJA_DIVIDE || operation == JINJA_FLOOR_DIVIDE || operation == JINJA_MODULO;
    if (divides && b == 0)
        return jinja_fail(run, "division by zero");

    switch (operation) {
    case JINJA_ADD:
        result = a + b;
        break;
    case JINJA_SUBTRACT:
        result = a - b;
        break;
    case JINJA_MULTIPLY:
        result = a * b;
        break;
    case JINJA_DIVIDE:
        result = a / b;
        break;
    case JINJA_FLOOR_DIVIDE:
        result = floor(a / b);
        break;
    case JINJA_MODULO:
        result = fmod(a, b);
        if (result != 0 && (result < 0) != (b < 0))
            result += b;
        break;
    default:
        result = pow(a, b);
        if (isnan(result) && !isnan(a) && !isnan(b))
            return jinja_fail(run, "a root of a negative number is not supported");
    }

    *ret = jinja_float(result);
    return true;
}

static bool operate_numbers(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                            const struct jinja_value *b, struct jinja_value *ret) {
    bool whole = jinja_is_whole(a) && jinja_is_whole(b) && operation != JINJA_DIVIDE &&
                 !(operation == JINJA_POWER && jinja_whole(b) < 0);
    bool from_input = a->from_input || b->from_input;
    if (!(whole ? operate_whole(run, operation, jinja_whole(a), jinja_whole(b), ret)
                : operate_real(run, operation, jinja_real(a), jinja_real(b), ret)))
        return false;

    ret->from_input = from_input;
    return true;
}

static bool add_texts(struct jinja_run *run, const struct jinja_text *a, const struct jinja_text *b,
                      struct jinja_value *ret) {
    bool markup = a->markup || b->markup;
    if (markup && !a->markup && !(a = jinja_text_escape(run, a)))
        return false;
    if (markup && !b->markup && !(b = jinja_text_escape(run, b)))
        return false;

    const struct jinja_text *sum = jinja_text_join(run, a, b);
    if (sum && markup)
        sum = jinja_text_with_markup(run, sum, true);
    if (sum)
        *ret = jinja_string(sum);
    return sum != NULL;
}

static bool add_lists(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                      struct jinja_value *ret) {
    size_t count = a->list->count + b->list->count;
    struct jinja_list *sum = jinja_list_create(run, count);
    if (!sum || !jinja_step(run, count))
        return false;

    for (size_t i = 0; i < count; i++)
        if (!jinja_list_append(run, sum,
                               i < a->list->count ? a->list->items[i] : b->list->items[i - a->list->count]))
            return false;
    *ret = jinja_sequence(a->type, sum);
    return true;
}

static bool repeat(struct jinja_run *run, const struct jinja_value *value, int64_t times,
                   struct jinja_value *ret) {
    if (times < 0)
        times = 0;
    if (value->type == JINJA_TEXT) {
        struct jinja_builder builder = {.run = run};
        const struct jinja_text *text = NULL;
        if (jinja_build_repeat(&builder, value->text, (size_t)times))
            text = jinja_build_end(&builder);
        if (text)
            *ret = jinja_string(text);
        return text != NULL;
    }

    size_t count;
    struct jinja_list *list = NULL;
    if (!size_multiply(value->list->count, (size_t)times, &count) || !jinja_step(run, count) ||
        !(list = jinja_list_create(run, count)))
        return list || jinja_step(run, SIZE_MAX);
    for (size_t i = 0; i < count; i++)
        list->items[list->count++] = value->list->items[i % value->list->count];
    *ret = jinja_sequence(value->type, list);
    return true;
}

static bool is_repeatable(const struct jinja_value *value) {
    return value->type == JINJA_TEXT || value->type == JINJA_LIST || value->type == JINJA_TUPLE;
}

static bool order(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                  const struct jinja_value *b, struct jinja_value *ret) {
    int sign;
    if (!jinja_compare(run, a, b, signs[operation], &sign))
        return false;

    bool nan = (a->type == JINJA_FLOAT && isnan(a->real)) || (b->type == JINJA_FLOAT && isnan(b->real));
    *ret = jinja_bool(!nan && (operation == JINJA_LESS         ? sign < 0
                               : operation == JINJA_LESS_EQUAL ? sign <= 0
                               : operation == JINJA_GREATER    ? sign > 0
                                                               : sign >= 0));
    return true;
}

static bool compare(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                    const struct jinja_value *b, struct jinja_value *ret) {
    bool result;
    if (operation >= JINJA_LESS && operation <= JINJA_GREATER_EQUAL)
        return order(run, operation, a, b, ret);
    if (operation == JINJA_IN || operation == JINJA_NOT_IN ? !jinja_contains(run, b, a, &result)
                                                           : !jinja_equal(run, a, b, &result))
        return false;

    *ret = jinja_bool(result == (operation == JINJA_EQUAL || operation == JINJA_IN));
    return true;
}

bool jinja_operate(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                   const struct jinja_value *b, struct jinja_value *ret) {
    if (operation >= JINJA_EQUAL)
        return compare(run, operation, a, b, ret);
    if (operation == JINJA_MODULO && a->type == JINJA_TEXT)
        return jinja_format_percent(run, a->text, b, ret);
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a->type == JINJA_UNDEFINED ? a : b);

    if (jinja_is_number(a) && jinja_is_number(b))
        return operate_numbers(run, operation, a, b, ret);
    if (operation == JINJA_ADD && a->type == JINJA_TEXT && b->type == JINJA_TEXT)
        return add_texts(run, a->text, b->text, ret);
    if (operation == JINJA_ADD && a->type == b->type && (a->type == JINJA_LIST || a->type == JINJA_TUPLE))
        return add_lists(run, a, b, ret);
    if (operation == JINJA_MULTIPLY && is_repeatable(a) && jinja_is_whole(b))
        return repeat(run, a, jinja_whole(b), ret);
    if (operation == JINJA_MULTIPLY && is_repeatable(b) && jinja_is_whole(a))
        return repeat(run, b, jinja_whole(a), ret);
    return fail_types(run, operation, a, b);
}
