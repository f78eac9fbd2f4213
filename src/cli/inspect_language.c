#include "cli/inspect_language.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/language.h"

/* Tensors of one type of weights. */
struct type_count {
    uint64_t tensors, bytes;
};

struct findings {
    const struct model_files *files;
    const struct gguf *gguf;
    struct gguf_text architecture, name, tokenizer, words, licence;
    bool has_template;
    uint64_t parameters, bytes, tokens;
    int64_t context; /* 0: the file does not say */
    struct type_count types[BLOCK_TYPES];
    const struct llm_config *config; /* NULL: it cannot be run … */
    struct error problem;            /* … and why */
};

/* A text that is not there, or is none, stays empty. */
static void find_text(const struct gguf *gguf, const char *key, struct gguf_text *ret) {
    struct error ignored;
    *ret = (struct gguf_text){"", 0};
    gguf_text(gguf, key, ret, &ignored);
}

static void find_context(struct findings *findings) {
    struct error ignored;
    char key[128];
    snprintf(key, sizeof key, "%.*s.context_length", (int)findings->architecture.size,
             findings->architecture.bytes);
    gguf_integer(findings->gguf, key, 0, INT64_MAX, &findings->context, &ignored);
}

static void count_tensors(struct findings *findings) {
    for (size_t i = 0; i < gguf_tensor_count(findings->gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(findings->gguf, i);
        struct type_count *type = &findings->types[tensor->type];
        type->tensors++;
        type->bytes += tensor->size;
        findings->bytes += tensor->size;
        findings->parameters +=
            tensor->size / block_bytes(tensor->type) * (uint64_t)block_weights(tensor->type);
    }
}

static void find_all(struct findings *findings, const struct llm_model *model) {
    const struct gguf *gguf = findings->gguf;
    struct gguf_array tokens = {0};
    struct gguf_text chat;
    struct error ignored;

    find_text(gguf, "general.architecture", &findings->architecture);
    find_text(gguf, "general.name", &findings->name);
    find_text(gguf, "general.license", &findings->licence);
    find_text(gguf, "tokenizer.ggml.model", &findings->tokenizer);
    find_text(gguf, "tokenizer.ggml.pre", &findings->words);
    find_text(gguf, "tokenizer.chat_template", &chat);
    if (findings->architecture.size > 64)
        findings->architecture.size = 64;
    findings->has_template = chat.size > 0;
    if (gguf_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, &ignored))
        findings->tokens = tokens.count;
    find_context(findings);
    count_tensors(findings);
    findings->config = model ? llm_model_config(model) : NULL;
}

/* Bytes of the keys and values of 1,000 tokens, kept in so many bits each. */
static double cache_bytes(const struct llm_config *config, double bits) {
    return 1000.0 * config->layers * config->kv_heads * (config->key_size + config->value_size) * bits / 8;
}

enum { Q8_0_BITS_PER_32 = 34 * 8 };

/* ---- A table ---- */

#define SHOWN(text) (int)((text).size < 100 ? (text).size : 100), (text).bytes

static void print_amount(double amount) {
    if (amount >= 1e9)
        printf("%.2f billion", amount / 1e9);
    else if (amount >= 1e6)
        printf("%.2f million", amount / 1e6);
    else
        printf("%.0f", amount);
}

static void print_types(const struct findings *findings) {
    const char *head = "types";
    for (int type = 0; type < BLOCK_TYPES; type++) {
        const struct type_count *count = &findings->types[type];
        if (!count->tensors)
            continue;
        printf("  %-11s %-7s %5llu tensor%s %10.1f MB\n", head, block_type_name((uint32_t)type),
               (unsigned long long)count->tensors, count->tensors == 1 ? " " : "s",
               (double)count->bytes / 1e6);
        head = "";
    }
}

static void print_shape(const struct llm_config *config) {
    printf("  %-11s %d of width %lld, MLP %lld; %d heads, %d of keys and values, of %d\n", "layers",
           config->layers, (long long)config->width, (long long)config->inner, config->heads,
           config->kv_heads, config->key_size);
}

