#include "server/backend/language/messages.h"

#include <string.h>

#include "base/buffer.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
}

/* Parts of text, one after the other. */
static json_t *join_parts(const json_t *parts, size_t number, struct error *error) {
    struct buffer text = {0};

    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i), *words = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(words)) {
            error_set(error, ERROR_INVALID,
                      "message %zu has a part of the type \"%.40s\": this model takes text alone", number,
                      type ? type : "");
            buffer_release(&text);
            return NULL;
        }
        buffer_append(&text, json_string_value(words), json_string_length(words));
    }

    json_t *joined = text.failed ? NULL : json_stringn(text.bytes ? text.bytes : "", text.size);
    buffer_release(&text);
    if (!joined)
        no_memory(error);
    return joined;
}

static bool read_content(json_t *message, size_t number, struct error *error) {
    const json_t *content = json_object_get(message, "content");
    bool calls = json_array_size(json_object_get(message, "tool_calls")) > 0;
    if (json_is_string(content) || (calls && (!content || json_is_null(content))))
        return true;
    if (!json_is_array(content))
        return error_set(error, ERROR_INVALID, "message %zu has no \"content\": a string, or parts of text",
                         number);

    json_t *joined = join_parts(content, number, error);
    return joined && (json_object_set_new(message, "content", joined) == 0 || no_memory(error));
}

/* Templates write arguments as JSON themselves. */
static bool read_calls(json_t *message, struct error *error) {
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t i;

    json_array_foreach(calls, i, call) {
        json_t *function = json_object_get(call, "function");
        const json_t *arguments = json_object_get(function, "arguments");
        json_t *parsed = json_is_string(arguments)
                             ? json_loadb(json_string_value(arguments), json_string_length(arguments),
                                          JSON_REJECT_DUPLICATES, NULL)
                             : NULL;
        if (parsed && json_object_set_new(function, "arguments", parsed) != 0)
            return no_memory(error);
    }
    return true;
}

static bool read_role(json_t *message, size_t number, struct error *error) {
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role || !*role)
        return error_set(error, ERROR_INVALID, "message %zu has no \"role\": \"user\", \"assistant\" …",
                         number);
    /* OpenAI's newer word for what templates call the system. */
    return strcmp(role, "developer") != 0 ||
           json_object_set_new(message, "role", json_string("system")) == 0 || no_memory(error);
}

json_t *messages_read(const json_t *messages, struct error *error) {
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        error_set(error, ERROR_INVALID, "\"messages\" must be an array of at least one message");
        return NULL;
    }

    json_t *copy = json_deep_copy(messages), *message;
    size_t i;
    if (!copy)
        no_memory(error);
    json_array_foreach(copy, i, message) {
        if (!json_is_object(message))
            error_set(error, ERROR_INVALID, "message %zu is not an object", i);
        if (!json_is_object(message) || !read_role(message, i, error) || !read_content(message, i, error) ||
            !read_calls(message, error)) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy;
}
