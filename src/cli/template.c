/* guichet template: the prompt that a conversation becomes. */
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "chat/template.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/verbs.h"

static const char help[] =
    "Render a conversation with a chat template: the prompt that a language model gets.\n"
    "\n"
    "Usage: guichet template [OPTION…] MODEL|FILE CONVERSATION.json\n"
    "\n"
    "MODEL is a language model, by name or path, with a chat template; bos_token and eos_token are its own, "
    "unless the\n"
    "conversation has others. FILE is a chat template in Jinja by itself. CONVERSATION.json is an object "
    "with what the template asks for: "
    "messages, tools,\n"
    "add_generation_prompt, bos_token, eos_token …; what chat_template_kwargs has counts as if it stood "
    "beside them.\n"
    "The prompt goes to standard output as it is, without a line break behind it.\n"
    "\n"
    "  --today DATE   the date that strftime_now gives, as 2026-11-28 (today)\n"
    "  --json         print the prompt in segments, each with where it is from: the template or the "
    "conversation\n"
    "\n"
    "Example:\n"
    "  guichet template smollm2 hello.json\n"
    "  guichet template chat_template.jinja hello.json\n"
    "\n"
    "Exit status: 0 done, 1 failed (the template raised an error, for example), 2 usage error.\n";

static const struct command self = {"template", help};

static bool read_file(const char *path, struct chat_template **ret, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_TEMPLATE_BYTES, &size, error);
    if (!text)
        return false;

    *ret = chat_template_create(text, size, error);
    return *ret || error_prefix(error, "%s", path);
}

/* A token of the model's vocabulary, where it has that one. */
static bool add_token(const struct gguf *gguf, const char *key, const char *name, json_t *tokens,
                      struct error *error) {
    struct gguf_array vocabulary;
    int64_t id = -1;
    if (!gguf_integer(gguf, key, -1, UINT32_MAX, &id, error) ||
        !gguf_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &vocabulary, error))
        return false;
    if (id < 0 || (uint64_t)id >= vocabulary.count)
        return true;

    struct gguf_text text = {0};
    const uint8_t *at = vocabulary.bytes;
    for (int64_t i = 0; i <= id; i++)
        text = gguf_next_text(&at);
    json_t *value = json_stringn(text.bytes, text.size);
    if (!value)
        return error_set(error, ERROR_MODEL, "%s: its %s is not UTF-8", gguf_name(gguf), name);
    return json_object_set_new(tokens, name, value) == 0 || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool read_model(const char *name, json_t *tokens, struct chat_template **ret, struct error *error) {
    struct gguf_text text = {0};
    cleanup(gguf_freep) struct gguf *gguf = language_open(name, error);
    if (!gguf || !gguf_text(gguf, "tokenizer.chat_template", &text, error) ||
        !add_token(gguf, "tokenizer.ggml.bos_token_id", "bos_token", tokens, error) ||
        !add_token(gguf, "tokenizer.ggml.eos_token_id", "eos_token", tokens, error))
        return false;
    if (!text.bytes)
        return error_set(error, ERROR_INVALID,
                         "%s has no chat template: it goes on with texts, as guichet complete does",
                         gguf_name(gguf));

    *ret = chat_template_create(text.bytes, text.size, error);
    return *ret || error_prefix(error, "%s", gguf_name(gguf));
}

static bool read_template(const char *name, json_t *tokens, struct chat_template **ret, struct error *error) {
    return language_is_other_file(name) ? read_file(name, ret, error) : read_model(name, tokens, ret, error);
}

static bool is_token(const char *key) {
    size_t length = strlen(key);
    return length > 6 && strcmp(key + length - 6, "_token") == 0;
}

/* The tokens of the file are the model's; the rest is the conversation, with the template's own arguments
 * beside it. */
