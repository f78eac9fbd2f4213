#include "llm/dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { ENDS_MOST = 8 };

struct dialogue {
    const struct tokenizer *tokenizer;
    struct chat_template *chat; /* NULL: none, or `failure` says why it cannot be used */
    struct error failure;
    json_t *tokens; /* bos_token …, for the template */
    bool *markup;   /* [tokens]: user-defined tokens that the template writes */
    int32_t ends[ENDS_MOST];
    int end_count;
    bool thinks;
    const struct tool_format *tools; /* NULL: none */
    bool *shown;                     /* [tokens]: control tokens that are marks of thoughts or of calls */
};

/* --- Tokens --------------------------------------------------------------------------------------------- */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of a prompt");
}

/* The special token at text[at]: of the template's text, or one that is a part of any text. *ret_size: its
 * bytes. */
static int32_t match(const struct dialogue *dialogue, const char *text, size_t size, size_t at,
                     size_t template_end, size_t *ret_size) {
    bool from_template = at < template_end;
    int32_t id = tokenizer_match_special(dialogue->tokenizer, text + at,
                                         from_template ? template_end - at : size - at, from_template);
    if (id < 0 || (!from_template && dialogue->markup && dialogue->markup[id]))
        return -1;

    *ret_size = tokenizer_special_size(dialogue->tokenizer, id);
    return id;
}

static bool add_bos(const struct dialogue *dialogue, struct token_list *list, size_t first,
                    struct error *error) {
    int32_t bos = tokenizer_bos(dialogue->tokenizer);
    if (!tokenizer_adds_bos(dialogue->tokenizer) || (list->count > first && list->ids[first] == bos))
        return true;
    if (!token_list_add(list, bos))
        return no_memory(error);

    memmove(list->ids + first + 1, list->ids + first, (list->count - first - 1) * sizeof *list->ids);
    list->ids[first] = bos;
    return true;
}

/* Templates put marks together, "<|" + role + "|>": what is only the name of a role counts as theirs. */
static bool is_of_template(const struct chat_prompt *prompt, size_t segment) {
    static const char *const roles[] = {"user", "assistant", "system", "tool", "developer"};
    size_t start = segment > 0 ? prompt->segments[segment - 1].end : 0,
           size = prompt->segments[segment].end - start;
    if (!prompt->segments[segment].from_conversation)
        return true;

    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strlen(roles[i]) == size && memcmp(prompt->text + start, roles[i], size) == 0)
            return true;
    return false;
}

/* Where the segments of one author end, of which `segment` is the first. */
static size_t end_of_part(const struct chat_prompt *prompt, size_t segment, bool of_template,
                          size_t *ret_next) {
    size_t next = segment + 1;
    while (next < prompt->segment_count && is_of_template(prompt, next) == of_template)
        next++;
    *ret_next = next;
    return prompt->segments[next - 1].end;
}

bool dialogue_encode(const struct dialogue *dialogue, const struct chat_prompt *prompt,
                     struct token_list *list, struct error *error) {
    size_t first = list->count, start = 0, at = 0, length = 0;

    for (size_t s = 0, next; s < prompt->segment_count; s = next) {
        bool of_template = is_of_template(prompt, s);
        size_t end = end_of_part(prompt, s, of_template, &next);
        while (at < end) {
            int32_t id = match(dialogue, prompt->text, prompt->size, at, of_template ? end : 0, &length);
            if (id < 0) {
                at++;
                continue;
            }
            if (!tokenizer_encode(dialogue->tokenizer, prompt->text + start, at - start, SPECIAL_LEFT_OUT,
                                  list, error))
                return false;
            if (!token_list_add(list, id))
                return no_memory(error);
            start = at += length;
        }
    }
    return tokenizer_encode(dialogue->tokenizer, prompt->text + start, prompt->size - start, SPECIAL_LEFT_OUT,
                            list, error) &&
           add_bos(dialogue, list, first, error);
}

