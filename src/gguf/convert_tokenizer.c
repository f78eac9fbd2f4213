/* tokenizer.json to the keys of GGUF. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "gguf/convert_internal.h"

enum converted_kind { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

struct vocabulary_writing {
    const char *folder;
    json_t *tokenizer, *settings; /* settings: tokenizer_config.json, NULL: none */
    const char **tokens;          /* [count]; NULL: made up */
    int32_t *kinds;
    float *scores;
    size_t count;
    bool is_bytes; /* byte-level; else SentencePiece's */
};

static bool damaged(const struct vocabulary_writing *v, const char *what, struct error *error) {
    return error_set(error, ERROR_MODEL, "%s/tokenizer.json: %s", v->folder, what);
}

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of the model");
}

/* Does any string within contain `part`? */
static bool mentions(const json_t *json, const char *part) {
    const char *key;
    json_t *value;
    size_t index;
    if (json_is_string(json))
        return strstr(json_string_value(json), part);
    json_array_foreach((json_t *)json, index, value) {
        if (mentions(value, part))
            return true;
    }
    json_object_foreach((json_t *)json, key, value) {
        if (mentions(value, part))
            return true;
    }
    return false;
}

static bool put(struct vocabulary_writing *v, const json_t *id, const char *text, int32_t kind,
                struct error *error) {
    json_int_t at = json_integer_value(id);
    if (!json_is_integer(id) || at < 0 || (size_t)at >= v->count || !text)
        return damaged(v, "a token's number is not one of the model's embedding", error);
    v->tokens[at] = text;
    v->kinds[at] = kind;
    return true;
}

static int32_t kind_of(const struct vocabulary_writing *v, const char *token, const char *unknown) {
    if (!v->is_bytes && strlen(token) == 6 && strncmp(token, "<0x", 3) == 0 && token[5] == '>')
        return BYTE;
    return unknown && strcmp(token, unknown) == 0 ? UNKNOWN : NORMAL;
}

static bool read_tokens(struct vocabulary_writing *v, const json_t *model, struct error *error) {
    const char *token, *unknown = json_string_value(json_object_get(model, "unk_token"));
    json_t *id, *entry;
    size_t index;

    json_object_foreach(json_object_get(model, "vocab"), token, id) {
        if (!put(v, id, token, kind_of(v, token, unknown), error))
            return false;
    }
    json_array_foreach(json_object_get(v->tokenizer, "added_tokens"), index, entry) {
        const char *text = json_string_value(json_object_get(entry, "content"));
        int32_t kind = json_is_true(json_object_get(entry, "special")) ? CONTROL : USER_DEFINED;
        if (text && unknown && strcmp(text, unknown) == 0 && !v->is_bytes)
            kind = UNKNOWN;
        if (!put(v, json_object_get(entry, "id"), text, kind, error))
            return false;
    }
    return true;
}

/* "a b", or ["a", "b"], with a blank between: [size] in ret. */
static bool merge_text(const json_t *merge, char *ret, size_t size) {
    if (json_is_string(merge))
        return snprintf(ret, size, "%s", json_string_value(merge)) < (int)size && strchr(ret, ' ');
    const char *a = json_string_value(json_array_get(merge, 0)),
               *b = json_string_value(json_array_get(merge, 1));
    return a && b && json_array_size(merge) == 2 && snprintf(ret, size, "%s %s", a, b) < (int)size;
}

static bool write_merges(struct vocabulary_writing *v, struct gguf_writer *writer, const json_t *merges,
                         struct error *error) {
    char text[2 * LIMIT_TOKEN_BYTES];
    size_t index;
    json_t *merge;
    gguf_writer_array(writer, "tokenizer.ggml.merges", GGUF_STRING, json_array_size(merges));
    json_array_foreach((json_t *)merges, index, merge) {
        if (!merge_text(merge, text, sizeof text))
            return damaged(v, "a merge is no pair of tokens", error);
        gguf_writer_element(writer, GGUF_STRING, text, strlen(text));
    }
    return true;
}

