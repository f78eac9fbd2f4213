#include "server/backend/language/fields.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "server/backend/language/messages.h"

struct field_reading {
    struct language_fields *fields;
    int32_t vocabulary;
    const char *name; /* of the field */
};

static bool expected(const struct field_reading *reading, const char *what, struct error *error) {
    return error_set(error, ERROR_INVALID, "\"%s\" must be %s", reading->name, what);
}

/* --- Values --------------------------------------------------------------------------------------------- */

static bool read_bool(struct field_reading *reading, const json_t *value, bool *ret, struct error *error) {
    if (!json_is_boolean(value))
        return expected(reading, "true or false", error);
    *ret = json_is_true(value);
    return true;
}

static bool read_whole(struct field_reading *reading, const json_t *value, int64_t least, int64_t most,
                       int64_t *ret, struct error *error) {
    if (!json_is_integer(value) || json_integer_value(value) < least || json_integer_value(value) > most)
        return error_set(error, ERROR_INVALID, "\"%s\" must be a whole number from %lld to %lld",
                         reading->name, (long long)least, (long long)most);
    *ret = json_integer_value(value);
    return true;
}

static bool read_real(struct field_reading *reading, const json_t *value, double least, double most,
                      double *ret, struct error *error) {
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= least && number <= most))
        return error_set(error, ERROR_INVALID, "\"%s\" must be a number from %g to %g", reading->name, least,
                         most);
    *ret = number;
    return true;
}

/* --- Fields --------------------------------------------------------------------------------------------- */

static bool read_stream(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_bool(reading, value, &reading->fields->stream, error);
}

static bool read_stream_options(struct field_reading *reading, const json_t *value, struct error *error) {
    const char *name;
    json_t *option;
    bool ignored = false;
    if (!json_is_object(value))
        return expected(reading, "an object, such as {\"include_usage\": true}", error);

    json_object_foreach((json_t *)value, name, option) {
        bool usage = strcmp(name, "include_usage") == 0;
        if (!usage && strcmp(name, "include_obfuscation") != 0)
            return error_set(error, ERROR_INVALID,
                             "\"stream_options\" has the field \"%.60s\", which is not known", name);
        if (!json_is_null(option) &&
            !read_bool(reading, option, usage ? &reading->fields->include_usage : &ignored, error))
            return false;
    }
    return true;
}

static bool read_n(struct field_reading *reading, const json_t *value, struct error *error) {
    int64_t n = 0;
    if (!read_whole(reading, value, 1, LIMIT_ANSWERS, &n, error))
        return false;
    reading->fields->n = (int)n;
    return true;
}

/* More than one answer is never thrown away. */
static bool read_best_of(struct field_reading *reading, const json_t *value, struct error *error) {
    int64_t best_of = 0;
    return read_whole(reading, value, 1, 1, &best_of, error);
}

static bool read_most(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_whole(reading, value, 1, INT32_MAX, &reading->fields->most, error);
}

static bool read_temperature(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, 0, 100, &reading->fields->sampling.temperature, error);
}

static bool read_top_p(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, 0, 1, &reading->fields->sampling.top_p, error);
}

static bool read_min_p(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, 0, 1, &reading->fields->sampling.min_p, error);
}

static bool read_top_k(struct field_reading *reading, const json_t *value, struct error *error) {
    int64_t top_k = 0;
    if (!read_whole(reading, value, -1, INT32_MAX, &top_k, error))
        return false;
    reading->fields->sampling.top_k = top_k < 0 ? 0 : (int)top_k;
    return true;
}

static bool read_repeat(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, 0.01, 100, &reading->fields->sampling.repeat_penalty, error);
}

static bool read_presence(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, -2, 2, &reading->fields->sampling.presence_penalty, error);
}

static bool read_frequency(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_real(reading, value, -2, 2, &reading->fields->sampling.frequency_penalty, error);
}

