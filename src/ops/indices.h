/* Indices into tensors, checked: for gather.c and scatter.c. */
#pragma once
#include "ops/family.h"

/* All values as int64, malloc'ed. False where memory is out. */
bool indices_read(const struct tensor *indices, int64_t **ret);
/* Negative counts from the end; an error where it is out of range. */
bool index_resolve(const struct node *node, int64_t *index, int64_t dim, struct error *error);

/* Whether the indices of GatherElements or ScatterElements are no larger than the data, except along the
 * axis. */
bool indices_fit_elements(const struct node *node, const struct shape *data, const struct shape *indices,
                          int axis, struct error *error);
/* The offset in the data that element `number` of `indices` points at. */
bool element_offset(const struct node *node, const struct shape *data, const struct shape *indices, int axis,
                    int64_t number, int64_t index, int64_t *ret, struct error *error);
/* The number of the slice that a tuple of `length` indices names, within dimensions first … first + length -
 * 1 of the data. */
bool tuple_offset(const struct node *node, const struct shape *data, int first, const int64_t *tuple,
                  int64_t length, int64_t *ret, struct error *error);
