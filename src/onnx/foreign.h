/* Files that are taken for ONNX and are something else, by their first bytes. Any thread. */
#pragma once
#include "base/file.h"

/* Map an ONNX file. ERROR_MODEL names what it is where it is none: "… is no ONNX file: it is a Git LFS
 * pointer: fetch the network itself with `git lfs pull` …". */
bool onnx_map_open(const char *path, struct file_map *ret, struct error *error);
