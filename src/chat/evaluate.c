/* Expressions. */
#include "chat/builtins.h"

static bool evaluate_items(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                           struct jinja_value *ret) {
    struct jinja_list *list = jinja_list_create(run, node->items.count);
    struct jinja_value value;
    if (!list)
        return false;

    for (size_t i = 0; i < node->items.count; i++)
        if (!jinja_evaluate(run, node->items.items[i], scope, &value) || !jinja_list_append(run, list, value))
            return false;
    *ret = jinja_sequence(node->kind == JINJA_MAKE_LIST ? JINJA_LIST : JINJA_TUPLE, list);
    return true;
}

static bool evaluate_dict(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_dict *dict = jinja_dict_create(run, node->items.count / 2);
    struct jinja_value key, value;
    if (!dict)
        return false;

    for (size_t i = 0; i + 1 < node->items.count; i += 2)
        if (!jinja_evaluate(run, node->items.items[i], scope, &key) ||
            !jinja_evaluate(run, node->items.items[i + 1], scope, &value) ||
            !jinja_dict_set(run, dict, &key, &value))
            return false;
    *ret = (struct jinja_value){.type = JINJA_DICT, .dict = dict};
    return true;
}

static bool evaluate_concat(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                            struct jinja_value *ret) {
    const struct jinja_text *text = NULL, *part;
    struct jinja_value value;

    for (size_t i = 0; i < node->items.count; i++) {
        if (!jinja_evaluate(run, node->items.items[i], scope, &value) || !jinja_to_text(run, &value, &part))
            return false;
        text = text ? jinja_text_join(run, text, part) : part;
        if (!text)
            return false;
    }
    if (!text || !(text = jinja_text_with_markup(run, text, false)))
        return false;

    *ret = jinja_string(text);
    return true;
}

/* a < b < c, each operand evaluated once. */
static bool evaluate_compare(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                             struct jinja_value *ret) {
    struct jinja_value left, right;
    if (!jinja_evaluate(run, node->items.items[0], scope, &left))
        return false;

    *ret = jinja_bool(true);
    for (size_t i = 1; i < node->items.count && jinja_truth(ret); i++) {
        if (!jinja_evaluate(run, node->items.items[i], scope, &right) ||
            !jinja_operate(run, node->operations[i - 1], &left, &right, ret))
            return false;
        left = right;
    }
    return true;
}

static bool evaluate_slice(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                           struct jinja_value *ret) {
    struct jinja_value value, bounds[3] = {jinja_none(), jinja_none(), jinja_none()};
    if (!jinja_evaluate(run, node->a, scope, &value))
        return false;
    for (size_t i = 0; i < 3; i++)
        if (node->items.items[i] && !jinja_evaluate(run, node->items.items[i], scope, &bounds[i]))
            return false;
    return jinja_get_slice(run, &value, bounds, ret);
}

static bool evaluate_call(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_value callee;
    struct jinja_given given;
    return jinja_evaluate(run, node->a, scope, &callee) &&
           jinja_evaluate_arguments(run, node->arguments, scope, &given) &&
           jinja_call_value(run, &callee, &given, ret);
}

/* The argument of the innermost of a chain of filters is `input` where it has none of its own. */
bool jinja_evaluate_filter(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                           const struct jinja_value *input, struct jinja_value *ret) {
    struct jinja_value self;
    struct jinja_given given;
    if (!jinja_enter(run))
        return false;

    bool done = true;
    if (!node->a)
        self = *input;
    else if (input && node->a->kind == JINJA_FILTER)
        done = jinja_evaluate_filter(run, node->a, scope, input, &self);
    else
        done = jinja_evaluate(run, node->a, scope, &self);

    if (done && !node->builtin)
        done = jinja_fail(run, "there is no filter '%.*s'", (int)node->constant.text->length,
                          node->constant.text->bytes);
    done = done && jinja_evaluate_arguments(run, node->arguments, scope, &given) &&
           jinja_call_builtin(run, node->builtin, &self, &given, ret);
    jinja_leave(run);
    return done;
}

