/* Calls: arguments to parameters, of functions of this program and of macros. */
#include <string.h>

#include "chat/builtins.h"

static bool spread_list(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                        struct jinja_list *values) {
    struct jinja_value value;
    struct jinja_list *list;
    if (!node)
        return true;
    if (!jinja_evaluate(run, node, scope, &value) || !jinja_iterate(run, &value, &list) ||
        !jinja_step(run, list->count))
        return false;

    for (size_t i = 0; i < list->count; i++)
        if (!jinja_list_append(run, values, list->items[i]))
            return false;
    return true;
}

static bool spread_dict(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                        struct jinja_dict *keywords) {
    struct jinja_value value;
    if (!node)
        return true;
    if (!jinja_evaluate(run, node, scope, &value))
        return false;
    if (value.type != JINJA_DICT)
        return jinja_fail(run, "argument after ** must be a mapping, not %s", jinja_type_name(&value));

    for (size_t i = 0; i < value.dict->count; i++) {
        if (value.dict->entries[i].key.type != JINJA_TEXT)
            return jinja_fail(run, "keywords must be strings");
        if (!jinja_dict_set(run, keywords, &value.dict->entries[i].key, &value.dict->entries[i].value))
            return false;
    }
    return true;
}

bool jinja_evaluate_arguments(struct jinja_run *run, const struct jinja_actual *actual,
                              struct jinja_scope *scope, struct jinja_given *ret) {
    struct jinja_given given = {0};
    struct jinja_value value;
    struct jinja_list *values = actual ? jinja_list_create(run, actual->positions.count) : NULL;
    if (!actual) {
        *ret = given;
        return true;
    }
    if (!values)
        return false;

    for (size_t i = 0; i < actual->positions.count; i++)
        if (!jinja_evaluate(run, actual->positions.items[i], scope, &value) ||
            !jinja_list_append(run, values, value))
            return false;
    if (!spread_list(run, actual->star, scope, values))
        return false;

    if (actual->keywords.count || actual->double_star) {
        if (!(given.keywords = jinja_dict_create(run, actual->keywords.count)))
            return false;
        for (size_t i = 0; i < actual->keywords.count; i++) {
            const struct jinja_node *keyword = actual->keywords.items[i];
            if (!jinja_evaluate(run, keyword->a, scope, &value) ||
                !jinja_dict_set(run, given.keywords, &keyword->constant, &value))
                return false;
        }
        if (!spread_dict(run, actual->double_star, scope, given.keywords))
            return false;
    }

    given.values = values->items;
    given.count = values->count;
    *ret = given;
    return true;
}

/* The number of the parameter with this name; -1 where there is none. */
static int find_parameter(const char *parameters, const struct jinja_text *name) {
    int index = 0;
    for (const char *word = parameters; *word; word += strcspn(word, " "), word += *word == ' ', index++)
        if (strcspn(word, " ") == name->length && memcmp(word, name->bytes, name->length) == 0)
            return index;
    return -1;
}

static int count_parameters(const char *parameters) {
    int count = *parameters != 0;
    for (; *parameters; parameters++)
        count += *parameters == ' ';
    return count;
}

static bool bind_keywords(struct jinja_run *run, const struct jinja_builtin *builtin,
                          const struct jinja_dict *keywords, struct jinja_bound *bound) {
    for (size_t i = 0; keywords && i < keywords->count; i++) {
        const struct jinja_text *name = keywords->entries[i].key.text;
        int index = find_parameter(builtin->parameters, name);
        if (index < 0 || bound->given[index])
            return jinja_fail(run, "%s() got %s '%.*s'", builtin->name,
                              index < 0 ? "an unexpected keyword argument" : "multiple values for argument",
                              (int)(name->length < 60 ? name->length : 60), name->bytes);
        bound->values[index] = keywords->entries[i].value;
        bound->given[index] = true;
    }
    return true;
}