static bool read_seed(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_integer(value))
        return expected(reading, "a whole number", error);
    reading->fields->sampling.seed = (uint64_t)json_integer_value(value);
    reading->fields->has_seed = true;
    return true;
}

static bool add_stop(struct field_reading *reading, const json_t *value, struct error *error) {
    struct language_fields *fields = reading->fields;
    size_t size = json_string_length(value);
    if (!json_is_string(value) || fields->stop_count == FIELDS_STOPS || size == 0 || size > LIMIT_STOP_BYTES)
        return error_set(error, ERROR_INVALID,
                         "\"stop\" must be a string, or at most %d of them, each of 1 to %d bytes",
                         FIELDS_STOPS, LIMIT_STOP_BYTES);

    char *copy = strdup(json_string_value(value));
    if (!copy)
        return error_set(error, ERROR_MEMORY, "not enough memory for a stop string");
    fields->stops[fields->stop_count++] = copy;
    return true;
}

static bool read_stop(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_array(value))
        return add_stop(reading, value, error);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!add_stop(reading, json_array_get(value, i), error))
            return false;
    return true;
}

static bool read_logit_bias(struct field_reading *reading, const json_t *value, struct error *error) {
    struct language_fields *fields = reading->fields;
    const char *name;
    json_t *bias;
    if (!json_is_object(value))
        return expected(reading, "an object of tokens' numbers, each with a bias from -100 to 100", error);

    fields->biases = calloc(json_object_size(value) + 1, sizeof *fields->biases);
    if (!fields->biases)
        return error_set(error, ERROR_MEMORY, "not enough memory for logit_bias");
    json_object_foreach((json_t *)value, name, bias) {
        char *end;
        long token = strtol(name, &end, 10);
        double number = json_number_value(bias);
        if (end == name || *end || token < 0 || token >= reading->vocabulary || !json_is_number(bias) ||
            !(number >= -100 && number <= 100))
            return error_set(
                error, ERROR_INVALID,
                "\"logit_bias\": \"%.20s\" must be the number of a token below %d, its bias from -100 "
                "to 100",
                name, reading->vocabulary);
        fields->biases[fields->bias_count++] = (struct token_bias){(int32_t)token, (float)number};
    }
    return true;
}

/* Of a chat true or false, of a completion how many alternatives. */
static bool read_logprobs(struct field_reading *reading, const json_t *value, struct error *error) {
    int *top = &reading->fields->top;
    int64_t number = 0;
    bool wanted = false;
    if (reading->fields->route == LANGUAGE_CHAT) {
        if (!read_bool(reading, value, &wanted, error))
            return false;
        *top = !wanted ? -1 : *top < 0 ? 0 : *top;
        return true;
    }

    if (!read_whole(reading, value, 0, GENERATION_TOP, &number, error))
        return false;
    *top = (int)number;
    return true;
}

/* After logprobs. */
static bool read_top_logprobs(struct field_reading *reading, const json_t *value, struct error *error) {
    int64_t number = 0;
    if (!read_whole(reading, value, 0, GENERATION_TOP, &number, error))
        return false;
    if (reading->fields->top < 0 && number > 0)
        return error_set(error, ERROR_INVALID, "\"top_logprobs\" needs \"logprobs\": true");
    if (reading->fields->top >= 0)
        reading->fields->top = (int)number;
    return true;
}

static bool read_cache_prompt(struct field_reading *reading, const json_t *value, struct error *error) {
    bool shares = true;
    if (!read_bool(reading, value, &shares, error))
        return false;
    reading->fields->is_apart = !shares;
    return true;
}

static bool read_ignore_eos(struct field_reading *reading, const json_t *value, struct error *error) {
    return read_bool(reading, value, &reading->fields->goes_on, error);
}

static bool read_user(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_string(value))
        return expected(reading, "a string", error);
    reading->fields->user = json_string_value(value);
    return true;
}

static bool read_prompt(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_string(value) && (!json_is_array(value) || json_array_size(value) == 0))
        return expected(reading, "a string, or an array of strings or of tokens", error);
    reading->fields->prompt = value;
    return true;
}

