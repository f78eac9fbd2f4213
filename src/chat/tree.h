/* A template as a tree, made by parse.h and immutable afterwards. */
#pragma once
#include "base/arena.h"
#include "chat/value.h"

enum jinja_kind {
    /* Expressions: what `a`, `b`, `c`, `items` hold stands behind each. */
    JINJA_CONSTANT,  /* constant */
    JINJA_NAME,      /* name */
    JINJA_BINARY,    /* a operation b */
    JINJA_AND,       /* a b */
    JINJA_OR,        /* a b */
    JINJA_NOT,       /* a */
    JINJA_NEGATE,    /* a */
    JINJA_PLUS,      /* a */
    JINJA_COMPARE,   /* items: the operands; operations: one fewer */
    JINJA_CONCAT,    /* items */
    JINJA_CONDITION, /* a if b else c; c may be NULL */
    JINJA_ATTRIBUTE, /* a.constant */
    JINJA_SUBSCRIPT, /* a[b] */
    JINJA_SLICE,     /* a[items[0]:items[1]:items[2]], each may be NULL */
    JINJA_CALL,      /* a(arguments) */
    JINJA_FILTER,    /* a|builtin(arguments); a is NULL for the text of a block */
    JINJA_TEST,      /* a is builtin(arguments) */
    JINJA_MAKE_LIST, /* items */
    JINJA_MAKE_TUPLE,
    JINJA_MAKE_DICT, /* items: key, value, key, value … */
    JINJA_KEYWORD,   /* within a call only: constant = a */
    JINJA_MEMBER,    /* target only: name.constant of a namespace */
    /* Statements */
    JINJA_DATA,         /* constant */
    JINJA_PRINT,        /* items */
    JINJA_IF,           /* items: condition, …, one for each of branches; the last branch may have none */
    JINJA_FOR,          /* a in b if c; branches: body, else; flag: recursive */
    JINJA_SET,          /* a = b */
    JINJA_SET_BLOCK,    /* a = branches[0], through the filter b or NULL */
    JINJA_FILTER_BLOCK, /* branches[0] through the filter b */
    JINJA_WITH,         /* items: target, value, …; branches[0] */
    JINJA_DEFINE_MACRO, /* name; signature, branches[0] */
    JINJA_CALL_BLOCK,   /* a: the call; b: its caller, a DEFINE_MACRO */
    JINJA_GENERATION,   /* branches[0] */
    JINJA_BREAK_LOOP,
    JINJA_CONTINUE_LOOP,
};

enum jinja_operator {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_POWER,
    JINJA_EQUAL,
    JINJA_UNEQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN,
};

struct jinja_nodes {
    struct jinja_node **items;
    size_t count;
};

/* What a call passes: positions, then keywords, then *list and **dict. */
struct jinja_actual {
    struct jinja_nodes positions;
    struct jinja_nodes keywords;
    struct jinja_node *star, *double_star; /* or NULL */
};

struct jinja_signature {
    int *names;
    struct jinja_node **defaults; /* [count]; NULL where there is none */
    size_t count;
    bool uses_caller, uses_varargs, uses_kwargs; /* the body names them */
    int caller, varargs, kwargs;                 /* their names */
};

struct jinja_node {
    uint8_t kind;      /* enum jinja_kind */
    uint8_t operation; /* enum jinja_operator */
    bool flag;
    int line;
    int height; /* of the tree below, itself included */
    int name;
    struct jinja_value constant;
    struct jinja_node *a, *b, *c;
    struct jinja_nodes items;
    const uint8_t *operations;
    struct jinja_nodes *branches;
    size_t branch_count;
    struct jinja_actual *arguments;
    struct jinja_signature *signature;
    const struct jinja_builtin *builtin; /* NULL for one that does not exist: an error when it is reached */
};

/* A whole template. */
struct jinja_program {
    struct arena *arena;
    struct jinja_nodes body;
    const struct jinja_text **names; /* [name_count]: every variable that it names */
    int name_count;
};
