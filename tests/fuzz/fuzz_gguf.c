/* GGUF files, and the tokenizers in them: the last bytes of the input are a text. And safetensors. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/safetensors.h"
#include "llm/config.h"
#include "tokenizer/tokenizer.h"

enum { TEXT = 64 };

static void touch_values(const struct gguf *gguf) {
    volatile double sum = 0;

    for (size_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value(gguf, i);
        if (value->type != GGUF_ARRAY)
            continue;

        const uint8_t *at = value->array.bytes;
        for (size_t j = 0; j < value->array.count; j++) {
            if (value->array.type == GGUF_STRING) {
                struct gguf_text text = gguf_next_text(&at);
                sum += (double)(text.size ? text.bytes[text.size - 1] : 0);
            } else {
                sum += gguf_array_real(&value->array, j);
            }
        }
    }
}

static void touch_tensors(const struct gguf *gguf) {
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(gguf, i);
        float numbers[256];
        size_t weights = (size_t)block_weights(tensor->type);

        blocks_dequantize(tensor->type, tensor->bytes, weights, numbers);
        blocks_dequantize(tensor->type, tensor->bytes + tensor->size - block_bytes(tensor->type), weights,
                          numbers);
    }
}

static void encode(const struct gguf *gguf, const uint8_t *text, size_t size) {
    struct error error;
    struct tokenizer *tokenizer = tokenizer_create(gguf, &error);
    struct token_list tokens = {0};
    struct buffer back = {0};

    if (tokenizer &&
        tokenizer_encode(tokenizer, (const char *)text, size, SPECIAL_AS_TOKENS, &tokens, &error))
        for (size_t i = 0; i < tokens.count; i++)
            if (!tokenizer_decode(tokenizer, tokens.ids[i], SPECIAL_AS_TOKENS, &back))
                abort(); /* a token that is none */

    buffer_release(&back);
    token_list_release(&tokens);
    tokenizer_free(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
/* What does not begin as GGUF does: tensors of a safetensors file. */
static void read_safetensors(const uint8_t *bytes, size_t size) {
    struct error error;
    struct safetensors *tensors = safetensors_open_memory("fuzz", bytes, size, &error);
    volatile int sum = 0;
    if (!tensors)
        return;

    for (size_t i = 0; i < safetensors_count(tensors); i++) {
        const struct safetensor *tensor = safetensors_get(tensors, i);
        sum += tensor->bytes[0] + tensor->bytes[tensor->size - 1];
    }
    safetensors_free(tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error;
    struct llm_config config;
    if (size < 4 || memcmp(bytes, "GGUF", 4) != 0)
        read_safetensors(bytes, size);
    struct gguf *gguf = gguf_open_memory("fuzz", bytes, size, &error);
    if (!gguf)
        return 0;

    touch_values(gguf);
    touch_tensors(gguf);
    (void)llm_config_read(gguf, &config, &error);
    size_t text = size < TEXT ? size : TEXT;
    encode(gguf, bytes + size - text, text);
    gguf_free(gguf);
    return 0;
}
