#include "quant/language_target.h"

#include <string.h>
#include <strings.h>

#include "linear/encode.h"
#include "llm/layerwise.h"

static const struct language_target targets[] = {
    {"Q8_0", BLOCK_Q8_0, 7, LANGUAGE_MIX_PURE},      {"Q6_K", BLOCK_Q6_K, 18, LANGUAGE_MIX_PURE},
    {"Q5_K_M", BLOCK_Q5_K, 17, LANGUAGE_MIX_MEDIUM}, {"Q5_K_S", BLOCK_Q5_K, 16, LANGUAGE_MIX_SMALL},
    {"Q5_1", BLOCK_Q5_1, 9, LANGUAGE_MIX_PURE},      {"Q5_0", BLOCK_Q5_0, 8, LANGUAGE_MIX_PURE},
    {"Q4_K_M", BLOCK_Q4_K, 15, LANGUAGE_MIX_MEDIUM}, {"Q4_K_S", BLOCK_Q4_K, 14, LANGUAGE_MIX_SMALL},
    {"Q4_1", BLOCK_Q4_1, 3, LANGUAGE_MIX_PURE},      {"Q4_0", BLOCK_Q4_0, 2, LANGUAGE_MIX_PURE},
    {"Q3_K_L", BLOCK_Q3_K, 13, LANGUAGE_MIX_LARGE},  {"Q3_K_M", BLOCK_Q3_K, 12, LANGUAGE_MIX_MEDIUM},
    {"Q3_K_S", BLOCK_Q3_K, 11, LANGUAGE_MIX_SMALL},  {"Q2_K", BLOCK_Q2_K, 10, LANGUAGE_MIX_MEDIUM},
    {"BF16", BLOCK_BF16, 32, LANGUAGE_MIX_PURE},     {"F16", BLOCK_F16, 1, LANGUAGE_MIX_PURE},
};

enum { TARGETS = sizeof targets / sizeof *targets };

/* Names that mean another's. */
static const char *const others[][2] = {
    {"Q5_K", "Q5_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q3_K", "Q3_K_M"}, {"Q8", "Q8_0"}};

const struct language_target *language_target_find(const char *name) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasecmp(name, others[i][0]) == 0)
            name = others[i][1];
    for (int i = 0; i < TARGETS; i++)
        if (strcasecmp(name, targets[i].name) == 0)
            return &targets[i];
    return NULL;
}

const char *language_target_names(void) {
    return "Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, Q3_K_L, Q3_K_M, Q3_K_S, "
           "Q2_K, BF16 "
           "or F16";
}

/* Of a block's tensor, what follows "blk.N."; of others, the whole name. */
static struct gguf_text part_name(const struct gguf_tensor *tensor) {
    struct gguf_text name = tensor->name;
    if (llm_tensor_layer(tensor) < 0)
        return name;

    size_t at = 4;
    while (at < name.size && name.bytes[at] != '.')
        at++;
    at += at < name.size;
    return (struct gguf_text){name.bytes + at, name.size - at};
}

bool language_is_matrix(const struct gguf_tensor *tensor) {
    struct gguf_text name = part_name(tensor);
    const char ending[] = ".weight";
    size_t size = sizeof ending - 1;
    return tensor->rank == 2 && name.size > size &&
           memcmp(name.bytes + name.size - size, ending, size) == 0 &&
           !gguf_text_is(name, "position_embd.weight") && !gguf_text_is(name, "token_types.weight");
}