static bool read_messages(struct field_reading *reading, const json_t *value, struct error *error) {
    json_t *messages = messages_read(value, error);
    return messages && (json_object_set_new(reading->fields->conversation, "messages", messages) == 0 ||
                        error_set(error, ERROR_MEMORY, "not enough memory for a conversation"));
}

static bool read_kwargs(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_object(value))
        return expected(reading, "an object", error);
    if (json_object_get(value, "messages") || json_object_get(value, "tools"))
        return error_set(error, ERROR_INVALID, "\"%s\" may not have \"messages\" or \"tools\"",
                         reading->name);
    return json_object_update(reading->fields->conversation, (json_t *)value) == 0 ||
           error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
}

/* {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}} */
static bool read_schema(struct field_reading *reading, const json_t *format, struct error *error) {
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return error_set(error, ERROR_INVALID,
                         "\"response_format\" has no schema: send {\"type\": \"json_schema\", "
                         "\"json_schema\": {\"name\": \"…\", \"schema\": {…}}}");

    char *text = json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return error_set(error, ERROR_MEMORY, "not enough memory for a schema");
    reading->fields->constraint = constraint_create(text, strlen(text), error);
    free(text);
    return reading->fields->constraint || error_prefix(error, "\"response_format\"");
}

static bool read_response_format(struct field_reading *reading, const json_t *value, struct error *error) {
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type && strcmp(type, "text") == 0)
        return true;
    if (type && strcmp(type, "json_schema") == 0)
        return read_schema(reading, value, error);
    if (!type || strcmp(type, "json_object") != 0)
        return expected(reading, "{\"type\": \"text\"}, \"json_object\" or \"json_schema\"", error);

    reading->fields->constraint = constraint_create_object(error);
    return reading->fields->constraint;
}

static bool read_tools(struct field_reading *reading, const json_t *value, struct error *error) {
    if (!json_is_array(value))
        return expected(reading, "an array", error);
    return json_array_size(value) == 0 ||
           error_set(error, ERROR_INVALID, "\"tools\" are not supported yet: leave them out");
}

static bool read_tool_choice(struct field_reading *reading, const json_t *value, struct error *error) {
    const char *choice = json_string_value(value);
    if (choice && (strcmp(choice, "none") == 0 || strcmp(choice, "auto") == 0))
        return true;
    return error_set(error, ERROR_INVALID,
                     "\"tool_choice\" must be \"none\" or \"auto\": tool calls are not supported yet");
}

static bool read_modalities(struct field_reading *reading, const json_t *value, struct error *error) {
    const char *only = json_string_value(json_array_get(value, 0));
    if (json_array_size(value) == 1 && only && strcmp(only, "text") == 0)
        return true;
    return expected(reading, "[\"text\"]", error);
}

/* What only tells of the request, or how fast it is wanted, and never changes the answer. */
static bool ignore(struct field_reading *reading, const json_t *value, struct error *error) {
    return true;
}