bool dialogue_encode_text(const struct dialogue *dialogue, const char *text, size_t size,
                          struct token_list *list, struct error *error) {
    size_t first = list->count;
    return tokenizer_encode(dialogue->tokenizer, text, size, SPECIAL_AS_TEXT, list, error) &&
           add_bos(dialogue, list, first, error);
}

const struct tool_format *dialogue_tools(const struct dialogue *dialogue) {
    return dialogue->tools;
}

void dialogue_decode(const struct dialogue *dialogue, int32_t token, struct buffer *ret) {
    bool shown = token < tokenizer_count(dialogue->tokenizer) && dialogue->shown[token];
    tokenizer_decode(dialogue->tokenizer, token, shown ? SPECIAL_AS_TOKENS : SPECIAL_AS_TEXT, ret);
}

bool dialogue_ends(const struct dialogue *dialogue, int32_t token) {
    for (int i = 0; i < dialogue->end_count; i++)
        if (dialogue->ends[i] == token)
            return true;
    return false;
}

const int32_t *dialogue_end_tokens(const struct dialogue *dialogue, int *ret_count) {
    *ret_count = dialogue->end_count;
    return dialogue->ends;
}

bool dialogue_thinks(const struct dialogue *dialogue) {
    return dialogue->thinks;
}

bool dialogue_prompt_thinks(const struct chat_prompt *prompt) {
    static const char tag[] = "<think>";
    size_t size = prompt->size;
    if (prompt->segment_count == 0 || prompt->segments[prompt->segment_count - 1].from_conversation)
        return false;

    while (size > 0 && text_is_blank(prompt->text[size - 1]))
        size--;
    return size >= sizeof tag - 1 && memcmp(prompt->text + size - (sizeof tag - 1), tag, sizeof tag - 1) == 0;
}

/* --- The template --------------------------------------------------------------------------------------- */

bool dialogue_render(const struct dialogue *dialogue, const json_t *conversation, struct chat_prompt *ret,
                     struct error *error) {
    struct chat_variables variables = {.conversation = conversation, .tokens = dialogue->tokens};
    time_t now = time(NULL);
    if (!dialogue->chat) {
        *error = dialogue->failure;
        return false;
    }

    localtime_r(&now, &variables.today);
    return chat_template_render(dialogue->chat, &variables, ret, error);
}

static void set_token(json_t *tokens, const char *name, const struct tokenizer *tokenizer, int32_t id) {
    struct buffer text = {0};
    if (id >= 0 && tokenizer_decode(tokenizer, id, SPECIAL_AS_TOKENS, &text) && text.size)
        json_object_set_new(tokens, name, json_stringn(text.bytes, text.size));
    buffer_release(&text);
}

static void add_end(struct dialogue *dialogue, int32_t token) {
    if (token >= 0 && !dialogue_ends(dialogue, token) && dialogue->end_count < ENDS_MOST)
        dialogue->ends[dialogue->end_count++] = token;
}

/* What the template writes behind an answer ends it. */
static void find_end_of_turn(struct dialogue *dialogue) {
    json_t *conversation =
        json_pack("{s:[{s:s, s:s}, {s:s, s:s}], s:b}", "messages", "role", "user", "content", "Ask.", "role",
                  "assistant", "content", "Answer.", "add_generation_prompt", 0);
    struct chat_prompt prompt = {0};
    struct error ignored;
    if (!conversation || !dialogue_render(dialogue, conversation, &prompt, &ignored)) {
        json_decref(conversation);
        return;
    }

    size_t count = prompt.segment_count, at = 0, length = 0;
    if (count > 1 && !prompt.segments[count - 1].from_conversation)
        at = prompt.segments[count - 2].end;
    while (at > 0 && at < prompt.size && text_is_blank(prompt.text[at]))
        at++;
    if (at > 0 && at < prompt.size)
        add_end(dialogue, match(dialogue, prompt.text, prompt.size, at, prompt.size, &length));
    chat_prompt_release(&prompt);
    json_decref(conversation);
}

