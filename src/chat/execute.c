/* Statements. */
#include "chat/builtins.h"

static bool execute_in_new_scope(struct jinja_run *run, const struct jinja_nodes *nodes,
                                 struct jinja_scope *scope) {
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    return inner && jinja_execute(run, nodes, inner);
}

bool jinja_capture(struct jinja_run *run, const struct jinja_nodes *nodes, struct jinja_scope *scope,
                   struct jinja_value *ret) {
    struct jinja_builder output = {.run = run}, *before = run->output;

    run->output = &output;
    bool done = jinja_execute(run, nodes, scope);
    run->output = before;
    const struct jinja_text *text = done ? jinja_build_end(&output) : NULL;
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}

static bool assign_tuple(struct jinja_run *run, const struct jinja_node *target, struct jinja_scope *scope,
                         const struct jinja_value *value) {
    struct jinja_list *list;
    size_t wanted = target->items.count;
    if (!jinja_is_iterable(value))
        return jinja_fail(run, "cannot unpack non-iterable %s object", jinja_type_name(value));
    if (!jinja_iterate(run, value, &list))
        return false;
    if (list->count > wanted)
        return jinja_fail(run, "too many values to unpack (expected %zu)", wanted);
    if (list->count < wanted)
        return jinja_fail(run, "not enough values to unpack (expected %zu, got %zu)", wanted, list->count);

    for (size_t i = 0; i < wanted; i++)
        if (!jinja_assign(run, target->items.items[i], scope, &list->items[i]))
            return false;
    return true;
}

bool jinja_assign(struct jinja_run *run, const struct jinja_node *target, struct jinja_scope *scope,
                  const struct jinja_value *value) {
    struct jinja_value holder;
    if (target->kind == JINJA_NAME)
        return jinja_scope_set(run, scope, target->name, value);
    if (target->kind == JINJA_MAKE_TUPLE)
        return assign_tuple(run, target, scope, value);

    if (!jinja_scope_get(run, scope, target->name, &holder))
        return false;
    if (holder.type != JINJA_NAMESPACE)
        return jinja_fail(run, "cannot assign attribute on non-namespace object");
    return jinja_dict_set(run, holder.dict, &target->constant, value);
}

static bool execute_if(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value condition = jinja_bool(true);

    for (size_t i = 0; i < node->branch_count; i++) {
        if (i < node->items.count && !jinja_evaluate(run, node->items.items[i], scope, &condition))
            return false;
        if (i == node->items.count || jinja_truth(&condition))
            return jinja_execute(run, &node->branches[i], scope);
    }
    return true;
}

/* The items for which the loop's `if` holds. */
static bool select_items(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                         struct jinja_list **list) {
    struct jinja_list *kept = jinja_list_create(run, 0);
    struct jinja_value condition;
    if (!kept)
        return false;

    for (size_t i = 0; i < (*list)->count; i++) {
        struct jinja_scope *inner = jinja_scope_create(run, scope);
        if (!inner || !jinja_assign(run, node->a, inner, &(*list)->items[i]) ||
            !jinja_evaluate(run, node->c, inner, &condition))
            return false;
        if (jinja_truth(&condition) && !jinja_list_append(run, kept, (*list)->items[i]))
            return false;
    }
    *list = kept;
    return true;
}

static bool execute_pass(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                         struct jinja_loop *loop) {
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    const struct jinja_value self = {.type = JINJA_LOOP, .loop = loop};

    return inner && jinja_step(run, 1) &&
           jinja_assign(run, node->a, inner, &loop->items->items[loop->index]) &&
           jinja_scope_set(run, inner, node->name, &self) && jinja_execute(run, &node->branches[0], inner);
}

bool jinja_execute_loop(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                        const struct jinja_value *iterable, int depth) {
    struct jinja_list *list;
    if (!jinja_iterate(run, iterable, &list) || (node->c && !select_items(run, node, scope, &list)))
        return false;
    if (!list->count)
        return execute_in_new_scope(run, &node->branches[1], scope);

    struct jinja_loop *loop = jinja_allocate(run, 1, sizeof *loop);
    if (!loop)
        return false;
    *loop = (struct jinja_loop){.node = node, .scope = scope, .items = list, .depth = depth};
    for (; loop->index < list->count; loop->index++) {
        if (!execute_pass(run, node, scope, loop))
            return false;
        bool ends = run->signal == JINJA_BREAK;
        run->signal = JINJA_GO_ON;
        if (ends)
            break;
    }
    return true;
}

static bool execute_for(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value iterable;
    return jinja_evaluate(run, node->b, scope, &iterable) &&
           jinja_execute_loop(run, node, scope, &iterable, 0);
}

