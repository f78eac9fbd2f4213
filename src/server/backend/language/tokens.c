/* Texts to tokens and back, and conversations to prompts: POST /tokenize, /detokenize, /apply-template, as
 * llama.cpp has them. Short work, on a worker. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"
#include "http/inflate.h"
#include "server/backend/language/messages.h"
#include "server/backend/language/question.h"
#include "server/edge/respond.h"

struct question {
    struct work work;
    struct language *language;
    struct http_request *request;
    bool (*answer)(struct language *language, const json_t *body, struct buffer *text, struct error *error);
};

static void run_answer(struct work *work) {
    static const struct http_header header = {"Content-Type", "application/json"};
    struct question *question = (struct question *)(void *)((char *)work - offsetof(struct question, work));
    struct http_request *request = question->request;
    struct language *language = question->language;
    const struct memory_wait wait = {.deadline_ns = request->started_ns +
                                                    (int64_t)language->options.timeout_ms * 1000000};
    struct memory_charge tree = {0}, work_charge = {.purpose = MEMORY_TENSORS};
    struct buffer text = {0};
    struct error error = {0};

    const struct http_body *body = request->body;
    json_t *json = http_request_check_plain(request, &error)
                       ? json_parse(body->bytes ? body->bytes : "", body->size, &wait, &tree, &error)
                       : NULL;
    bool done = json && memory_charge_wait(&work_charge, tree.bytes + body->size * 8, &wait, &error) &&
                question->answer(language, json, &text, &error);
    if ((done && text.failed) || (!done && error.code == ERROR_NONE))
        done = error_set(&error, ERROR_MEMORY, "not enough memory for an answer");
    json_release(json, &tree);
    memory_charge_release(&work_charge);
    free(question);
    if (done) {
        respond(request, 200, &header, 1, http_body_take(text.bytes, text.size));
    } else {
        buffer_release(&text);
        respond_error(request, &error);
    }
    atomic_fetch_sub(&language->pending, 1);
}

void question_ask(struct language *language, struct http_request *request,
                  bool (*answer)(struct language *language, const json_t *body, struct buffer *text,
                                 struct error *error)) {
    struct question *question = calloc(1, sizeof *question);
    if (!question) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }

    atomic_fetch_add(&language->pending, 1);
    *question = (struct question){
        .work = {.run = run_answer}, .language = language, .request = request, .answer = answer};
    workers_submit(language->options.workers, &question->work);
}

/* A question to a model that writes. */
static void ask(struct language *language, struct http_request *request,
                bool (*answer)(struct language *language, const json_t *body, struct buffer *text,
                               struct error *error)) {
    if (language_check_kind(language, request, false))
        question_ask(language, request, answer);
}

/* ---- /tokenize ---- */

/* An optional boolean. */
static bool read_flag(const json_t *body, const char *name, bool *ret, struct error *error) {
    const json_t *value = json_object_get(body, name);
    if (value && !json_is_boolean(value) && !json_is_null(value))
        return error_set(error, ERROR_INVALID, "\"%s\" must be true or false", name);
    if (json_is_boolean(value))
        *ret = json_is_true(value);
    return true;
}

/* A text, or the bytes of what is none. */
static void write_piece(struct buffer *text, const struct tokenizer *tokenizer, int32_t token) {
    struct buffer piece = {0};
    bool whole = true;

    tokenizer_decode(tokenizer, token, SPECIAL_AS_TOKENS, &piece);
    for (size_t at = 0; whole && at < piece.size;) {
        int length = utf8_length(piece.bytes + at, piece.size - at);
        whole = length > 0;
        at += whole ? (size_t)length : 0;
    }
    if (whole)
        json_append_bytes(text, piece.bytes, piece.size);
    for (size_t i = 0; !whole && i < piece.size; i++)
        buffer_printf(text, i ? ",%u" : "[%u", (unsigned char)piece.bytes[i]);
    buffer_append_string(text, whole ? "" : "]");
    buffer_release(&piece);
}

