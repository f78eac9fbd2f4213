/* Tensors in files, for run: read, written, compared. One thread. */
#pragma once
#include "base/error.h"
#include "tensor/tensor.h"

/* Read `path` for a value of this type and shape: .npy and .pb (ONNX's TensorProto) say their own, anything
 * else is raw little-endian elements and needs a known shape. float32 becomes float16 or bfloat16 where that
 * is wanted; other types must be the same. `ret->data` is malloc'ed, 64-byte aligned. */
bool run_tensor_read(const char *path, enum dtype dtype, const struct shape *shape, struct tensor *ret,
                     struct error *error);

/* The name as that of a file: other characters than letters, digits and "._-" become '_'. `size` bytes. */
void run_file_name(const char *name, char *ret, size_t size);
/* As FOLDER/FILE.npy. */
bool run_tensor_write(const char *folder, const char *file, const struct tensor *tensor, struct error *error);

/* The largest difference, as a part of the expected tensor's largest value; NaN equals NaN. -1: shapes
 * differ.
 */
double run_tensor_difference(const struct tensor *actual, const struct tensor *expected);
