/* What a language model is to be quantised to: a name such as Q4_K_M, and the type that it gives each tensor.
 * The mixes are those of llama.cpp's files of the same names. Pure functions: any thread. */
#pragma once
#include "gguf/gguf.h"

struct language_target {
    const char *name;     /* "Q4_K_M" */
    enum block_type type; /* of most weights */
    uint32_t file_type;   /* general.file_type */
    enum language_mix {
        LANGUAGE_MIX_PURE,   /* but for the output */
        LANGUAGE_MIX_SMALL,  /* "_S" */
        LANGUAGE_MIX_MEDIUM, /* "_M" */
        LANGUAGE_MIX_LARGE,  /* "_L" */
    } mix;
};

/* By its name in any case; NULL: there is none. */
const struct language_target *language_target_find(const char *name);
/* All names, with commas between them. */
const char *language_target_names(void);

/* The model that a tensor is of. */
struct language_shape {
    int layers;
    bool is_tied; /* the embedding is the output, too */
};
/* The type of a tensor; *ret_why says, in a few words, why it is not the target's own: NULL where it is. */
enum block_type language_target_type(const struct language_target *target, const struct language_shape *shape,
                                     const struct gguf_tensor *tensor, const char **ret_why);
/* … and where rows cannot be cut into that type's blocks. */
enum block_type language_fallback(enum block_type type, uint64_t columns, const char **ret_why);
/* Is it a matrix that can be quantised? Norms, biases and factors stay as they are. */
bool language_is_matrix(const struct gguf_tensor *tensor);