static bool answer_tokens(struct language *language, const json_t *body, struct buffer *text,
                          struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(language->model);
    const json_t *content = json_object_get(body, "content");
    bool add_special = false, parse_special = true, with_pieces = false;
    struct token_list list = {0};
    if (!json_is_string(content))
        return error_set(error, ERROR_INVALID, "there is no \"content\": the text to be made into tokens");
    if (!read_flag(body, "add_special", &add_special, error) ||
        !read_flag(body, "parse_special", &parse_special, error) ||
        !read_flag(body, "with_pieces", &with_pieces, error))
        return false;

    bool done =
        (!add_special || !tokenizer_adds_bos(tokenizer) || token_list_add(&list, tokenizer_bos(tokenizer))) &&
        tokenizer_encode(tokenizer, json_string_value(content), json_string_length(content),
                         parse_special ? SPECIAL_AS_TOKENS : SPECIAL_AS_TEXT, &list, error);
    buffer_append_string(text, "{\"tokens\":[");
    for (size_t i = 0; done && i < list.count; i++) {
        buffer_append_string(text, i ? "," : "");
        if (!with_pieces) {
            buffer_printf(text, "%d", list.ids[i]);
            continue;
        }
        buffer_printf(text, "{\"id\":%d,\"piece\":", list.ids[i]);
        write_piece(text, tokenizer, list.ids[i]);
        buffer_append_string(text, "}");
    }
    buffer_append_string(text, "]}");
    token_list_release(&list);
    return done;
}

void language_tokenize(struct language *language, struct http_request *request) {
    ask(language, request, answer_tokens);
}

/* ---- /detokenize ---- */

static bool answer_content(struct language *language, const json_t *body, struct buffer *text,
                           struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(language->model);
    const json_t *tokens = json_object_get(body, "tokens"), *token;
    struct buffer words = {0};
    size_t i;
    if (!json_is_array(tokens))
        return error_set(error, ERROR_INVALID, "there are no \"tokens\": an array of their numbers");

    json_array_foreach(tokens, i, token) {
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id >= tokenizer_count(tokenizer)) {
            buffer_release(&words);
            return error_set(error, ERROR_INVALID, "\"tokens\" must be whole numbers from 0 to %d",
                             tokenizer_count(tokenizer) - 1);
        }
        tokenizer_decode(tokenizer, (int32_t)id, SPECIAL_AS_TOKENS, &words);
    }

    buffer_append_string(text, "{\"content\":");
    json_append_bytes(text, words.bytes, words.size);
    buffer_append_string(text, "}");
    text->failed |= words.failed;
    buffer_release(&words);
    return true;
}

void language_detokenize(struct language *language, struct http_request *request) {
    ask(language, request, answer_content);
}

/* ---- /apply-template ---- */

static bool answer_prompt(struct language *language, const json_t *body, struct buffer *text,
                          struct error *error) {
    json_t *conversation = json_pack("{s:b}", "add_generation_prompt", 1);
    json_t *messages = messages_read(json_object_get(body, "messages"), error);
    const json_t *kwargs = json_object_get(body, "chat_template_kwargs"),
                 *tools = json_object_get(body, "tools");
    struct chat_prompt prompt = {0};

    bool done =
        conversation && messages && json_object_set(conversation, "messages", messages) == 0 &&
        (!json_is_object(kwargs) || json_object_update_missing(conversation, (json_t *)kwargs) == 0) &&
        (!json_is_array(tools) || json_object_set(conversation, "tools", (json_t *)tools) == 0);
    if (messages && !done)
        error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
    done = done && dialogue_render(language->dialogue, conversation, &prompt, error);
    if (done) {
        buffer_append_string(text, "{\"prompt\":");
        json_append_bytes(text, prompt.text, prompt.size);
        buffer_append_string(text, "}");
        chat_prompt_release(&prompt);
    }
    json_decref(messages);
    json_decref(conversation);
    return done;
}

void language_apply_template(struct language *language, struct http_request *request) {
    ask(language, request, answer_prompt);
}