static bool execute_print(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value value;
    for (size_t i = 0; i < node->items.count; i++)
        if (!jinja_evaluate(run, node->items.items[i], scope, &value) ||
            !jinja_write_text(run->output, &value))
            return false;
    return true;
}

static bool execute_set(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value value;
    return jinja_evaluate(run, node->b, scope, &value) && jinja_assign(run, node->a, scope, &value);
}

/* The text of a block, through its filters. */
static bool capture_filtered(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                             struct jinja_value *ret) {
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    struct jinja_value text;
    if (!inner || !jinja_capture(run, &node->branches[0], inner, &text))
        return false;

    if (node->b)
        return jinja_evaluate_filter(run, node->b, scope, &text, ret);
    *ret = text;
    return true;
}

static bool execute_set_block(struct jinja_run *run, const struct jinja_node *node,
                              struct jinja_scope *scope) {
    struct jinja_value value;
    return capture_filtered(run, node, scope, &value) && jinja_assign(run, node->a, scope, &value);
}

static bool execute_filter_block(struct jinja_run *run, const struct jinja_node *node,
                                 struct jinja_scope *scope) {
    struct jinja_value value;
    return capture_filtered(run, node, scope, &value) && jinja_write_text(run->output, &value);
}

static bool execute_with(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    struct jinja_value value;
    if (!inner)
        return false;

    for (size_t i = 0; i + 1 < node->items.count; i += 2)
        if (!jinja_evaluate(run, node->items.items[i + 1], scope, &value) ||
            !jinja_assign(run, node->items.items[i], inner, &value))
            return false;
    return jinja_execute(run, &node->branches[0], inner);
}

static bool make_macro(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                       struct jinja_value *ret) {
    struct jinja_callable *callable = jinja_allocate(run, 1, sizeof *callable);
    if (!callable)
        return false;

    callable->macro = node;
    callable->scope = scope;
    *ret = (struct jinja_value){.type = JINJA_MACRO, .callable = callable};
    return true;
}

static bool execute_macro(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value macro;
    return make_macro(run, node, scope, &macro) && jinja_scope_set(run, scope, node->name, &macro);
}

/* {% call f(x) %}…{% endcall %} is {{ f(x, caller=…) }}. */
static bool execute_call_block(struct jinja_run *run, const struct jinja_node *node,
                               struct jinja_scope *scope) {
    struct jinja_value callee, caller, result;
    struct jinja_given given;
    const struct jinja_value key = jinja_string(run->program->names[node->b->name]);
    if (!make_macro(run, node->b, scope, &caller) || !jinja_evaluate(run, node->a->a, scope, &callee) ||
        !jinja_evaluate_arguments(run, node->a->arguments, scope, &given))
        return false;

    if (!given.keywords && !(given.keywords = jinja_dict_create(run, 1)))
        return false;
    return jinja_dict_set(run, given.keywords, &key, &caller) &&
           jinja_call_value(run, &callee, &given, &result) && jinja_write_text(run->output, &result);
}

static bool execute_node(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope) {
    run->line = node->line;

    switch (node->kind) {
    case JINJA_DATA:
        return jinja_build_text(run->output, node->constant.text);
    case JINJA_PRINT:
        return execute_print(run, node, scope);
    case JINJA_IF:
        return execute_if(run, node, scope);
    case JINJA_FOR:
        return execute_for(run, node, scope);
    case JINJA_SET:
        return execute_set(run, node, scope);
    case JINJA_SET_BLOCK:
        return execute_set_block(run, node, scope);
    case JINJA_FILTER_BLOCK:
        return execute_filter_block(run, node, scope);
    case JINJA_WITH:
        return execute_with(run, node, scope);
    case JINJA_DEFINE_MACRO:
        return execute_macro(run, node, scope);
    case JINJA_CALL_BLOCK:
        return execute_call_block(run, node, scope);
    case JINJA_GENERATION:
        return jinja_execute(run, &node->branches[0], scope);
    default:
        run->signal = node->kind == JINJA_BREAK_LOOP ? JINJA_BREAK : JINJA_CONTINUE;
        return true;
    }
}

bool jinja_execute(struct jinja_run *run, const struct jinja_nodes *nodes, struct jinja_scope *scope) {
    bool done = true;
    if (!jinja_enter(run))
        return false;

    for (size_t i = 0; done && i < nodes->count && run->signal == JINJA_GO_ON; i++)
        done = jinja_step(run, 1) && execute_node(run, nodes->items[i], scope);
    jinja_leave(run);
    return done;
}
