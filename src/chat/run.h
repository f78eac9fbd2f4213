/* One rendering of a template: its memory, limits, variables and error. One thread. */
#pragma once
#include <jansson.h>
#include <time.h>

#include "base/arena.h"
#include "base/error.h"
#include "chat/text.h"
#include "chat/tree.h"
#include "chat/value.h"

/* Variables of a loop, macro or block; names are indices of the template's table. */
struct jinja_binding {
    int name;
    struct jinja_value value;
};

struct jinja_scope {
    struct jinja_scope *parent; /* NULL: the template's own variables, `run->variables` */
    struct jinja_binding *bindings;
    size_t count, capacity;
    bool captured; /* a macro was defined in it, which may outlive it */
};

struct jinja_variable {
    bool known; /* looked up or set */
    struct jinja_value value;
};

enum jinja_signal { JINJA_GO_ON, JINJA_BREAK, JINJA_CONTINUE };

struct jinja_run {
    struct arena *arena;
    size_t memory; /* bytes taken */
    int64_t steps;
    int depth;
    int line; /* of the template: of what is being evaluated */
    struct error *error;
    const struct jinja_program *program;
    struct jinja_variable *variables; /* [program->name_count] */
    const json_t *conversation, *trusted;
    const struct tm *today;
    struct jinja_builder *output; /* where text goes */
    enum jinja_signal signal;     /* a loop is to be left */
};

/* Put the error, with the line before it. Returns false. */
bool jinja_fail(struct jinja_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for what is over a limit. */
bool jinja_fail_large(struct jinja_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__ /* it cannot see in other files that these return false */
#define jinja_fail(...)                  \
    ({                                   \
        (void)(jinja_fail)(__VA_ARGS__); \
        false;                           \
    })
#endif
/* Count `work` steps of work. False over the limit. */
bool jinja_step(struct jinja_run *run, size_t work);
/* For functions that call themselves: false over the limit. Each true is followed by a leave. */
bool jinja_enter(struct jinja_run *run);
void jinja_leave(struct jinja_run *run);
/* Zeroed memory that lives as long as the run; NULL over the limit. */
void *jinja_allocate(struct jinja_run *run, size_t count, size_t size);

/* The variable, from the innermost scope that has it. */
bool jinja_scope_get(struct jinja_run *run, struct jinja_scope *scope, int name, struct jinja_value *ret);
bool jinja_scope_set(struct jinja_run *run, struct jinja_scope *scope, int name,
                     const struct jinja_value *value);
struct jinja_scope *jinja_scope_create(struct jinja_run *run, struct jinja_scope *parent);
/* The scope of a loop's next pass: `scope`, emptied, if only the loop refers to it; else a new one. */
struct jinja_scope *jinja_scope_renew(struct jinja_run *run, struct jinja_scope *scope,
                                      struct jinja_scope *parent);

/* Expressions and statements (evaluate.c, execute.c). */
bool jinja_evaluate(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                    struct jinja_value *ret);
bool jinja_evaluate_filter(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                           const struct jinja_value *input, struct jinja_value *ret);
bool jinja_execute(struct jinja_run *run, const struct jinja_nodes *nodes, struct jinja_scope *scope);
/* As execute, into a string of its own. */
bool jinja_capture(struct jinja_run *run, const struct jinja_nodes *nodes, struct jinja_scope *scope,
                   struct jinja_value *ret);
bool jinja_assign(struct jinja_run *run, const struct jinja_node *target, struct jinja_scope *scope,
                  const struct jinja_value *value);
/* The body of a `for`, for each item; used again by loop(…) of recursive ones. */
bool jinja_execute_loop(struct jinja_run *run, const struct jinja_node *node, struct jinja_scope *scope,
                        const struct jinja_value *iterable, int depth);

/* `a OP b`; the operator is that of tree.h. */
bool jinja_operate(struct jinja_run *run, enum jinja_operator operation, const struct jinja_value *a,
                   const struct jinja_value *b, struct jinja_value *ret);

/* value.name and value[key]; undefined where there is none. */
bool jinja_get_attribute(struct jinja_run *run, const struct jinja_value *value,
                         const struct jinja_text *name, struct jinja_value *ret);
bool jinja_get_item(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value *key,
                    struct jinja_value *ret);
/* value[start:stop:step]; none where not given. */
bool jinja_get_slice(struct jinja_run *run, const struct jinja_value *value,
                     const struct jinja_value bounds[3], struct jinja_value *ret);
struct jinja_value jinja_undefined_because(struct jinja_run *run, const char *message);
/* The error of a use of an undefined value. Returns false. */
bool jinja_fail_undefined(struct jinja_run *run, const struct jinja_value *value);

/* str(value), repr(value) */
bool jinja_to_text(struct jinja_run *run, const struct jinja_value *value, const struct jinja_text **ret);
bool jinja_write_text(struct jinja_builder *builder, const struct jinja_value *value);
bool jinja_write_repr(struct jinja_builder *builder, const struct jinja_value *value);
/* Python's json.dumps. */
struct jinja_json_style {
    const struct jinja_text *indent; /* NULL: one line */
    const struct jinja_text *item_separator, *key_separator;
    bool ascii, sort_keys;
};
bool jinja_write_json(struct jinja_builder *builder, const struct jinja_value *value,
                      const struct jinja_json_style *style);
/* repr() of a float, as a string of at most 32 bytes. */
void jinja_float_text(double real, char ret[32]);

/* JSON as values; everything in it is marked as `from_input`. */
bool jinja_from_json(struct jinja_run *run, const json_t *json, bool from_input, struct jinja_value *ret);
