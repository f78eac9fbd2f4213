/* `value is test` */
#include <string.h>

#include "chat/builtins.h"

static bool give(bool result, struct jinja_value *ret) {
    *ret = jinja_bool(result);
    return true;
}

static bool test_defined(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type != JINJA_UNDEFINED, ret);
}

static bool test_undefined(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_UNDEFINED, ret);
}

static bool test_none(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_NONE, ret);
}

static bool test_boolean(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_BOOL, ret);
}

static bool test_true(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_BOOL && bound->self.boolean, ret);
}

static bool test_false(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_BOOL && !bound->self.boolean, ret);
}

static bool test_integer(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_INT, ret);
}

static bool test_float(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_FLOAT, ret);
}

static bool test_number(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(jinja_is_number(&bound->self), ret);
}

static bool test_string(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_TEXT, ret);
}

static bool test_mapping(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_DICT, ret);
}

/* What has a length and can be indexed: dicts and undefined values, too. */
static bool test_sequence(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    uint8_t type = bound->self.type;
    return give(type == JINJA_TEXT || type == JINJA_LIST || type == JINJA_TUPLE || type == JINJA_RANGE ||
                    type == JINJA_DICT || type == JINJA_UNDEFINED,
                ret);
}

static bool test_iterable(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(jinja_is_iterable(&bound->self) || bound->self.type == JINJA_LOOP, ret);
}

static bool test_callable(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    uint8_t type = bound->self.type;
    return give(type == JINJA_FUNCTION || type == JINJA_MACRO || type == JINJA_LOOP || type == JINJA_JOINER ||
                    type == JINJA_UNDEFINED,
                ret);
}

static bool test_escaped(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_TEXT && bound->self.text->markup, ret);
}

static bool test_case(struct jinja_run *run, const struct jinja_bound *bound, const char *method,
                      struct jinja_value *ret) {
    const struct jinja_text *text, *name = jinja_text_literal(run, method);
    const struct jinja_given given = {0};
    if (!name || !jinja_to_text(run, &bound->self, &text))
        return false;

    const struct jinja_value self = jinja_string(text);
    return jinja_call_builtin(run, jinja_find_method(&self, name), &self, &given, ret);
}

static bool test_lower(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return test_case(run, bound, "islower", ret);
}

static bool test_upper(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return test_case(run, bound, "isupper", ret);
}

/* self % divisor == rest */
static bool test_rest(struct jinja_run *run, const struct jinja_bound *bound,
                      const struct jinja_value *divisor, int64_t rest, struct jinja_value *ret) {
    struct jinja_value modulo;
    const struct jinja_value expected = jinja_int(rest);
    return jinja_operate(run, JINJA_MODULO, &bound->self, divisor, &modulo) &&
           jinja_operate(run, JINJA_EQUAL, &modulo, &expected, ret);
}

static bool test_odd(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value two = jinja_int(2);
    return test_rest(run, bound, &two, 1, ret);
}

static bool test_even(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value two = jinja_int(2);
    return test_rest(run, bound, &two, 0, ret);
}

static bool test_divisibleby(struct jinja_run *run, const struct jinja_bound *bound,
                             struct jinja_value *ret) {
    return test_rest(run, bound, &bound->values[0], 0, ret);
}

static bool test_sameas(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *a = &bound->self, *b = &bound->values[0];
    bool same = false;
    if (a->type == b->type && (a->type == JINJA_TEXT || a->type == JINJA_INT || a->type == JINJA_BOOL)) {
        if (!jinja_equal(run, a, b, &same))
            return false;
    } else if (a->type == b->type) {
        same = a->type == JINJA_NONE || (a->type != JINJA_FLOAT && a->list == b->list);
    }
    return give(same, ret);
}

static bool test_filter(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_TEXT && jinja_find_filter(bound->self.text), ret);
}

static bool test_test(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return give(bound->self.type == JINJA_TEXT && jinja_find_test(bound->self.text), ret);
}

#define OPERATOR_TEST(name, operation)                                              \
    static bool test_##name(struct jinja_run *run, const struct jinja_bound *bound, \
                            struct jinja_value *ret) {                              \
        return jinja_operate(run, operation, &bound->self, &bound->values[0], ret); \
    }
OPERATOR_TEST(in, JINJA_IN)
OPERATOR_TEST(eq, JINJA_EQUAL)
OPERATOR_TEST(ne, JINJA_UNEQUAL)
OPERATOR_TEST(lt, JINJA_LESS)
OPERATOR_TEST(le, JINJA_LESS_EQUAL)
OPERATOR_TEST(gt, JINJA_GREATER)
OPERATOR_TEST(ge, JINJA_GREATER_EQUAL)

const struct jinja_builtin jinja_tests[] = {
    {"!=", "other", 1, test_ne},
    {"<", "other", 1, test_lt},
    {"<=", "other", 1, test_le},
    {"==", "other", 1, test_eq},
    {">", "other", 1, test_gt},
    {">=", "other", 1, test_ge},
    {"boolean", "", 0, test_boolean},
    {"callable", "", 0, test_callable},
    {"defined", "", 0, test_defined},
    {"divisibleby", "num", 1, test_divisibleby},
    {"eq", "other", 1, test_eq},
    {"equalto", "other", 1, test_eq},
    {"escaped", "", 0, test_escaped},
    {"even", "", 0, test_even},
    {"false", "", 0, test_false},
    {"filter", "", 0, test_filter},
    {"float", "", 0, test_float},
    {"ge", "other", 1, test_ge},
    {"greaterthan", "other", 1, test_gt},
    {"gt", "other", 1, test_gt},
    {"in", "seq", 1, test_in},
    {"integer", "", 0, test_integer},
    {"iterable", "", 0, test_iterable},
    {"le", "other", 1, test_le},
    {"lessthan", "other", 1, test_lt},
    {"lower", "", 0, test_lower},
    {"lt", "other", 1, test_lt},
    {"mapping", "", 0, test_mapping},
    {"ne", "other", 1, test_ne},
    {"none", "", 0, test_none},
    {"number", "", 0, test_number},
    {"odd", "", 0, test_odd},
    {"sameas", "other", 1, test_sameas},
    {"sequence", "", 0, test_sequence},
    {"string", "", 0, test_string},
    {"test", "", 0, test_test},
    {"true", "", 0, test_true},
    {"undefined", "", 0, test_undefined},
    {"upper", "", 0, test_upper},
    {0},
};

const struct jinja_builtin *jinja_find_test(const struct jinja_text *name) {
    return jinja_find_builtin(jinja_tests, name);
}