static const struct field {
    const char *name;
    unsigned routes;
    bool (*read)(struct field_reading *reading, const json_t *value, struct error *error);
} known[] = {
    {"model", LANGUAGE_CHAT | LANGUAGE_COMPLETION, ignore},
    {"messages", LANGUAGE_CHAT, read_messages},
    {"prompt", LANGUAGE_COMPLETION, read_prompt},
    {"stream", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_stream},
    {"stream_options", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_stream_options},
    {"n", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_n},
    {"best_of", LANGUAGE_COMPLETION, read_best_of},
    {"max_tokens", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_most},
    {"max_completion_tokens", LANGUAGE_CHAT, read_most}, /* the newer word counts */
    {"temperature", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_temperature},
    {"top_p", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_top_p},
    {"top_k", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_top_k},
    {"min_p", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_min_p},
    {"repeat_penalty", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_repeat},
    {"repetition_penalty", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_repeat},
    {"presence_penalty", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_presence},
    {"frequency_penalty", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_frequency},
    {"seed", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_seed},
    {"stop", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_stop},
    {"logit_bias", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_logit_bias},
    {"logprobs", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_logprobs},
    {"top_logprobs", LANGUAGE_CHAT, read_top_logprobs},
    {"cache_prompt", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_cache_prompt},
    {"ignore_eos", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_ignore_eos},
    {"chat_template_kwargs", LANGUAGE_CHAT, read_kwargs},
    {"response_format", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_response_format},
    {"tools", LANGUAGE_CHAT, read_tools},
    {"tool_choice", LANGUAGE_CHAT, read_tool_choice},
    {"parallel_tool_calls", LANGUAGE_CHAT, ignore}, /* there are none */
    {"modalities", LANGUAGE_CHAT, read_modalities},
    {"user", LANGUAGE_CHAT | LANGUAGE_COMPLETION, read_user},
    {"safety_identifier", LANGUAGE_CHAT | LANGUAGE_COMPLETION, ignore},
    {"metadata", LANGUAGE_CHAT | LANGUAGE_COMPLETION, ignore},
    {"store", LANGUAGE_CHAT, ignore},
    {"service_tier", LANGUAGE_CHAT, ignore},
    {"prompt_cache_key", LANGUAGE_CHAT, ignore},
    {"prompt_cache_retention", LANGUAGE_CHAT, ignore},
    {"prediction", LANGUAGE_CHAT, ignore},
};

/* --- All of them ---------------------------------------------------------------------------------------- */

static bool check_names(const json_t *body, enum language_route route, struct error *error) {
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)body, name, value) {
        bool is_known = json_is_null(value);
        for (size_t i = 0; !is_known && i < sizeof known / sizeof *known; i++)
            is_known = known[i].routes & route && strcmp(known[i].name, name) == 0;
        if (!is_known)
            return error_set(
                error, ERROR_INVALID,
                "the field \"%.60s\" is not supported here; it might change the answer, so it is "
                "not ignored",
                name);
    }
    return true;
}

static bool check_whole(const struct language_fields *fields, struct error *error) {
    if (fields->route == LANGUAGE_CHAT && !json_object_get(fields->conversation, "messages"))
        return error_set(error, ERROR_INVALID,
                         "there are no \"messages\": send [{\"role\": \"user\", \"content\": \"…\"}]");
    if (fields->route == LANGUAGE_COMPLETION && !fields->prompt)
        return error_set(error, ERROR_INVALID, "there is no \"prompt\"");
    return true;
}

bool language_fields_read(const json_t *body, enum language_route route, int32_t vocabulary,
                          struct language_fields *ret, struct error *error) {
    struct field_reading reading = {.fields = ret, .vocabulary = vocabulary};
    *ret = (struct language_fields){.route = route, .n = 1, .top = -1, .sampling = SAMPLER_DEFAULTS};
    if (!json_is_object(body))
        return error_set(error, ERROR_INVALID, "the body must be a JSON object");
    if (route == LANGUAGE_CHAT && !(ret->conversation = json_pack("{s:b}", "add_generation_prompt", 1)))
        return error_set(error, ERROR_MEMORY, "not enough memory for a conversation");
    if (!check_names(body, route, error))
        return false;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const json_t *value = json_object_get(body, known[i].name);
        reading.name = known[i].name;
        if (value && !json_is_null(value) && !known[i].read(&reading, value, error))
            return false;
    }
    if (ret->route == LANGUAGE_COMPLETION && ret->most == 0)
        ret->most = 16; /* as OpenAI has it */
    return check_whole(ret, error);
}

void language_fields_release(struct language_fields *fields) {
    for (int i = 0; i < fields->stop_count; i++)
        free(fields->stops[i]);
    free(fields->biases);
    constraint_free(fields->constraint);
    json_decref(fields->conversation);
    *fields = (struct language_fields){0};
}
