#include "chat/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "chat/builtins.h"

static bool fail_with(struct jinja_run *run, enum error_code code, const char *format, va_list arguments) {
    char message[sizeof run->error->message - 32];
    int length = vsnprintf(message, sizeof message, format, arguments);

    /* One line, whatever the conversation has; and no character is cut in two. */
    size_t kept = length < 0 ? 0 : (size_t)length < sizeof message ? (size_t)length : sizeof message - 1;
    while (kept && kept == sizeof message - 1 && ((unsigned char)message[kept - 1] & 0x80)) {
        bool lead = ((unsigned char)message[kept - 1] & 0xc0) == 0xc0;
        message[--kept] = 0;
        if (lead)
            break;
    }
    for (size_t i = 0; i < kept; i++)
        if ((unsigned char)message[i] < 0x20 || message[i] == 0x7f)
            message[i] = ' ';
    return error_set(run->error, code, "line %d: %s", run->line, message);
}

bool jinja_fail(struct jinja_run *run, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_with(run, ERROR_INVALID, format, arguments);
    va_end(arguments);
    return false;
}

bool jinja_fail_large(struct jinja_run *run, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_with(run, ERROR_TOO_LARGE, format, arguments);
    va_end(arguments);
    return false;
}

bool jinja_step(struct jinja_run *run, size_t work) {
    if (work > (size_t)(LIMIT_TEMPLATE_STEPS - run->steps))
        return jinja_fail_large(run, "the template took more than %d steps", LIMIT_TEMPLATE_STEPS);

    run->steps += (int64_t)work;
    return true;
}

bool jinja_enter(struct jinja_run *run) {
    if (run->depth >= LIMIT_TEMPLATE_DEPTH)
        return jinja_fail_large(run, "macros, loops or values are nested too deeply");

    run->depth++;
    return true;
}

void jinja_leave(struct jinja_run *run) {
    run->depth--;
}

void *jinja_allocate(struct jinja_run *run, size_t count, size_t size) {
    size_t bytes;
    if (!size_multiply(count, size, &bytes) || bytes > LIMIT_TEMPLATE_MEMORY_BYTES - run->memory) {
        jinja_fail_large(run, "the template took more than %d MB of memory",
                         LIMIT_TEMPLATE_MEMORY_BYTES >> 20);
        return NULL;
    }

    void *memory = arena_allocate(run->arena, bytes);
    if (memory)
        run->memory += bytes;
    else
        error_set(run->error, ERROR_MEMORY, "out of memory");
    return memory;
}