bool jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *builtin,
                        const struct jinja_value *self, const struct jinja_given *given,
                        struct jinja_value *ret) {
    struct jinja_bound bound = {.self = *self, .all = given};

    if (*builtin->parameters != '*') {
        int count = count_parameters(builtin->parameters);
        if (given->count > (size_t)count)
            return jinja_fail(run, "%s() takes at most %d arguments, %zu given", builtin->name, count,
                              given->count);
        for (size_t i = 0; i < given->count; i++) {
            bound.values[i] = given->values[i];
            bound.given[i] = true;
        }
        if (!bind_keywords(run, builtin, given->keywords, &bound))
            return false;
        for (int i = 0; i < builtin->required; i++)
            if (!bound.given[i])
                return jinja_fail(run, "%s() needs %d arguments at least", builtin->name, builtin->required);
    }
    return jinja_step(run, 1) && builtin->function(run, &bound, ret);
}

/* Parameters that no argument is for: their default, or undefined. */
static bool set_missing(struct jinja_run *run, const struct jinja_signature *signature, size_t index,
                        struct jinja_scope *scope) {
    struct jinja_value value;
    if (signature->defaults[index]) {
        if (!jinja_evaluate(run, signature->defaults[index], scope, &value))
            return false;
    } else {
        const struct jinja_text *name = run->program->names[signature->names[index]];
        const char *message = arena_printf(run->arena, "parameter '%.*s' was not provided",
                                           (int)(name->length < 60 ? name->length : 60), name->bytes);
        value = jinja_undefined_because(run, message);
        if (!message || !value.missing)
            return error_set(run->error, ERROR_MEMORY, "out of memory");
    }
    return jinja_scope_set(run, scope, signature->names[index], &value);
}

/* Take the keyword of this name out of `keywords`; *found says whether it was there. */
static bool take_keyword(struct jinja_run *run, struct jinja_dict **keywords, const struct jinja_text *name,
                         struct jinja_value *ret, bool *found) {
    const struct jinja_value key = jinja_string(name), *value = NULL;
    if (*keywords && !jinja_dict_get(run, *keywords, &key, &value))
        return false;
    *found = value != NULL;
    if (!value)
        return true;

    *ret = *value;
    struct jinja_dict *rest = jinja_dict_create(run, (*keywords)->count);
    for (size_t i = 0; rest && i < (*keywords)->count; i++) {
        const struct jinja_entry *entry = &(*keywords)->entries[i];
        if (!jinja_text_equal(entry->key.text, name) &&
            !jinja_dict_set(run, rest, &entry->key, &entry->value))
            return false;
    }
    *keywords = rest;
    return rest != NULL;
}

/* `caller`, `kwargs` and `varargs`, where the body names them; else nothing may be left over. */
static bool set_special(struct jinja_run *run, const struct jinja_node *macro,
                        const struct jinja_given *given, struct jinja_dict *keywords,
                        struct jinja_scope *scope) {
    const struct jinja_signature *signature = macro->signature;
    const struct jinja_text *title = run->program->names[macro->name];
    int length = (int)(title->length < 60 ? title->length : 60);
    struct jinja_value value;
    bool found;

    if (signature->uses_caller) {
        if (!take_keyword(run, &keywords, run->program->names[signature->caller], &value, &found))
            return false;
        if (!found)
            value = jinja_undefined_because(run, "No caller defined");
        if (!jinja_scope_set(run, scope, signature->caller, &value))
            return false;
    }
    if (signature->uses_kwargs) {
        if (!keywords && !(keywords = jinja_dict_create(run, 0)))
            return false;
        value = (struct jinja_value){.type = JINJA_DICT, .dict = keywords};
        if (!jinja_scope_set(run, scope, signature->kwargs, &value))
            return false;
    } else if (keywords && keywords->count) {
        const struct jinja_text *name = keywords->entries[0].key.text;
        return jinja_fail(run, "macro '%.*s' takes no keyword argument '%.*s'", length, title->bytes,
                          (int)(name->length < 60 ? name->length : 60), name->bytes);
    }

    size_t more = given->count > signature->count ? given->count - signature->count : 0;
    if (!signature->uses_varargs)
        return !more || jinja_fail(run, "macro '%.*s' takes not more than %zu argument(s)", length,
                                   title->bytes, signature->count);
    struct jinja_list *rest = jinja_list_create(run, more);
    if (!rest)
        return false;
    for (size_t i = 0; i < more; i++)
        rest->items[rest->count++] = given->values[signature->count + i];
    value = jinja_sequence(JINJA_TUPLE, rest);
    return jinja_scope_set(run, scope, signature->varargs, &value);
}

