#include "server/backend/language/write.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

/* --- Probabilities -------------------------------------------------------------------------------------- */

/* JSON has no infinity. */
static void write_logprob(struct buffer *text, float logprob) {
    buffer_printf(text, "%.6g", logprob > -9999 ? (double)logprob : -9999);
}

static void token_text(const struct tokenizer *tokenizer, int32_t token, struct buffer *ret) {
    tokenizer_decode(tokenizer, token, SPECIAL_AS_TOKENS, ret);
}

/* {"token": …, "logprob": …, "bytes": […] without the closing brace. */
static void write_chance(struct buffer *text, const struct tokenizer *tokenizer,
                         const struct token_chance *chance) {
    struct buffer word = {0};
    token_text(tokenizer, chance->token, &word);

    buffer_append_string(text, "{\"token\":");
    json_append_bytes(text, word.bytes, word.size);
    buffer_append_string(text, ",\"logprob\":");
    write_logprob(text, chance->logprob);
    buffer_append_string(text, ",\"bytes\":[");
    for (size_t i = 0; i < word.size; i++)
        buffer_printf(text, i ? ",%u" : "%u", (unsigned char)word.bytes[i]);
    buffer_append_string(text, "]");
    buffer_release(&word);
}

static void add_chat_chances(struct buffer *text, const struct tokenizer *tokenizer,
                             const struct generated_token *token) {
    write_chance(text, tokenizer, &token->chance);
    buffer_append_string(text, ",\"top_logprobs\":[");
    for (int i = 0; i < token->top_count; i++) {
        buffer_append_string(text, i ? "," : "");
        write_chance(text, tokenizer, &token->top[i]);
        buffer_append_string(text, "}");
    }
    buffer_append_string(text, "]}");
}

static void write_word(struct buffer *text, const struct tokenizer *tokenizer, int32_t token) {
    struct buffer word = {0};
    token_text(tokenizer, token, &word);
    json_append_bytes(text, word.bytes, word.size);
    buffer_release(&word);
}

static void add_completion_chances(struct answer_part *part, const struct tokenizer *tokenizer,
                                   const struct generated_token *token, int64_t offset) {
    write_word(&part->chances[0], tokenizer, token->chance.token);
    write_logprob(&part->chances[1], token->chance.logprob);
    buffer_append_string(&part->chances[2], "{");
    for (int i = 0; i < token->top_count; i++) {
        buffer_append_string(&part->chances[2], i ? "," : "");
        write_word(&part->chances[2], tokenizer, token->top[i].token);
        buffer_append_string(&part->chances[2], ":");
        write_logprob(&part->chances[2], token->top[i].logprob);
    }
    buffer_append_string(&part->chances[2], "}");
    buffer_printf(&part->chances[3], "%lld", (long long)offset);
}

void answer_part_add_chances(struct answer_part *part, enum language_route route,
                             const struct tokenizer *tokenizer, const struct generated_token *token,
                             int64_t offset) {
    for (int i = 0; part->has_chances && i < 4; i++)
        buffer_append_string(&part->chances[i], ",");
    part->has_chances = true;

    if (route == LANGUAGE_CHAT)
        add_chat_chances(&part->chances[0], tokenizer, token);
    else
        add_completion_chances(part, tokenizer, token, offset);
}

/* "null", or what was added. */
static void write_chances(struct buffer *text, enum language_route route, const struct answer_part *part) {
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    buffer_append_string(text, ",\"logprobs\":");
    if (!part->has_chances) {
        buffer_append_string(text, "null");
        return;
    }

    for (int i = 0; i < (route == LANGUAGE_CHAT ? 1 : 4); i++) {
        buffer_printf(text, "%s\"%s\":[", i ? "," : "{", route == LANGUAGE_CHAT ? "content" : names[i]);
        buffer_append(text, part->chances[i].bytes, part->chances[i].size);
        buffer_append_string(text, "]");
    }
    buffer_append_string(text, route == LANGUAGE_CHAT ? ",\"refusal\":null}" : "}");
}

void answer_part_release(struct answer_part *part) {
    buffer_release(&part->content);
    buffer_release(&part->thoughts);
    for (int i = 0; i < 4; i++)
        buffer_release(&part->chances[i]);
    for (size_t i = 0; i < part->call_count; i++) {
        free(part->calls[i].name);
        buffer_release(&part->calls[i].arguments);
    }
    free(part->calls);
    *part = (struct answer_part){0};
}

bool answer_part_is_empty(const struct answer_part *part) {
    return part->content.size == 0 && part->thoughts.size == 0 && part->call_count == 0 && !part->has_chances;
}

/* --- Calls of tools ------------------------------------------------------------------------------------- */

static struct answer_call *add_call(struct answer_part *part, size_t index) {
    struct answer_call *calls = realloc(part->calls, (part->call_count + 1) * sizeof *calls);
    if (!calls)
        return NULL;

    part->calls = calls;
    calls[part->call_count] = (struct answer_call){.index = index};
    return &calls[part->call_count++];
}

bool answer_part_add_call(struct answer_part *part, size_t index, const char *id, const char *name) {
    struct answer_call *call = add_call(part, index);
    if (!call)
        return false;

    text_copy(call->id, sizeof call->id, id);
    call->name = strdup(name);
    return call->name;
}

bool answer_part_add_arguments(struct answer_part *part, size_t index, const char *text, size_t size) {
    struct answer_call *last = part->call_count ? &part->calls[part->call_count - 1] : NULL;
    struct answer_call *call = last && last->index == index ? last : add_call(part, index);
    return call && buffer_append(&call->arguments, text, size);
}