/* SentencePiece merges what has the best score: here the rank of the merge that makes a token. */
static bool find_scores(struct vocabulary_writing *v, const json_t *merges, struct error *error) {
    char text[2 * LIMIT_TOKEN_BYTES];
    size_t index;
    json_t *merge, *ids = json_object_get(json_object_get(v->tokenizer, "model"), "vocab");
    for (size_t i = 0; i < v->count; i++)
        v->scores[i] = v->kinds[i] == NORMAL ? -1e6f : 0;
    json_array_foreach((json_t *)merges, index, merge) {
        if (!merge_text(merge, text, sizeof text))
            return damaged(v, "a merge is no pair of tokens", error);
        char *blank = strchr(text, ' ');
        memmove(blank, blank + 1, strlen(blank));
        const json_t *id = json_object_get(ids, text);
        json_int_t at = json_integer_value(id);
        if (id && at >= 0 && (size_t)at < v->count && v->scores[at] == -1e6f)
            v->scores[at] = -(float)index;
    }
    return true;
}

/* The rule by which words are parted, told by its regular expression. */
static const char *find_parting(const struct vocabulary_writing *v) {
    const json_t *parting = json_object_get(v->tokenizer, "pre_tokenizer");
    if (mentions(parting, "\\p{N}{1,3}"))
        return "llama-bpe";
    if (mentions(parting, "(?i:'s|'t") || mentions(parting, "(?i:[sdmt]|ll|ve|re)"))
        return "qwen2";
    return mentions(parting, "Digits") ? "smollm" : "gpt-2";
}

/* A token that tokenizer_config.json names: its number; -1: none. */
static int64_t named_token(const struct vocabulary_writing *v, const json_t *config, const char *name) {
    char key[40];
    const json_t *value = json_object_get(v->settings, name);
    const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    for (size_t i = 0; text && i < v->count; i++)
        if (v->tokens[i] && strcmp(v->tokens[i], text) == 0)
            return (int64_t)i;
    snprintf(key, sizeof key, "%s_id", name);
    value = json_object_get(config, key);
    if (json_is_array(value))
        value = json_array_get(value, 0);
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
                   (size_t)json_integer_value(value) < v->count
               ? json_integer_value(value)
               : -1;
}

static void write_special(const struct vocabulary_writing *v, struct gguf_writer *writer,
                          const json_t *config) {
    static const char *const names[][2] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                                           {"eos_token", "tokenizer.ggml.eos_token_id"},
                                           {"pad_token", "tokenizer.ggml.padding_token_id"},
                                           {"unk_token", "tokenizer.ggml.unknown_token_id"}};
    int64_t ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = named_token(v, config, names[i][0]);
        if (ids[i] >= 0)
            gguf_writer_integer(writer, names[i][1], (uint32_t)ids[i]);
    }

    const json_t *adds = json_object_get(v->settings, "add_bos_token");
    bool adds_bos = json_is_boolean(adds)
                        ? json_is_true(adds)
                        : ids[0] >= 0 && v->tokens[ids[0]] &&
                              mentions(json_object_get(v->tokenizer, "post_processor"), v->tokens[ids[0]]);
    gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", adds_bos && ids[0] >= 0);
}

static bool write_template(const struct vocabulary_writing *v, struct gguf_writer *writer,
                           struct error *error) {
    const char *text = json_string_value(json_object_get(v->settings, "chat_template"));
    cleanup(freep) char *path = NULL;
    size_t size;
    if (text) {
        gguf_writer_text(writer, "tokenizer.chat_template", text, strlen(text));
        return true;
    }
    if (asprintf(&path, "%s/chat_template.jinja", v->folder) < 0) {
        path = NULL;
        return out_of_memory(error);
    }
    cleanup(freep) char *file = file_read(path, LIMIT_TEMPLATE_BYTES, &size, error);
    if (file)
        gguf_writer_text(writer, "tokenizer.chat_template", file, size);
    return file || error->code == ERROR_NOT_FOUND;
}

