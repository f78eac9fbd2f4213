#include "cli/talk.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/language.h"
#include "llm/dialogue.h"
#include "model/settings.h"

enum { USUAL_CONTEXT = 8192 };

struct talk {
    struct llm_model *model;
    struct dialogue *dialogue;
    struct llm_context *context;
    struct sampler *sampler;
    struct talk_options options;
    json_t *messages, *system;    /* system: a string, or NULL */
    struct llm_sequence sequence; /* what the context has seen … */
    struct token_list seen;       /* … as tokens */
};

/* ---- Tokens ---- */

static void keep_tokens(struct talk *talk, size_t count) {
    talk->seen.count = count;
    talk->sequence.length = (int64_t)count;
}

struct talk_next {
    struct sampler *sampler;
    int32_t token;
};

static void pick(void *data, size_t index, float *logits) {
    struct talk_next *next = data;
    next->token = sampler_pick(next->sampler, logits);
    sampler_note(next->sampler, next->token);
}

/* Run tokens behind what was seen; the last one's logits choose the next. */
static bool run(struct talk *talk, const int32_t *tokens, size_t count, bool is_prompt, bool picks,
                int32_t *ret_next, struct error *error) {
    struct talk_next next = {.sampler = talk->sampler, .token = -1};
    size_t first = picks ? count - 1 : count;
    if (!language_run(talk->context, &talk->sequence, tokens, count, is_prompt, first, pick, &next, error))
        return false;

    for (size_t i = 0; i < count; i++)
        if (!token_list_add(&talk->seen, tokens[i]))
            return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of a conversation");
    *ret_next = next.token;
    return true;
}

/* What the prompt shares with what was seen is there already; at least its last token is run again. */
static void keep_prefix(struct talk *talk, const struct token_list *prompt) {
    size_t same = 0;
    while (same < talk->seen.count && same + 1 < prompt->count && talk->seen.ids[same] == prompt->ids[same])
        same++;
    keep_tokens(talk, same);
}

/* *ret_next is -1 where it was stopped before the first token. */
static bool read_prompt(struct talk *talk, const struct token_list *prompt, talk_piece piece, void *data,
                        int32_t *ret_next, struct error *error) {
    keep_prefix(talk, prompt);
    *ret_next = -1;
    while (talk->seen.count < prompt->count) {
        size_t at = talk->seen.count, left = prompt->count - at,
               count = left < LANGUAGE_ROWS ? left : LANGUAGE_ROWS;
        if (!piece(data, NULL, 0))
            return true;
        if (!run(talk, prompt->ids + at, count, true, count == left, ret_next, error))
            return false;
    }
    return true;
}

/* ---- Answers ---- */

/* Tokens that an answer may have, and why no more. */
static int64_t find_room(const struct talk *talk, size_t prompt, enum talk_end *ret_end) {
    int64_t room = talk->options.context - (int64_t)prompt;
    *ret_end = TALK_FULL;
    if (talk->options.tokens > 0 && room > talk->options.tokens) {
        room = talk->options.tokens;
        *ret_end = TALK_LENGTH;
    }
    return room;
}

/* From `token` on: the answer's text. */
static bool write_answer(struct talk *talk, int32_t token, int64_t room, talk_piece piece, void *data,
                         struct buffer *answer, enum talk_end *end, struct error *error) {
    for (; room > 0; room--) {
        size_t before = answer->size;
        if (token < 0 || dialogue_ends(talk->dialogue, token)) {
            *end = token < 0 ? TALK_STOPPED : TALK_DONE;
            return true;
        }
        dialogue_decode(talk->dialogue, token, answer);
        if (answer->failed)
            return error_set(error, ERROR_MEMORY, "not enough memory for an answer");
        if (!piece(data, answer->bytes + before, answer->size - before)) {
            *end = TALK_STOPPED;
            return true;
        }
        if (room > 1 && !run(talk, &token, 1, false, true, &token, error))
            return false;
    }
    return true;
}