/* `whole`: of a message; else of a delta, which says which call it goes on with. */
static void write_calls(struct buffer *text, const struct answer_part *part, bool whole) {
    buffer_append_string(text, "\"tool_calls\":[");
    for (size_t i = 0; i < part->call_count; i++) {
        const struct answer_call *call = &part->calls[i];
        buffer_append_string(text, i ? ",{" : "{");
        if (!whole)
            buffer_printf(text, "\"index\":%zu,", call->index);
        if (call->name)
            buffer_printf(text, "\"id\":\"%s\",\"type\":\"function\",", call->id);
        buffer_append_string(text, "\"function\":{");
        if (call->name) {
            buffer_append_string(text, "\"name\":");
            json_append_string(text, call->name);
            buffer_append_string(text, ",");
        }
        buffer_append_string(text, "\"arguments\":");
        json_append_bytes(text, call->arguments.bytes, call->arguments.size);
        buffer_append_string(text, "}}");
    }
    buffer_append_string(text, "]");
}

/* --- Documents ------------------------------------------------------------------------------------------ */

static void write_head(struct buffer *text, const struct answer_head *head, const char *object) {
    buffer_printf(text, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", head->id, object,
                  (long long)head->created);
    json_append_string(text, head->model);
    buffer_append_string(text, ",\"system_fingerprint\":\"guichet-" GUICHET_VERSION "\",\"choices\":[");
}

static const char *object_of(const struct answer_head *head, bool chunk) {
    if (head->route == LANGUAGE_COMPLETION)
        return "text_completion";
    return chunk ? "chat.completion.chunk" : "chat.completion";
}

static void write_finish(struct buffer *text, const char *finish) {
    if (finish)
        buffer_printf(text, ",\"finish_reason\":\"%s\"}", finish);
    else
        buffer_append_string(text, ",\"finish_reason\":null}");
}

static void write_usage(struct buffer *text, const struct answer_usage *usage) {
    buffer_printf(text,
                  "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%lld}}}",
                  (long long)usage->prompt, (long long)usage->written,
                  (long long)usage->prompt + (long long)usage->written, (long long)usage->shared);
}

/* The members of a delta that have something to tell. */
static void write_delta(struct buffer *text, const struct answer_part *part, bool begins) {
    const char *comma = "";
    buffer_append_string(text, ",\"delta\":{");
    if (begins) {
        buffer_append_string(text, "\"role\":\"assistant\"");
        comma = ",";
    }
    if (part->thoughts.size > 0) {
        buffer_printf(text, "%s\"reasoning_content\":", comma);
        json_append_bytes(text, part->thoughts.bytes, part->thoughts.size);
        comma = ",";
    }
    if (part->content.size > 0 || begins) {
        buffer_printf(text, "%s\"content\":", comma);
        json_append_bytes(text, part->content.bytes, part->content.size);
        comma = ",";
    }
    if (part->call_count > 0) {
        buffer_append_string(text, comma);
        write_calls(text, part, false);
    }
    buffer_append_string(text, "}");
}

void answer_write_chunk(struct buffer *text, const struct answer_head *head, int index,
                        const struct answer_part *part, bool begins, const char *finish) {
    buffer_append_string(text, "data: ");
    write_head(text, head, object_of(head, true));
    buffer_printf(text, "{\"index\":%d", index);
    if (head->route == LANGUAGE_CHAT) {
        write_delta(text, part, begins);
    } else {
        buffer_append_string(text, ",\"text\":");
        json_append_bytes(text, part->content.bytes, part->content.size);
    }
    write_chances(text, head->route, part);
    write_finish(text, finish);
    buffer_append_string(text, head->tells_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

void answer_write_usage_chunk(struct buffer *text, const struct answer_head *head,
                              const struct answer_usage *usage) {
    buffer_append_string(text, "data: ");
    write_head(text, head, object_of(head, true));
    buffer_append_string(text, "],");
    write_usage(text, usage);
    buffer_append_string(text, "\n\n");
}

void answer_write_begin(struct buffer *text, const struct answer_head *head) {
    write_head(text, head, object_of(head, false));
}

void answer_write_choice(struct buffer *text, const struct answer_head *head, int index,
                         const struct answer_part *part, const char *finish) {
    buffer_printf(text, "%s{\"index\":%d", index ? "," : "", index);
    if (head->route == LANGUAGE_CHAT) {
        buffer_append_string(text, ",\"message\":{\"role\":\"assistant\",\"content\":");
        if (part->call_count > 0 && part->content.size == 0)
            buffer_append_string(text, "null");
        else
            json_append_bytes(text, part->content.bytes, part->content.size);
        buffer_append_string(text, ",\"refusal\":null");
        if (part->call_count > 0) {
            buffer_append_string(text, ",");
            write_calls(text, part, true);
        }
        if (part->thoughts.size > 0) {
            buffer_append_string(text, ",\"reasoning_content\":");
            json_append_bytes(text, part->thoughts.bytes, part->thoughts.size);
        }
        buffer_append_string(text, "}");
    } else {
        buffer_append_string(text, ",\"text\":");
        json_append_bytes(text, part->content.bytes, part->content.size);
    }
    write_chances(text, head->route, part);
    write_finish(text, finish);
}

void answer_write_end(struct buffer *text, const struct answer_usage *usage) {
    buffer_append_string(text, "],");
    write_usage(text, usage);
}
