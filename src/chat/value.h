/* What a template computes with: Python's values as far as templates meet them. Everything but namespaces,
 * loops, iterators, cyclers and joiners is immutable once made. All memory is the run's (run.h). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_run;
struct jinja_builtin;
struct jinja_node;
struct jinja_scope;

enum jinja_type {
    JINJA_UNDEFINED, /* .missing says what; printed as nothing, most other uses fail */
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_TEXT,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_RANGE,    /* start, stop and step stand behind the items, uncounted */
    JINJA_KEYS,     /* of a dict: .list; so are the next two */
    JINJA_VALUES,   /* … */
    JINJA_ITEMS,    /* … tuples of two */
    JINJA_ITERATOR, /* what can be read once; .list, whose `position` moves */
    JINJA_DICT,
    JINJA_NAMESPACE, /* .dict, the only mutable one */
    JINJA_FUNCTION,  /* .callable: a builtin, with `self` where it is a method */
    JINJA_MACRO,     /* .callable */
    JINJA_LOOP,      /* .loop */
    JINJA_CYCLER,    /* .list, whose `position` moves */
    JINJA_JOINER,    /* .list of the separator, whose `position` says whether it was used */
};

/* Bytes in UTF-8, where each came from, and room for more behind them. */
struct jinja_store {
    char *bytes;
    uint8_t
        *marks; /* one a byte: 1 from the conversation, 0 from the template; NULL: all are as `from_input` */
    size_t used, capacity;
    bool from_input;
};

/* A string: a part of a store. */
struct jinja_text {
    struct jinja_store *store;
    const char *bytes;
    size_t length;     /* bytes */
    size_t characters; /* code points */
    bool markup;       /* came from `safe` or `escape`: what is joined to it with + is escaped */
};

/* Why a value is undefined: it is looked up, and worded only if somebody asks. */
struct jinja_missing {
    const char *owner;             /* type of the value that lacks it; NULL for a variable */
    const struct jinja_text *name; /* NULL where it is `index` */
    int64_t index;
    const char *because; /* the whole message; NULL: made of the others */
};

struct jinja_value {
    uint8_t type;    /* enum jinja_type */
    bool from_input; /* of numbers and booleans: printed, their characters are the conversation's */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_text *text;
        struct jinja_list *list;
        struct jinja_dict *dict;
        const struct jinja_callable *callable;
        struct jinja_loop *loop;
        const struct jinja_missing *missing; /* NULL: no more is known */
    };
};

struct jinja_list {
    struct jinja_value *items;
    size_t count, capacity;
    size_t position;
};

struct jinja_entry {
    struct jinja_value key, value;
    uint64_t hash;
};

/* In the order of insertion. */
struct jinja_dict {
    struct jinja_entry *entries;
    size_t count, capacity;
    uint32_t *slots; /* entry + 1 by hash, [slot_count], a power of two; NULL while there are few entries */
    size_t slot_count;
};

/* A function, method or macro that a variable can hold. */
struct jinja_callable {
    const struct jinja_builtin *builtin;
    struct jinja_value self; /* of a method */
    const struct jinja_node *macro;
    struct jinja_scope *scope; /* where the macro was defined */
};

/* The variable `loop`. */
struct jinja_loop {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* around the loop */
    const struct jinja_list *items;
    size_t index;
    int depth;
    struct jinja_list *last_changed;
};

static inline struct jinja_value jinja_none(void) {
    return (struct jinja_value){.type = JINJA_NONE};
}

static inline struct jinja_value jinja_bool(bool boolean) {
    return (struct jinja_value){.type = JINJA_BOOL, .boolean = boolean};
}

static inline struct jinja_value jinja_int(int64_t integer) {
    return (struct jinja_value){.type = JINJA_INT, .integer = integer};
}

static inline struct jinja_value jinja_float(double real) {
    return (struct jinja_value){.type = JINJA_FLOAT, .real = real};
}

static inline struct jinja_value jinja_string(const struct jinja_text *text) {
    return (struct jinja_value){.type = JINJA_TEXT, .text = text};
}

static inline struct jinja_value jinja_sequence(enum jinja_type type, struct jinja_list *list) {
    return (struct jinja_value){.type = (uint8_t)type, .list = list};
}

/* Lists, tuples and what else holds .list and can be read again. */
static inline bool jinja_is_sequence(const struct jinja_value *value) {
    return value->type >= JINJA_LIST && value->type <= JINJA_ITEMS;
}

/* Booleans count as numbers, as in Python. */
static inline bool jinja_is_whole(const struct jinja_value *value) {
    return value->type == JINJA_INT || value->type == JINJA_BOOL;
}

static inline bool jinja_is_number(const struct jinja_value *value) {
    return jinja_is_whole(value) || value->type == JINJA_FLOAT;
}

static inline int64_t jinja_whole(const struct jinja_value *value) {
    return value->type == JINJA_BOOL ? value->boolean : value->integer;
}

static inline double jinja_real(const struct jinja_value *value) {
    return value->type == JINJA_FLOAT ? value->real : (double)jinja_whole(value);
}

/* Python's name of the type: "str". */
const char *jinja_type_name(const struct jinja_value *value);
/* bool(value) */
bool jinja_truth(const struct jinja_value *value);

/* All below return false with the run's error set: out of memory, steps or depth, or no such operation. */

/* a == b, as Python has it: 1 == 1.0 == True. */
bool jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b, bool *ret);
/* < 0, 0, > 0; fails for types that have no order. `sign` is the operator's, for the message. */
bool jinja_compare(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                   const char *sign, int *ret);
/* `item in container` */
bool jinja_contains(struct jinja_run *run, const struct jinja_value *container,
                    const struct jinja_value *item, bool *ret);
/* Fails for what has no length. */
bool jinja_length(struct jinja_run *run, const struct jinja_value *value, size_t *ret);
/* The items of anything that can be iterated over; an iterator is used up. The result must not be changed. */
bool jinja_iterate(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **ret);
bool jinja_is_iterable(const struct jinja_value *value);

/* Room for `capacity` items, none of which counts yet. */
struct jinja_list *jinja_list_create(struct jinja_run *run, size_t capacity);
bool jinja_list_append(struct jinja_run *run, struct jinja_list *list, struct jinja_value value);
/* A tuple of two. */
bool jinja_pair(struct jinja_run *run, struct jinja_value first, struct jinja_value second,
                struct jinja_value *ret);

struct jinja_dict *jinja_dict_create(struct jinja_run *run, size_t capacity);
/* Replaces what has an equal key. Fails for keys that Python cannot hash. */
bool jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, const struct jinja_value *key,
                    const struct jinja_value *value);
/* *ret points to the value, or is NULL. */
bool jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                    const struct jinja_value **ret);
/* The entry of a string key; NULL where there is none. */
const struct jinja_value *jinja_dict_find(const struct jinja_dict *dict, const char *key, size_t length);
/* Keys, values or items (a type of these names) as a list of their own. */
bool jinja_dict_list(struct jinja_run *run, const struct jinja_dict *dict, enum jinja_type which,
                     struct jinja_list **ret);