/* The answer without the thoughts before it, which templates leave out of what was said. */
static json_t *answer_to_json(const struct buffer *answer, bool begins_thinking) {
    static const char begin[] = "<think>", end[] = "</think>";
    const char *text = answer->size ? answer->bytes : "";
    size_t size = answer->size;
    bool thinks = begins_thinking || (size >= strlen(begin) && memcmp(text, begin, strlen(begin)) == 0);
    const char *after = thinks && size ? memmem(text, size, end, strlen(end)) : NULL;
    if (thinks) {
        size = after ? size - (size_t)(after - text) - strlen(end) : 0;
        text = after ? after + strlen(end) : "";
    }
    while (thinks && size && (*text == '\n' || *text == ' ')) {
        text++;
        size--;
    }

    json_t *value = json_stringn(text, size);
    while (!value && size) /* it was stopped within a character */
        value = json_stringn(text, --size);
    return value ? value : json_string("");
}

static json_t *make_conversation(const struct talk *talk) {
    json_t *messages = json_array();
    if (talk->system)
        json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "system", "content", talk->system));
    json_array_extend(messages, talk->messages);
    return json_pack("{s:o, s:b}", "messages", messages, "add_generation_prompt", 1);
}

static bool make_prompt(const struct talk *talk, struct token_list *ret, bool *ret_thinks,
                        struct error *error) {
    cleanup(json_decrefp) json_t *conversation = make_conversation(talk);
    struct chat_prompt prompt = {0};
    if (!conversation)
        return error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
    if (!dialogue_render(talk->dialogue, conversation, &prompt, error))
        return false;

    *ret_thinks = dialogue_prompt_thinks(&prompt);
    bool done = dialogue_encode(talk->dialogue, &prompt, ret, error);
    chat_prompt_release(&prompt);
    return done;
}

/* Answer the messages. */
static bool answer_now(struct talk *talk, talk_piece piece, void *data, enum talk_end *ret_end,
                       struct error *error) {
    struct token_list prompt = {0};
    struct buffer answer = {0};
    bool thinks = false;
    int32_t token;
    bool done = make_prompt(talk, &prompt, &thinks, error);
    int64_t room = find_room(talk, prompt.count, ret_end);
    if (done && room < 1)
        done = error_set(
            error, ERROR_INVALID,
            "the conversation has %zu tokens, and there is room for %lld: begin a new one, or see --context",
            prompt.count, (long long)talk->options.context);

    done = done && read_prompt(talk, &prompt, piece, data, &token, error) &&
           write_answer(talk, token, room, piece, data, &answer, ret_end, error);
    if (done)
        json_array_append_new(talk->messages, json_pack("{s:s, s:o}", "role", "assistant", "content",
                                                        answer_to_json(&answer, thinks)));
    buffer_release(&answer);
    token_list_release(&prompt);
    return done;
}

bool talk_say(struct talk *talk, const char *words, talk_piece piece, void *data, enum talk_end *ret_end,
              struct error *error) {
    json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", words);
    if (!message || json_array_append_new(talk->messages, message))
        return error_set(error, ERROR_INVALID, "that is not UTF-8");
    if (answer_now(talk, piece, data, ret_end, error))
        return true;

    json_array_remove(talk->messages, json_array_size(talk->messages) - 1);
    return false;
}

bool talk_again(struct talk *talk, talk_piece piece, void *data, enum talk_end *ret_end,
                struct error *error) {
    size_t count = json_array_size(talk->messages);
    if (count < 2)
        return error_set(error, ERROR_INVALID, "nothing was said yet");

    json_t *last = json_incref(json_array_get(talk->messages, count - 1));
    json_array_remove(talk->messages, count - 1);
    bool done = answer_now(talk, piece, data, ret_end, error);
    if (!done)
        json_array_append(talk->messages, last);
    json_decref(last);
    return done;
}

/* ---- Settings ---- */