static bool evaluate_test(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_value self;
    struct jinja_given given;
    if (!node->builtin)
        return jinja_fail(run, "there is no test '%.*s'", (int)node->constant.text->length,
                          node->constant.text->bytes);
    return jinja_evaluate(run, node->a, scope, &self) &&
           jinja_evaluate_arguments(run, node->arguments, scope, &given) &&
           jinja_call_builtin(run, node->builtin, &self, &given, ret);
}

static bool evaluate_sign(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_value zero = jinja_int(0), value;
    if (!jinja_evaluate(run, node->a, scope, &value))
        return false;
    if (value.type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &value);
    if (!jinja_is_number(&value))
        return jinja_fail(run, "bad operand type for unary %c: '%s'", node->kind == JINJA_NEGATE ? '-' : '+',
                          jinja_type_name(&value));

    if (value.type == JINJA_FLOAT) {
        *ret = value;
        ret->real = node->kind == JINJA_NEGATE ? -value.real : value.real;
        return true;
    }
    return jinja_operate(run, node->kind == JINJA_NEGATE ? JINJA_SUBTRACT : JINJA_ADD, &zero, &value, ret);
}

static bool evaluate_condition(struct jinja_run *run, const struct jinja_node *node,
                               struct jinja_scope *scope, struct jinja_value *ret) {
    struct jinja_value condition;
    if (!jinja_evaluate(run, node->b, scope, &condition))
        return false;
    if (jinja_truth(&condition))
        return jinja_evaluate(run, node->a, scope, ret);
    if (node->c)
        return jinja_evaluate(run, node->c, scope, ret);

    *ret = jinja_undefined_because(
        run, "the inline if-expression evaluated to false and no else section was defined.");
    return ret->missing != NULL;
}

static bool evaluate_pair(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_value a, b;
    if (!jinja_evaluate(run, node->a, scope, &a))
        return false;
    if (node->kind == JINJA_AND || node->kind == JINJA_OR) {
        *ret = a;
        return jinja_truth(&a) == (node->kind == JINJA_OR) || jinja_evaluate(run, node->b, scope, ret);
    }
    if (!jinja_evaluate(run, node->b, scope, &b))
        return false;

    run->line = node->line;
    return node->kind == JINJA_SUBSCRIPT ? jinja_get_item(run, &a, &b, ret)
                                         : jinja_operate(run, node->operation, &a, &b, ret);
}

static bool evaluate_node(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *ret) {
    struct jinja_value value;
    run->line = node->line;

    switch (node->kind) {
    case JINJA_CONSTANT:
        *ret = node->constant;
        return true;
    case JINJA_NAME:
        return jinja_scope_get(run, scope, node->name, ret);
    case JINJA_BINARY:
    case JINJA_AND:
    case JINJA_OR:
    case JINJA_SUBSCRIPT:
        return evaluate_pair(run, node, scope, ret);
    case JINJA_NOT:
        if (!jinja_evaluate(run, node->a, scope, &value))
            return false;
        *ret = jinja_bool(!jinja_truth(&value));
        return true;
    case JINJA_NEGATE:
    case JINJA_PLUS:
        return evaluate_sign(run, node, scope, ret);
    case JINJA_COMPARE:
        return evaluate_compare(run, node, scope, ret);
    case JINJA_CONCAT:
        return evaluate_concat(run, node, scope, ret);
    case JINJA_CONDITION:
        return evaluate_condition(run, node, scope, ret);
    case JINJA_ATTRIBUTE:
        return jinja_evaluate(run, node->a, scope, &value) &&
               jinja_get_attribute(run, &value, node->constant.text, ret);
    case JINJA_SLICE:
        return evaluate_slice(run, node, scope, ret);
    case JINJA_CALL:
        return evaluate_call(run, node, scope, ret);
    case JINJA_FILTER:
        return jinja_evaluate_filter(run, node, scope, NULL, ret);
    case JINJA_TEST:
        return evaluate_test(run, node, scope, ret);
    case JINJA_MAKE_DICT:
        return evaluate_dict(run, node, scope, ret);
    default:
        return evaluate_items(run, node, scope, ret);
    }
}

bool jinja_evaluate(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                    struct jinja_value *ret) {
    if (!jinja_step(run, 1) || !jinja_enter(run))
        return false;

    bool done = evaluate_node(run, node, scope, ret);
    jinja_leave(run);
    return done;
}