struct jinja_scope *jinja_scope_create(struct jinja_run *run, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_allocate(run, 1, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

/* A variable that the template did not set: the conversation's, or a function. */
static bool find_outside(struct jinja_run *run, int name, struct jinja_variable *variable) {
    const struct jinja_text *text = run->program->names[name];
    bool from_input = false;
    const json_t *json = run->trusted ? json_object_getn(run->trusted, text->bytes, text->length) : NULL;
    if (!json && run->conversation) {
        from_input = true;
        json = json_object_getn(run->conversation, text->bytes, text->length);
    }

    if (json && !jinja_from_json(run, json, from_input, &variable->value))
        return false;
    if (!json) {
        const struct jinja_builtin *builtin = jinja_find_global(text);
        struct jinja_callable *callable = builtin ? jinja_allocate(run, 1, sizeof *callable) : NULL;
        struct jinja_missing *missing = builtin ? NULL : jinja_allocate(run, 1, sizeof *missing);
        if (!callable && !missing)
            return false;
        if (callable)
            callable->builtin = builtin;
        else
            missing->name = text;
        variable->value = callable ? (struct jinja_value){.type = JINJA_FUNCTION, .callable = callable}
                                   : (struct jinja_value){.type = JINJA_UNDEFINED, .missing = missing};
    }
    variable->known = true;
    return true;
}

bool jinja_scope_get(struct jinja_run *run, struct jinja_scope *scope, int name, struct jinja_value *ret) {
    for (; scope; scope = scope->parent) {
        if (!jinja_step(run, 1 + scope->count / 8))
            return false;
        for (size_t i = 0; i < scope->count; i++)
            if (scope->bindings[i].name == name) {
                *ret = scope->bindings[i].value;
                return true;
            }
    }

    struct jinja_variable *variable = &run->variables[name];
    if (!variable->known && !find_outside(run, name, variable))
        return false;
    *ret = variable->value;
    return true;
}

bool jinja_scope_set(struct jinja_run *run, struct jinja_scope *scope, int name,
                     const struct jinja_value *value) {
    if (!scope) {
        run->variables[name] = (struct jinja_variable){true, *value};
        return true;
    }
    if (!jinja_step(run, 1 + scope->count / 8))
        return false;

    for (size_t i = 0; i < scope->count; i++)
        if (scope->bindings[i].name == name) {
            scope->bindings[i].value = *value;
            return true;
        }
    if (scope->count == scope->capacity) {
        size_t capacity = scope->capacity ? 2 * scope->capacity : 4;
        struct jinja_binding *bindings = jinja_allocate(run, capacity, sizeof *bindings);
        if (!bindings)
            return false;
        if (scope->count)
            memcpy(bindings, scope->bindings, scope->count * sizeof *bindings);
        scope->bindings = bindings;
        scope->capacity = capacity;
    }
    scope->bindings[scope->count++] = (struct jinja_binding){name, *value};
    return true;
}

static bool list_from_json(struct jinja_run *run, const json_t *json, bool from_input,
                           struct jinja_value *ret) {
    size_t count = json_array_size(json);
    struct jinja_list *list = jinja_list_create(run, count);
    struct jinja_value item;
    if (!list)
        return false;

    for (size_t i = 0; i < count; i++)
        if (!jinja_from_json(run, json_array_get(json, i), from_input, &item) ||
            !jinja_list_append(run, list, item))
            return false;
    *ret = jinja_sequence(JINJA_LIST, list);
    return true;
}

static bool dict_from_json(struct jinja_run *run, const json_t *json, bool from_input,
                           struct jinja_value *ret) {
    struct jinja_dict *dict = jinja_dict_create(run, json_object_size(json));
    struct jinja_value key, value;
    if (!dict)
        return false;

    for (void *at = json_object_iter((json_t *)json); at; at = json_object_iter_next((json_t *)json, at)) {
        const struct jinja_text *text =
            jinja_text_view(run, json_object_iter_key(at), json_object_iter_key_len(at), from_input);
        if (!text || !jinja_from_json(run, json_object_iter_value(at), from_input, &value))
            return false;
        key = jinja_string(text);
        if (!jinja_dict_set(run, dict, &key, &value))
            return false;
    }
    *ret = (struct jinja_value){.type = JINJA_DICT, .dict = dict};
    return true;
}

bool jinja_from_json(struct jinja_run *run, const json_t *json, bool from_input, struct jinja_value *ret) {
    const struct jinja_text *text;
    bool done;
    if (!jinja_step(run, 1) || !jinja_enter(run))
        return false;

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        done = dict_from_json(run, json, from_input, ret);
        break;
    case JSON_ARRAY:
        done = list_from_json(run, json, from_input, ret);
        break;
    case JSON_STRING:
        text = jinja_text_view(run, json_string_value(json), json_string_length(json), from_input);
        done = text != NULL;
        if (done)
            *ret = jinja_string(text);
        break;
    case JSON_INTEGER:
        *ret = jinja_int(json_integer_value(json));
        ret->from_input = from_input;
        done = true;
        break;
    case JSON_REAL:
        *ret = jinja_float(json_real_value(json));
        ret->from_input = from_input;
        done = true;
        break;
    case JSON_NULL:
        *ret = jinja_none();
        done = true;
        break;
    default:
        *ret = jinja_bool(json_is_true(json));
        ret->from_input = from_input;
        done = true;
    }

    jinja_leave(run);
    return done;
}