/* The layers that mixes give more bits: the first and the last eighth, and every third between. */
static bool is_favoured(int layer, int layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static enum block_type output_type(const struct language_target *target) {
    return target->type == BLOCK_Q8_0 || target->type == BLOCK_F16 || target->type == BLOCK_BF16
               ? target->type
               : BLOCK_Q6_K;
}

static enum block_type down_type(const struct language_target *target, int layer, int layers) {
    bool medium = target->mix == LANGUAGE_MIX_MEDIUM, favoured = is_favoured(layer, layers);
    switch (target->type) {
    case BLOCK_Q5_K:
        return medium && favoured ? BLOCK_Q6_K : BLOCK_Q5_K;
    case BLOCK_Q4_K:
        if (medium)
            return favoured ? BLOCK_Q6_K : BLOCK_Q4_K;
        return layer < layers / 8 ? BLOCK_Q5_K : BLOCK_Q4_K;
    case BLOCK_Q3_K:
        if (target->mix == LANGUAGE_MIX_LARGE)
            return BLOCK_Q5_K;
        if (!medium)
            return BLOCK_Q3_K;
        return layer < layers / 16 ? BLOCK_Q5_K : favoured ? BLOCK_Q4_K : BLOCK_Q3_K;
    case BLOCK_Q2_K:
        return BLOCK_Q3_K;
    default:
        return target->type;
    }
}

static enum block_type value_type(const struct language_target *target, int layer, int layers) {
    bool medium = target->mix == LANGUAGE_MIX_MEDIUM, favoured = is_favoured(layer, layers);
    switch (target->type) {
    case BLOCK_Q5_K:
        return medium && favoured ? BLOCK_Q6_K : BLOCK_Q5_K;
    case BLOCK_Q4_K:
        if (medium)
            return favoured ? BLOCK_Q6_K : BLOCK_Q4_K;
        return layer < 4 ? BLOCK_Q5_K : BLOCK_Q4_K;
    case BLOCK_Q3_K:
        if (target->mix == LANGUAGE_MIX_LARGE)
            return BLOCK_Q5_K;
        return !medium ? BLOCK_Q3_K : layer < 2 ? BLOCK_Q5_K : BLOCK_Q4_K;
    case BLOCK_Q2_K:
        return BLOCK_Q3_K;
    default:
        return target->type;
    }
}

static enum block_type attention_output_type(const struct language_target *target) {
    if (target->type == BLOCK_Q3_K && target->mix != LANGUAGE_MIX_SMALL)
        return target->mix == LANGUAGE_MIX_LARGE ? BLOCK_Q5_K : BLOCK_Q4_K;
    return target->type == BLOCK_Q2_K ? BLOCK_Q3_K : target->type;
}

static enum block_type fused_type(const struct language_target *target) {
    if (target->mix == LANGUAGE_MIX_SMALL)
        return target->type;
    switch (target->type) {
    case BLOCK_Q3_K:
        return BLOCK_Q4_K;
    case BLOCK_Q4_K:
        return BLOCK_Q5_K;
    case BLOCK_Q5_K:
        return BLOCK_Q6_K;
    default:
        return target->type;
    }
}

enum block_type language_fallback(enum block_type type, uint64_t columns, const char **ret_why) {
    static const enum block_type smaller[BLOCK_TYPES] = {[BLOCK_Q2_K] = BLOCK_Q4_0,
                                                         [BLOCK_Q3_K] = BLOCK_Q4_0,
                                                         [BLOCK_Q4_K] = BLOCK_Q5_0,
                                                         [BLOCK_Q5_K] = BLOCK_Q5_1,
                                                         [BLOCK_Q6_K] = BLOCK_Q8_0};

    if (columns % (uint64_t)block_weights(type) == 0)
        return type;
    if (columns % 32 == 0 && smaller[type]) {
        *ret_why = "rows are no multiple of 256";
        return smaller[type];
    }
    *ret_why = "rows are no multiple of 32";
    return BLOCK_F16;
}

enum block_type language_target_type(const struct language_target *target, const struct language_shape *shape,
                                     const struct gguf_tensor *tensor, const char **ret_why) {
    struct gguf_text name = part_name(tensor);
    int layer = llm_tensor_layer(tensor);
    enum block_type type = target->type;
    *ret_why = NULL;

    if (!language_is_matrix(tensor)) {
        *ret_why = "small, and kept as it is";
        return tensor->type;
    }
    if (gguf_text_is(name, "output.weight") || (shape->is_tied && gguf_text_is(name, "token_embd.weight"))) {
        type = output_type(target);
        *ret_why = type == target->type ? NULL : "the output: each word depends on it";
    } else if (gguf_text_is(name, "attn_v.weight")) {
        type = value_type(target, layer, shape->layers);
    } else if (gguf_text_is(name, "ffn_down.weight")) {
        type = down_type(target, layer, shape->layers);
    } else if (gguf_text_is(name, "attn_output.weight")) {
        type = attention_output_type(target);
    } else if (gguf_text_is(name, "attn_qkv.weight")) {
        type = fused_type(target);
    }
    if (type != target->type && !*ret_why)
        *ret_why = "more bits by the mix: it is sensitive";
    return language_fallback(type, tensor->dims[0], ret_why);
}
