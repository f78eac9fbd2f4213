/* For tests that build graphs: inputs of a node as a list of arguments that ends with NULL. */
#pragma once
#include <stdarg.h>

#include "graph/graph.h"

#define NODE_INPUTS 8

/* The values up to NULL, at most NODE_INPUTS; how many there are. */
static inline int inputs_gather(va_list list, struct value *ret[NODE_INPUTS]) {
    int count = 0;
    for (struct value *input; count < NODE_INPUTS && (input = va_arg(list, struct value *));)
        ret[count++] = input;

    return count;
}