bool talk_set_system(struct talk *talk, const char *text) {
    json_t *system = *text ? json_string(text) : NULL;
    if (*text && !system)
        return false;
    json_decref(talk->system);
    talk->system = system;
    return true;
}

bool talk_set_temperature(struct talk *talk, double temperature, struct error *error) {
    struct sampler_options options = talk->options.sampler;
    options.temperature = temperature;
    struct sampler *sampler = sampler_create(&options, llm_model_vocabulary(talk->model), error);
    if (!sampler)
        return false;

    sampler_free(talk->sampler);
    talk->sampler = sampler;
    talk->options.sampler = options;
    return true;
}

void talk_reset(struct talk *talk) {
    json_array_clear(talk->messages);
}

/* ---- Life ---- */

static bool create_context(struct talk *talk, const struct model_files *files, struct error *error) {
    struct model_settings settings;
    struct talk_options *options = &talk->options;
    int64_t own = llm_model_config(talk->model)->context;
    if (!model_settings_read(files->folder, MODEL_LANGUAGE, &settings, error))
        return false;

    if (options->context == 0)
        options->context = settings.context ? settings.context : own < USUAL_CONTEXT ? own : USUAL_CONTEXT;
    if (options->context > own)
        options->context = own;
    bool exact = settings.precision == PRECISION_F32 || (settings.kv && strcmp(settings.kv, "f32") == 0);
    const struct llm_context_options of = {
        .rows = LANGUAGE_ROWS,
        .positions = options->context,
        .threads = options->threads,
        .precision = exact ? LLM_F32 : options->precision,
        .kv = settings.kv && strcmp(settings.kv, "q8_0") == 0 ? LLM_KV_Q8_0 : LLM_KV_BF16,
    };
    talk->context = llm_context_create(talk->model, &of, error);
    return talk->context != NULL;
}

/* A first conversation tells whether the model has a template, and whether that can be used. */
static bool check_template(const struct talk *talk, const struct model_files *files, struct error *error) {
    struct chat_prompt prompt = {0};
    if (!gguf_find(llm_model_gguf(talk->model), "tokenizer.chat_template"))
        return error_set(error, ERROR_INVALID,
                         "%s has no chat template: it goes on with texts, as guichet complete does",
                         files->network);

    cleanup(json_decrefp) json_t *conversation = json_pack(
        "{s:[{s:s, s:s}], s:b}", "messages", "role", "user", "content", "Hello", "add_generation_prompt", 1);
    bool done = dialogue_render(talk->dialogue, conversation, &prompt, error);
    chat_prompt_release(&prompt);
    return done || error_prefix(error, "%s", files->network);
}

static bool init(struct talk *talk, const struct model_files *files, struct error *error) {
    talk->messages = json_array();
    talk->model = talk->messages ? llm_model_load(files->network, error) : NULL;
    talk->dialogue = talk->model ? dialogue_create(talk->model, error) : NULL;
    if (!talk->messages)
        error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
    if (!talk->dialogue || !check_template(talk, files, error) || !create_context(talk, files, error))
        return false;

    talk->sampler = sampler_create(&talk->options.sampler, llm_model_vocabulary(talk->model), error);
    return talk->sampler != NULL;
}

struct talk *talk_create(const struct model_files *files, const struct talk_options *options,
                         struct error *error) {
    struct talk *talk = calloc(1, sizeof *talk);
    if (!talk) {
        error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
        return NULL;
    }

    talk->options = *options;
    if (init(talk, files, error))
        return talk;
    talk_free(talk);
    return NULL;
}

void talk_free(struct talk *talk) {
    if (!talk)
        return;

    if (talk->context)
        llm_sequence_release(talk->context, &talk->sequence);
    token_list_release(&talk->seen);
    sampler_free(talk->sampler);
    llm_context_free(talk->context);
    dialogue_free(talk->dialogue);
    llm_model_free(talk->model);
    json_decref(talk->messages);
    json_decref(talk->system);
    free(talk);
}
