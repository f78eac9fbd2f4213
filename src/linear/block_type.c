#include "linear/block_type.h"

#include "base/checked.h"

/* Names of all numbers that GGUF has given out, so that a refusal can say which it is. */
static const struct {
    const char *name;
    int weights; /* of a block; 0: cannot be read */
    size_t bytes;
} types[] = {
    [BLOCK_F32] = {"F32", 1, 4},
    [BLOCK_F16] = {"F16", 1, 2},
    [BLOCK_Q4_0] = {"Q4_0", 32, 18},
    [BLOCK_Q4_1] = {"Q4_1", 32, 20},
    [BLOCK_Q5_0] = {"Q5_0", 32, 22},
    [BLOCK_Q5_1] = {"Q5_1", 32, 24},
    [BLOCK_Q8_0] = {"Q8_0", 32, 34},
    [9] = {"Q8_1"},
    [BLOCK_Q2_K] = {"Q2_K", 256, 84},
    [BLOCK_Q3_K] = {"Q3_K", 256, 110},
    [BLOCK_Q4_K] = {"Q4_K", 256, 144},
    [BLOCK_Q5_K] = {"Q5_K", 256, 176},
    [BLOCK_Q6_K] = {"Q6_K", 256, 210},
    [15] = {"Q8_K"},
    [16] = {"IQ2_XXS"},
    [17] = {"IQ2_XS"},
    [18] = {"IQ3_XXS"},
    [19] = {"IQ1_S"},
    [BLOCK_IQ4_NL] = {"IQ4_NL", 32, 18},
    [21] = {"IQ3_S"},
    [22] = {"IQ2_S"},
    [BLOCK_IQ4_XS] = {"IQ4_XS", 256, 136},
    [24] = {"I8"},
    [25] = {"I16"},
    [26] = {"I32"},
    [27] = {"I64"},
    [28] = {"F64"},
    [29] = {"IQ1_M"},
    [BLOCK_BF16] = {"BF16", 1, 2},
    [34] = {"TQ1_0"},
    [35] = {"TQ2_0"},
    [39] = {"MXFP4"},
};

enum { COUNT = sizeof types / sizeof types[0] };

const char *block_type_name(uint32_t type) {
    return type < COUNT ? types[type].name : NULL;
}

bool block_type_is_known(uint32_t type) {
    return type < COUNT && types[type].weights;
}

int block_weights(enum block_type type) {
    return types[type].weights;
}

size_t block_bytes(enum block_type type) {
    return types[type].bytes;
}

bool block_row_bytes(enum block_type type, uint64_t count, size_t *ret) {
    uint64_t weights = (uint64_t)types[type].weights;
    return count % weights == 0 && size_multiply(count / weights, types[type].bytes, ret);
}
