/* numpy's files of one array (NPY format 1 to 3): read from memory within bounds, and written. Any thread. */
#pragma once
#include "base/buffer.h"
#include "tensor/tensor.h"

/* Find the array in the file's bytes. `ret->data` points into them, and may not be aligned. ERROR_INVALID
 * says what is wrong, or not supported: big-endian numbers, Fortran order, objects, text. */
bool npy_read(const uint8_t *bytes, size_t size, struct tensor *ret, struct error *error);
/* Append an array: header and elements. numpy has no bfloat16: written as float32, which holds it exactly.
 * False when memory is out. */
bool npy_append(struct buffer *buffer, const struct tensor *tensor);
