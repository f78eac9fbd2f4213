/* Functions, filters, tests and methods that templates call: tables by name. A filter's and a method's `self`
 * is what stands before it. Immutable: any thread. */
#pragma once
#include "chat/run.h"

#define JINJA_PARAMETERS 6

/* What a call passed. */
struct jinja_given {
    struct jinja_value *values;
    size_t count;
    struct jinja_dict *keywords; /* NULL where there are none */
};

struct jinja_bound {
    struct jinja_value self;
    struct jinja_value values[JINJA_PARAMETERS]; /* by parameter; undefined where not given */
    bool given[JINJA_PARAMETERS];
    const struct jinja_given *all;
};

struct jinja_builtin {
    const char *name;
    const char *parameters; /* names, parted by blanks; "*": anything, which `all` has */
    int required;           /* of them */
    bool (*function)(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret);
};

/* NULL where there is none. */
const struct jinja_builtin *jinja_find_filter(const struct jinja_text *name);
const struct jinja_builtin *jinja_find_test(const struct jinja_text *name);
const struct jinja_builtin *jinja_find_global(const struct jinja_text *name);
const struct jinja_builtin *jinja_find_method(const struct jinja_value *value, const struct jinja_text *name);
/* Of a table that ends with a zeroed row. */
const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table,
                                               const struct jinja_text *name);

extern const struct jinja_builtin jinja_text_filters[], jinja_list_filters[], jinja_pick_filters[],
    jinja_tests[];
extern const struct jinja_builtin jinja_text_methods[], jinja_text_checks[], jinja_globals[];

/* Call with arguments that are evaluated already (call.c). */
bool jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *builtin,
                        const struct jinja_value *self, const struct jinja_given *given,
                        struct jinja_value *ret);
bool jinja_call_value(struct jinja_run *run, const struct jinja_value *callee,
                      const struct jinja_given *given, struct jinja_value *ret);
/* Evaluate the arguments of a call. */
bool jinja_evaluate_arguments(struct jinja_run *run, const struct jinja_actual *actual,
                              struct jinja_scope *scope, struct jinja_given *ret);

/* An argument as a whole number, or `otherwise` where it was not given or is none. Fails for other types. */
bool jinja_argument_int(struct jinja_run *run, const struct jinja_bound *bound, int index, int64_t otherwise,
                        int64_t *ret);
/* An argument as a string; `otherwise` where it was not given or is none; fails for other types. */
bool jinja_argument_text(struct jinja_run *run, const struct jinja_bound *bound, int index,
                         const char *otherwise, const struct jinja_text **ret);
static inline bool jinja_argument_truth(const struct jinja_bound *bound, int index) {
    return bound->given[index] && jinja_truth(&bound->values[index]);
}

/* `string % values` and `string.format(…)` (format.c). */
bool jinja_format_percent(struct jinja_run *run, const struct jinja_text *format,
                          const struct jinja_value *values, struct jinja_value *ret);
bool jinja_format_braces(struct jinja_run *run, const struct jinja_text *format,
                         const struct jinja_given *given, struct jinja_value *ret);

/* Sorts in place, stably; `keys` [count] go along. */
bool jinja_sort(struct jinja_run *run, struct jinja_value *keys, struct jinja_value *items, size_t count,
                bool reverse);

/* A string in lower case; other values as they are. */
bool jinja_fold(struct jinja_run *run, struct jinja_value *value);
/* What to compare each item by: itself or an attribute ("a.b"; NULL or none: itself), `otherwise` where that
 * is undefined and `otherwise` not NULL, in lower case if `fold`. `several`: attributes may be parted by
 * commas. */
bool jinja_keys_of(struct jinja_run *run, const struct jinja_list *items, const struct jinja_value *attribute,
                   const struct jinja_value *otherwise, bool fold, bool several, struct jinja_list **ret);

/* Methods that filters share. */
bool jinja_strip(struct jinja_run *run, const struct jinja_text *text, const struct jinja_text *characters,
                 bool left, bool right, const struct jinja_text **ret);
bool jinja_replace(struct jinja_run *run, const struct jinja_text *text, const struct jinja_text *old,
                   const struct jinja_text *fresh, int64_t most, const struct jinja_text **ret);
bool jinja_split_lines(struct jinja_run *run, const struct jinja_text *text, bool keep_ends,
                       struct jinja_list **ret);
/* str.join */
bool jinja_join(struct jinja_run *run, const struct jinja_text *separator, const struct jinja_list *items,
                bool convert, const struct jinja_text **ret);
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_SWAP };
bool jinja_change_case(struct jinja_run *run, const struct jinja_text *text, enum jinja_case to,
                       const struct jinja_text **ret);
