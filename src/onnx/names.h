/* Values by name: a hash table with a random seed, so that no file can choose names that collide. */
#pragma once
#include "graph/graph.h"

struct names {
    struct value **slots; /* [capacity], a power of two; malloc'ed */
    size_t capacity, count;
    uint64_t seed;
};

/* NULL if the name is unknown. */
struct value *names_find(const struct names *names, const char *name);
/* The value's name must not be in the table. False when memory is out. */
bool names_add(struct names *names, struct value *value);
void names_release(struct names *names);
