#include "cli/language.h"

#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "model/find.h"

bool language_find(const char *name, struct model_files *ret, struct error *error) {
    struct model_files files;
    cleanup(freep) char *usual = name ? NULL : model_find_language();
    if (!name && !usual)
        return error_set(error, ERROR_NOT_FOUND,
                         "no language model is installed: name a .gguf file, or see guichet pull --help");
    if (!model_find_files(name ? name : usual, &files, error))
        return false;
    if (!model_files_check(&files, MODEL_LANGUAGE, error)) {
        model_files_release(&files);
        return false;
    }
    *ret = files;
    return true;
}

struct llm_model *language_load(const char *name, struct error *error) {
    struct model_files files;
    if (!language_find(name, &files, error))
        return NULL;

    struct llm_model *model = llm_model_load(files.network, error);
    model_files_release(&files);
    return model;
}

struct gguf *language_open(const char *name, struct error *error) {
    struct model_files files;
    if (!language_find(name, &files, error))
        return NULL;

    struct gguf *gguf = gguf_open(files.network, error);
    model_files_release(&files);
    return gguf;
}

bool language_is_other_file(const char *name) {
    struct stat status;
    struct model_files files;
    struct error ignored;
    if (stat(name, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    if (!model_files_find(name, NULL, &files, &ignored))
        return true;
    model_files_release(&files);
    return false;
}

bool language_encode(const struct llm_model *model, const char *text, size_t size, struct token_list *ret,
                     struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    if (tokenizer_adds_bos(tokenizer) && !token_list_add(ret, tokenizer_bos(tokenizer)))
        return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of a text");
    return tokenizer_encode(tokenizer, text, size, SPECIAL_AS_TEXT, ret, error);
}

bool language_precision(const struct command *command, const char *text, enum llm_precision *ret,
                        int *ret_exit) {
    *ret = text && strcmp(text, "f32") == 0 ? LLM_F32 : LLM_AUTO;
    if (!text || *ret == LLM_F32 || strcmp(text, "auto") == 0)
        return true;
    *ret_exit = cli_usage(command, "--precision is auto or f32, not '%s'", text);
    return false;
}

bool language_seed(double given, uint64_t *ret, struct error *error) {
    if (given < 0)
        return getrandom(ret, sizeof *ret, 0) == sizeof *ret ||
               error_set(error, ERROR_IO, "the system gives no random numbers: --seed");
    *ret = (uint64_t)given;
    return true;
}

bool language_run(struct llm_context *context, struct llm_sequence *sequence, const int32_t *tokens,
                  size_t count, bool is_prompt, size_t first, language_each each, void *data,
                  struct error *error) {
    struct llm_row rows[LANGUAGE_ROWS];

    for (size_t start = 0, batch; start < count; start += batch) {
        float *logits;
        batch = count - start < LANGUAGE_ROWS ? count - start : LANGUAGE_ROWS;
        for (size_t i = 0; i < batch; i++)
            rows[i] = (struct llm_row){sequence, tokens[start + i], start + i >= first, is_prompt};
        if (!llm_context_run(context, rows, (int)batch, &logits, error))
            return false;

        for (size_t i = 0; i < batch; i++)
            if (rows[i].wants_logits) {
                each(data, start + i, logits);
                logits += llm_context_vocabulary(context);
            }
    }
    return true;
}
