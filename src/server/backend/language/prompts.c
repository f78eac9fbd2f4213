/* The prompts of a request as tokens, and whose they are. On a worker. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/sha256.h"
#include "server/backend/language/call.h"
#include "server/edge/forwarding.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for a prompt");
}

/* What the body names by number. */
static bool read_tokens(const struct call *call, const json_t *array, struct token_list *list,
                        struct error *error) {
    int32_t vocabulary = llm_model_vocabulary(call->language->model);

    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *token = json_array_get(array, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id >= vocabulary)
            return error_set(error, ERROR_INVALID,
                             "\"prompt\": an array must hold texts alone, or numbers of tokens below %d",
                             vocabulary);
        if (!token_list_add(list, (int32_t)id))
            return no_memory(error);
    }
    return true;
}

static bool read_prompt(const struct call *call, const json_t *prompt, struct token_list *list,
                        struct error *error) {
    if (json_is_array(prompt))
        return read_tokens(call, prompt, list, error);
    if (json_is_string(prompt))
        return dialogue_encode_text(call->language->dialogue, json_string_value(prompt),
                                    json_string_length(prompt), list, error);
    return error_set(error, ERROR_INVALID,
                     "\"prompt\" must be a string, or an array of strings or of tokens");
}

static bool read_completion(struct call *call, struct error *error) {
    const json_t *prompt = call->fields.prompt;
    bool several = json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0));
    size_t count = several ? json_array_size(prompt) : 1;
    if (count > LIMIT_ANSWERS)
        return error_set(error, ERROR_INVALID, "\"prompt\" has %zu prompts; at most %d can be asked at once",
                         count, LIMIT_ANSWERS);

    call->prompts = calloc(count, sizeof *call->prompts);
    if (!call->prompts)
        return no_memory(error);
    call->prompt_count = count;
    for (size_t i = 0; i < count; i++)
        if (!read_prompt(call, several ? json_array_get(prompt, i) : prompt, &call->prompts[i], error))
            return false;
    return true;
}

static bool read_chat(struct call *call, struct error *error) {
    const struct dialogue *dialogue = call->language->dialogue;
    struct chat_prompt prompt = {0};
    if (!dialogue_render(dialogue, call->fields.conversation, &prompt, error))
        return false;

    call->prompt_thinks = dialogue_prompt_thinks(&prompt);
    call->prompts = calloc(1, sizeof *call->prompts);
    call->prompt_count = call->prompts ? 1 : 0;
    bool done = call->prompts ? dialogue_encode(dialogue, &prompt, call->prompts, error) : no_memory(error);
    chat_prompt_release(&prompt);
    return done;
}

/* Never a silent cut. */
static bool check_length(const struct call *call, size_t prompt, struct error *error) {
    int64_t context = call->language->options.sizes.context, wanted = call->fields.most;
    if (prompt == 0)
        return error_set(error, ERROR_INVALID,
                         "the prompt is empty, and texts of this model have no beginning of their own");
    if ((int64_t)prompt + (wanted > 0 ? wanted : 1) <= context)
        return true;

    if (wanted > 0 && (int64_t)prompt < context)
        return error_set(
            error, ERROR_INVALID,
            "the prompt has %zu tokens, and %lld more are asked for (max_tokens): %lld in all, more "
            "than the context of %lld",
            prompt, (long long)wanted, (long long)prompt + (long long)wanted, (long long)context);
    return error_set(error, ERROR_INVALID,
                     "the prompt has %zu tokens, which leaves no room for an answer in the context of %lld",
                     prompt, (long long)context);
}

bool call_read_prompts(struct call *call, struct error *error) {
    if (!(call->fields.route == LANGUAGE_CHAT ? read_chat : read_completion)(call, error))
        return false;

    for (size_t i = 0; i < call->prompt_count; i++)
        if (!check_length(call, call->prompts[i].count, error))
            return false;
    return true;
}

/* ---- Whose they are ---- */

/* Of a text, or of two. Nobody can make another text for the same: who shares a scope shares computed
 * prompts. */
static bool digest(struct sha256 *sha256, const char *a, const char *b, uint64_t *ret, struct error *error) {
    char text[SHA256_TEXT_BYTES];
    if (!sha256_add(sha256, a, strlen(a) + 1, error) || (b && !sha256_add(sha256, b, strlen(b), error)) ||
        !sha256_finish(sha256, text, error))
        return false;

    text[16] = 0;
    *ret = strtoull(text, NULL, 16);
    return sha256_reset(sha256, error);
}

bool call_find_client(struct call *call, struct error *error) {
    const char *told = http_request_header(call->request, HEADER_CLIENT); /* by a gateway */
    const char *client = told ? told : call->request->peer;
    cleanup(sha256_freep) struct sha256 *sha256 = sha256_create(error);
    if (!sha256 || !digest(sha256, client, NULL, &call->client, error))
        return false;

    return !call->language->options.apart || digest(sha256, client, call->fields.user, &call->scope, error);
}