static void write_arrays(const struct vocabulary_writing *v, struct gguf_writer *writer) {
    char made_up[40];
    gguf_writer_array(writer, "tokenizer.ggml.tokens", GGUF_STRING, v->count);
    for (size_t i = 0; i < v->count; i++) {
        snprintf(made_up, sizeof made_up, "[PAD%zu]", i);
        const char *text = v->tokens[i] ? v->tokens[i] : made_up;
        gguf_writer_element(writer, GGUF_STRING, text, strlen(text));
    }
    gguf_writer_array(writer, "tokenizer.ggml.token_type", GGUF_I32, v->count);
    gguf_writer_element(writer, GGUF_I32, v->kinds, v->count * sizeof *v->kinds);
    if (v->is_bytes)
        return;
    gguf_writer_array(writer, "tokenizer.ggml.scores", GGUF_F32, v->count);
    gguf_writer_element(writer, GGUF_F32, v->scores, v->count * sizeof *v->scores);
}

static bool write_all(struct vocabulary_writing *v, struct gguf_writer *writer, const json_t *config,
                      struct error *error) {
    const json_t *model = json_object_get(v->tokenizer, "model"), *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    if ((type && strcmp(type, "BPE") != 0) || !json_is_object(json_object_get(model, "vocab")) ||
        !json_is_array(merges))
        return damaged(v, "only models of type BPE are supported", error);
    if (json_array_size(merges) > LIMIT_MERGES)
        return damaged(v, "it has too many merges", error);

    v->is_bytes = mentions(json_object_get(v->tokenizer, "pre_tokenizer"), "ByteLevel") ||
                  mentions(json_object_get(v->tokenizer, "decoder"), "ByteLevel");
    for (size_t i = 0; i < v->count; i++)
        v->kinds[i] = UNUSED;
    if (!read_tokens(v, model, error) || (!v->is_bytes && !find_scores(v, merges, error)))
        return false;

    const char *kind = v->is_bytes ? "gpt2" : "llama", *parting = v->is_bytes ? find_parting(v) : "default";
    gguf_writer_text(writer, "tokenizer.ggml.model", kind, strlen(kind));
    gguf_writer_text(writer, "tokenizer.ggml.pre", parting, strlen(parting));
    write_arrays(v, writer);
    write_special(v, writer, config);
    if (v->is_bytes)
        return write_merges(v, writer, merges, error) && write_template(v, writer, error);
    bool blank = mentions(json_object_get(v->tokenizer, "normalizer"), "Prepend") ||
                 mentions(json_object_get(v->tokenizer, "pre_tokenizer"), "first") ||
                 mentions(json_object_get(v->tokenizer, "pre_tokenizer"), "always");
    gguf_writer_bool(writer, "tokenizer.ggml.add_space_prefix", blank);
    return write_template(v, writer, error);
}

bool convert_tokenizer(struct gguf_writer *writer, const char *folder, const json_t *config,
                       size_t vocabulary, struct error *error) {
    struct error missing = {0};
    struct vocabulary_writing v = {
        .folder = folder,
        .count = vocabulary,
        .tokenizer = convert_read_json(folder, "tokenizer.json", LIMIT_TOKENIZER_BYTES, error),
        .settings = convert_read_json(folder, "tokenizer_config.json", LIMIT_TOKENIZER_BYTES, &missing)};
    v.tokens = calloc(vocabulary + 1, sizeof *v.tokens);
    v.kinds = calloc(vocabulary + 1, sizeof *v.kinds);
    v.scores = calloc(vocabulary + 1, sizeof *v.scores);

    bool done = v.tokenizer;
    if (done && !v.settings && missing.code != ERROR_NOT_FOUND) {
        *error = missing;
        done = false;
    }
    if (done && (!v.tokens || !v.kinds || !v.scores))
        done = out_of_memory(error);
    done = done && write_all(&v, writer, config, error);
    free(v.tokens);
    free(v.kinds);
    free(v.scores);
    json_decref(v.tokenizer);
    json_decref(v.settings);
    return done;
}