static bool split_conversation(json_t *json, json_t *tokens, struct error *error) {
    const char *key;
    json_t *value;
    void *next;
    cleanup(json_decrefp) json_t *more = json_incref(json_object_get(json, "chat_template_kwargs"));
    if (more && !json_is_object(more))
        return error_set(error, ERROR_INVALID, "chat_template_kwargs is not an object");

    json_object_foreach_safe(json, next, key, value) {
        if (!is_token(key))
            continue;
        if (json_object_set(tokens, key, value) || json_object_del(json, key))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    json_object_del(json, "chat_template_kwargs");
    if (more && json_object_update(json, more))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return true;
}

static bool read_conversation(const char *path, json_t *tokens, json_t **ret, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_BODY_BYTES, &size, error);
    if (!text)
        return false;

    struct memory_charge charge = {0}; /* not held: only this verb runs in the process */
    json_t *json = json_parse(text, size, NULL, &charge, error);
    memory_charge_release(&charge);
    if (json_is_object(json) && split_conversation(json, tokens, error)) {
        *ret = json;
        return true;
    }
    if (json && !json_is_object(json))
        error_set(error, ERROR_INVALID, "a conversation is a JSON object");
    json_decref(json);
    return error_prefix(error, "%s", path);
}

/* YYYY-MM-DD; NULL is today. */
static bool read_date(const char *text, struct tm *ret) {
    struct tm date = {0};
    const time_t now = time(NULL);
    if (!text)
        return localtime_r(&now, ret) != NULL;

    const char *rest = strptime(text, "%Y-%m-%d", &date);
    if (!rest || *rest)
        return false;
    struct tm given = date;
    date.tm_isdst = -1;
    if (mktime(&date) == -1 || date.tm_mday != given.tm_mday) /* fills in the day of the week */
        return false;
    *ret = date;
    return true;
}

static bool print_segments(const struct chat_prompt *prompt) {
    json_t *list = json_array();
    size_t start = 0;

    for (size_t i = 0; list && i < prompt->segment_count; i++) {
        const struct chat_segment *segment = &prompt->segments[i];
        const char *from = segment->from_conversation ? "conversation" : "template";
        json_t *shown =
            json_pack("{s:s, s:s%}", "from", from, "text", prompt->text + start, segment->end - start);
        if (json_array_append_new(list, shown)) {
            json_decref(list);
            list = NULL;
        }
        start = segment->end;
    }
    return list && cli_print_json(json_pack("{s:o}", "segments", list));
}

int verb_template(int argc, char **argv) {
    const char *today = NULL;
    bool as_json = false;
    const struct option_spec options[] = {{.name = "today", .kind = OPTION_TEXT, .value = &today},
                                          {.name = "json", .kind = OPTION_FLAG, .value = &as_json},
                                          {0}};
    struct chat_variables variables = {0};
    struct chat_prompt prompt = {0};
    struct error error = {0};
    int words, code;
    cleanup(chat_template_freep) struct chat_template *chat = NULL;
    cleanup(json_decrefp) json_t *tokens = json_object();
    cleanup(json_decrefp) json_t *conversation = NULL;

    if (!options_parse(&self, argc, argv, options, 2, 2, &words, &code))
        return code;
    if (!read_date(today, &variables.today))
        return cli_usage(&self, "--today takes a date as 2026-11-28, not '%s'", today ? today : "");
    if (!read_template(argv[1], tokens, &chat, &error) ||
        !read_conversation(argv[2], tokens, &conversation, &error))
        return cli_fail(&error);

    variables.conversation = conversation;
    variables.tokens = tokens;
    if (!chat_template_render(chat, &variables, &prompt, &error)) {
        error_prefix(&error, "%s", argv[1]);
        return cli_fail(&error);
    }
    bool written = as_json
                       ? print_segments(&prompt)
                       : fwrite(prompt.text, 1, prompt.size, stdout) == prompt.size && fflush(stdout) == 0;
    chat_prompt_release(&prompt);
    if (!written)
        error_set(&error, ERROR_IO, "the prompt could not be written to standard output");
    return written ? EXIT_DONE : cli_fail(&error);
}