static void print_table(const struct findings *findings) {
    const struct llm_config *config = findings->config;
    printf("%s (%s)\n", findings->files->name, findings->files->network);
    printf("  %-11s language model, %.*s%s%.*s\n", "kind", SHOWN(findings->architecture),
           findings->name.size ? ": " : "", SHOWN(findings->name));
    printf("  %-11s ", "parameters");
    print_amount((double)findings->parameters);
    putchar('\n');
    print_types(findings);
    if (config)
        print_shape(config);
    printf("  %-11s %lld tokens\n", "context", (long long)findings->context);
    printf("  %-11s %llu tokens, %.*s%s%.*s\n", "vocabulary", (unsigned long long)findings->tokens,
           SHOWN(findings->tokenizer), findings->words.size ? ", words as " : "", SHOWN(findings->words));
    printf("  %-11s %s\n", "template",
           findings->has_template ? "yes: it chats" : "none: it goes on with texts");
    if (findings->licence.size)
        printf("  %-11s %.*s\n", "licence", SHOWN(findings->licence));
    printf("  %-11s %.1f MB of weights, mapped", "memory", (double)findings->bytes / 1e6);
    if (config)
        printf("; for each 1,000 tokens of a conversation %.1f MB (kv bf16) or %.1f MB (q8_0)",
               cache_bytes(config, 16) / 1e6, cache_bytes(config, Q8_0_BITS_PER_32 / 32.0) / 1e6);
    putchar('\n');
    if (!config)
        printf("  %-11s it cannot: %s\n", "runs", findings->problem.message);
}

/* ---- JSON ---- */

/* Bytes of a file, which need not be UTF-8. */
static json_t *text_to_json(struct gguf_text text) {
    json_t *value = json_stringn(text.bytes, text.size);
    return value ? value : json_string("");
}

static json_t *types_to_json(const struct findings *findings) {
    json_t *types = json_object();
    for (int type = 0; type < BLOCK_TYPES; type++)
        if (findings->types[type].tensors)
            json_object_set_new(types, block_type_name((uint32_t)type),
                                json_pack("{s:I, s:I}", "tensors", (json_int_t)findings->types[type].tensors,
                                          "bytes", (json_int_t)findings->types[type].bytes));
    return types;
}

static void add_shape(json_t *value, const struct llm_config *config) {
    json_object_update_new(value, json_pack("{s:i, s:I, s:i, s:i, s:{s:I, s:I}}", "layers", config->layers,
                                            "width", (json_int_t)config->width, "heads", config->heads,
                                            "kv_heads", config->kv_heads, "cache_bytes_per_1000_tokens",
                                            "bf16", (json_int_t)cache_bytes(config, 16), "q8_0",
                                            (json_int_t)cache_bytes(config, Q8_0_BITS_PER_32 / 32.0)));
}

static json_t *to_json(const struct findings *findings) {
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:I, s:I, s:o, s:b, s:o, s:I, s:b}", "model",
                  findings->files->name, "file", findings->files->network, "kind", "language", "architecture",
                  text_to_json(findings->architecture), "name", text_to_json(findings->name), "parameters",
                  (json_int_t)findings->parameters, "types", types_to_json(findings), "context",
                  (json_int_t)findings->context, "vocabulary", (json_int_t)findings->tokens, "tokenizer",
                  text_to_json(findings->tokenizer), "chat_template", findings->has_template, "licence",
                  text_to_json(findings->licence), "weight_bytes", (json_int_t)findings->bytes, "runs",
                  findings->config != NULL);
    if (value && findings->config)
        add_shape(value, findings->config);
    else if (value)
        json_object_set_new(value, "problem", json_string(findings->problem.message));
    return value;
}

bool inspect_language(const struct model_files *files, bool json, struct error *error) {
    struct findings findings = {.files = files};
    cleanup(gguf_freep) struct gguf *gguf = gguf_open(files->network, error);
    if (!gguf)
        return false;

    cleanup(llm_model_freep) struct llm_model *model = llm_model_load(files->network, &findings.problem);
    findings.gguf = gguf;
    find_all(&findings, model);
    if (!json)
        print_table(&findings);
    return !json || cli_print_json(to_json(&findings)) ||
           error_set(error, ERROR_MEMORY, "not enough memory for what there is to tell");
}
