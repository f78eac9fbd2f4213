/* The GGUF files of a folder or a repository: which of them are parts of one, what each is called, and which
 * one is meant where none is named. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/name.h"

/* What follows the last '-' or '.' of the name where that is a type of weights, in capitals
 * (model-q4_k_m.gguf: "Q4_K_M"; fp16 is F16); else the name without its ending. "": that cannot be the name
 * of a variant. */
struct language_file {
    char variant[MODEL_NAME_PART + 1];
    char *path;      /* of the file, or of the first of its parts */
    uint64_t bytes;  /* of all parts that were found */
    int parts;       /* files it was split into; 1: it was not */
    int parts_found; /* … that are there */
    int bits;        /* of a weight, by its variant's name; 0: not known */
};

/* A zeroed struct is an empty list. */
struct language_files {
    struct language_file *files; /* [count] */
    size_t count;
};

/* Add a file. What is no model is ignored: other endings, and projectors for images (mmproj-….gguf). False
 * when memory is out. */
bool language_files_add(struct language_files *list, const char *path, uint64_t bytes);
/* After the last one was added: sort by variant; variants that several files share are called by the whole
 * names. */
void language_files_settle(struct language_files *list);
void language_files_release(struct language_files *list);

/* The file of a variant, which may be written in any case, or as the whole name. NULL: there is none. */
const struct language_file *language_files_find(const struct language_files *list, const char *variant);
/* The one that is meant where none is named: the only one; Q4_K_M; else the smallest that has 4 bits a weight
 * or more; else the largest. NULL: the list is empty. */
const struct language_file *language_files_default(const struct language_files *list);
/* "Q4_0, Q8_0" for messages, cut where it does not fit. */
void language_files_name(const struct language_files *list, char *ret, size_t size);

/* Does the name end in .gguf, in any case? */
bool language_file_is_named(const char *path);
/* What follows the last '/', without .gguf and the numbers of parts: [*ret_size] bytes at the result. */
const char *language_file_stem(const char *path, size_t *ret_size);
