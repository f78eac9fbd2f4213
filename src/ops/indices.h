/* Indices into tensors, checked: for gather.c and scatter.c. */
#pragma once
#include "ops/family.h"

/* All values as int64, malloc'ed. False where memory is out. */
bool indices_read(const struct tensor *indices, int64_t **ret);
/* Negative counts from the end; an error where it is out of range. */
bool index_resolve(const struct node *node, int64_t *index, int64_t dim, struct error *error);

/* Indices of GatherElements and ScatterElements are no larger than the data but along the axis. */
bool indices_fit_elements(const struct node *node, const struct shape *data, const struct shape *indices,
                          int axis, struct error *error);
/* Where in the data the index at place `number` of `indices` points. */
bool element_place(const struct node *node, const struct shape *data, const struct shape *indices, int axis,
                   int64_t number, int64_t index, int64_t *ret, struct error *error);
/* Which slice a tuple of `length` indices names, counted within dimensions first … first + length - 1 of the
 * data. */
bool tuple_place(const struct node *node, const struct shape *data, int first, const int64_t *tuple,
                 int64_t length, int64_t *ret, struct error *error);