/* User-defined tokens that the template writes are markup: in messages they are plain text. */
static void find_markup(struct dialogue *dialogue, const char *text, size_t size) {
    for (size_t at = 0; at < size; at++) {
        int32_t id = tokenizer_match_special(dialogue->tokenizer, text + at, size - at, true);
        if (id >= 0 && text[at] == '<')
            dialogue->markup[id] = true;
    }
}

/* Marks of thoughts and of calls are seen by who reads the answer. */
static void find_shown(struct dialogue *dialogue) {
    struct buffer text = {0};

    for (int32_t id = 0; id < tokenizer_count(dialogue->tokenizer) && !text.failed; id++) {
        text.size = 0;
        if (!tokenizer_is_control(dialogue->tokenizer, id) ||
            !tokenizer_decode(dialogue->tokenizer, id, SPECIAL_AS_TOKENS, &text) || text.size == 0)
            continue;
        dialogue->shown[id] =
            (dialogue->tools && tool_format_is_mark(dialogue->tools, text.bytes, text.size)) ||
            (dialogue->thinks && (strcmp(text.bytes, "<think>") == 0 || strcmp(text.bytes, "</think>") == 0));
    }
    buffer_release(&text);
}

static bool read_template(struct dialogue *dialogue, const struct gguf *gguf, struct error *error) {
    struct gguf_text text = {0};
    if (!gguf_text(gguf, "tokenizer.chat_template", &text, error))
        return false;

    error_set(&dialogue->failure, ERROR_INVALID,
              "this model has no chat template: it goes on with texts, at /v1/completions");
    if (!text.bytes)
        return true;
    dialogue->chat = chat_template_create(text.bytes, text.size, &dialogue->failure);
    if (!dialogue->chat) {
        dialogue->failure.code = ERROR_INVALID;
        error_prefix(&dialogue->failure, "the model's chat template cannot be used");
        return true;
    }
    dialogue->thinks = memmem(text.bytes, text.size, "<think>", 7) != NULL;
    dialogue->tools = tool_format_find(text.bytes, text.size);
    find_shown(dialogue);
    find_markup(dialogue, text.bytes, text.size);
    find_end_of_turn(dialogue);
    return true;
}

static bool read_ends(struct dialogue *dialogue, const struct gguf *gguf, struct error *error) {
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};

    add_end(dialogue, tokenizer_eos(dialogue->tokenizer));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = -1;
        if (!gguf_integer(gguf, keys[i], -1, UINT32_MAX, &id, error))
            return false;
        if (id < tokenizer_count(dialogue->tokenizer))
            add_end(dialogue, (int32_t)id);
    }
    return true;
}

struct dialogue *dialogue_create(const struct llm_model *model, struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    struct dialogue *dialogue = calloc(1, sizeof *dialogue);
    if (dialogue) {
        dialogue->tokenizer = tokenizer;
        dialogue->shown = calloc((size_t)tokenizer_count(tokenizer), sizeof *dialogue->shown);
        dialogue->tokens = json_object();
        dialogue->markup = calloc((size_t)tokenizer_count(tokenizer), sizeof *dialogue->markup);
    }
    if (!dialogue || !dialogue->tokens || !dialogue->markup || !dialogue->shown) {
        dialogue_free(dialogue);
        no_memory(error);
        return NULL;
    }

    set_token(dialogue->tokens, "bos_token", tokenizer, tokenizer_bos(tokenizer));
    set_token(dialogue->tokens, "eos_token", tokenizer, tokenizer_eos(tokenizer));
    if (read_ends(dialogue, llm_model_gguf(model), error) &&
        read_template(dialogue, llm_model_gguf(model), error))
        return dialogue;
    dialogue_free(dialogue);
    return NULL;
}

void dialogue_free(struct dialogue *dialogue) {
    if (!dialogue)
        return;

    chat_template_free(dialogue->chat);
    json_decref(dialogue->tokens);
    free(dialogue->markup);
    free(dialogue->shown);
    free(dialogue);
}