static bool call_macro(struct jinja_run *run, const struct jinja_callable *callable,
                       const struct jinja_given *given, struct jinja_value *ret) {
    const struct jinja_node *macro = callable->macro;
    const struct jinja_signature *signature = macro->signature;
    struct jinja_scope *scope = jinja_scope_create(run, callable->scope);
    struct jinja_dict *keywords = given->keywords;
    struct jinja_value value;
    int line = run->line;
    if (!scope)
        return false;

    for (size_t i = 0; i < signature->count; i++) {
        bool found = i < given->count;
        if (found)
            value = given->values[i];
        else if (!take_keyword(run, &keywords, run->program->names[signature->names[i]], &value, &found))
            return false;
        if (found ? !jinja_scope_set(run, scope, signature->names[i], &value)
                  : !set_missing(run, signature, i, scope))
            return false;
    }
    if (!set_special(run, macro, given, keywords, scope) ||
        !jinja_capture(run, &macro->branches[0], scope, ret))
        return false;

    run->line = line;
    return true;
}

static bool call_loop(struct jinja_run *run, const struct jinja_loop *loop, const struct jinja_given *given,
                      struct jinja_value *ret) {
    struct jinja_builder output = {.run = run}, *before = run->output;
    if (!loop->node->flag)
        return jinja_fail(run, "The loop must have the 'recursive' marker to be called recursively.");
    if (given->count != 1)
        return jinja_fail(run, "loop() takes one argument");

    run->output = &output;
    bool done = jinja_execute_loop(run, loop->node, loop->scope, &given->values[0], loop->depth + 1);
    run->output = before;
    const struct jinja_text *text = done ? jinja_build_end(&output) : NULL;
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}

bool jinja_call_value(struct jinja_run *run, const struct jinja_value *callee,
                      const struct jinja_given *given, struct jinja_value *ret) {
    const struct jinja_text *empty;

    switch (callee->type) {
    case JINJA_UNDEFINED:
        return jinja_fail_undefined(run, callee);
    case JINJA_FUNCTION:
        return jinja_call_builtin(run, callee->callable->builtin, &callee->callable->self, given, ret);
    case JINJA_MACRO:
        return call_macro(run, callee->callable, given, ret);
    case JINJA_LOOP:
        return call_loop(run, callee->loop, given, ret);
    case JINJA_JOINER:
        if (!(empty = jinja_text_literal(run, "")))
            return false;
        *ret = callee->list->position++ ? callee->list->items[0] : jinja_string(empty);
        return true;
    default:
        return jinja_fail(run, "'%s' object is not callable", jinja_type_name(callee));
    }
}

bool jinja_argument_int(struct jinja_run *run, const struct jinja_bound *bound, int index, int64_t otherwise,
                        int64_t *ret) {
    const struct jinja_value *value = &bound->values[index];
    if (!bound->given[index] || value->type == JINJA_NONE) {
        *ret = otherwise;
        return true;
    }
    if (value->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (!jinja_is_whole(value))
        return jinja_fail(run, "'%s' object cannot be interpreted as an integer", jinja_type_name(value));

    *ret = jinja_whole(value);
    return true;
}

bool jinja_argument_text(struct jinja_run *run, const struct jinja_bound *bound, int index,
                         const char *otherwise, const struct jinja_text **ret) {
    const struct jinja_value *value = &bound->values[index];
    if (!bound->given[index] || value->type == JINJA_NONE) {
        *ret = otherwise ? jinja_text_literal(run, otherwise) : NULL;
        return *ret || !otherwise;
    }
    if (value->type != JINJA_TEXT)
        return jinja_fail(run, "a string is needed here, not '%s'", jinja_type_name(value));

    *ret = value->text;
    return true;
}
