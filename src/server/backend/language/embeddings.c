/* POST /v1/embeddings: texts as vectors, of a model that is an encoder. On a worker; one request at a time
 * computes. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "server/backend/language/question.h"

struct embedding_request {
    const json_t *input; /* a text, texts, tokens, or several of tokens */
    bool several, base64;
};

static bool read_fields(const struct llm_encoder *encoder, const json_t *body, struct embedding_request *ret,
                        struct error *error) {
    static const char *const ignored[] = {"model", "user", "input", "encoding_format", "dimensions"};
    const char *name, *format = json_string_value(json_object_get(body, "encoding_format"));
    const json_t *input = json_object_get(body, "input"), *dimensions = json_object_get(body, "dimensions");
    json_t *value;

    json_object_foreach((json_t *)body, name, value) {
        bool known = json_is_null(value);
        for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
            known |= strcmp(ignored[i], name) == 0;
        if (!known)
            return error_set(error, ERROR_INVALID, "the field \"%.60s\" is not supported here", name);
    }
    if (json_is_integer(dimensions) && json_integer_value(dimensions) != llm_encoder_width(encoder))
        return error_set(error, ERROR_INVALID,
                         "\"dimensions\" must be %lld: this model's vectors have no others",
                         (long long)llm_encoder_width(encoder));
    if (format && strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        return error_set(error, ERROR_INVALID, "\"encoding_format\" must be \"float\" or \"base64\"");
    if (!json_is_string(input) && (!json_is_array(input) || json_array_size(input) == 0))
        return error_set(error, ERROR_INVALID,
                         "\"input\" must be a string, or an array of strings or of tokens");

    ret->input = input;
    ret->several = json_is_array(input) && !json_is_integer(json_array_get(input, 0));
    ret->base64 = format && strcmp(format, "base64") == 0;
    size_t count = ret->several ? json_array_size(input) : 1;
    return count <= LIMIT_ANSWERS ||
           error_set(error, ERROR_INVALID, "\"input\" has %zu texts; at most %d can be asked at once", count,
                     LIMIT_ANSWERS);
}

static bool read_input(const struct llm_encoder *encoder, const json_t *input, struct token_list *ret,
                       struct error *error) {
    if (json_is_string(input))
        return llm_encoder_tokens(encoder, json_string_value(input), json_string_length(input), ret, error);
    for (size_t i = 0; i < json_array_size(input); i++) {
        const json_t *token = json_array_get(input, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id > INT32_MAX)
            return error_set(error, ERROR_INVALID,
                             "\"input\": an array must hold texts alone, or numbers of tokens");
        if (!token_list_add(ret, (int32_t)id))
            return error_set(error, ERROR_MEMORY, "not enough memory for tokens");
    }
    return json_is_array(input) ||
           error_set(error, ERROR_INVALID, "\"input\" must be a string, or an array of strings or of tokens");
}

static void write_vector(struct buffer *text, const float *vector, size_t width, bool base64) {
    if (!base64) {
        for (size_t i = 0; i < width; i++)
            buffer_printf(text, i ? ",%.9g" : "[%.9g", (double)vector[i]);
        buffer_append_string(text, "]");
        return;
    }

    size_t size = sodium_base64_encoded_len(width * sizeof *vector, sodium_base64_VARIANT_ORIGINAL);
    buffer_append_string(text, "\"");
    char *room = buffer_extend(text, size);
    if (room) {
        sodium_bin2base64(room, size, (const unsigned char *)vector, width * sizeof *vector,
                          sodium_base64_VARIANT_ORIGINAL);
        text->size--; /* the NUL */
    }
    buffer_append_string(text, "\"");
}

static bool write_one(struct language *language, const struct embedding_request *request, size_t index,
                      float *vector, size_t *tokens, struct buffer *text, struct error *error) {
    const struct llm_encoder *encoder = language->encoder;
    const json_t *input = request->several ? json_array_get(request->input, index) : request->input;
    struct token_list list = {0};

    bool done = read_input(encoder, input, &list, error);
    if (done) {
        pthread_mutex_lock(&language->encoding);
        done = llm_encoder_embed(encoder, list.ids, list.count, language->options.threads, vector, error);
        pthread_mutex_unlock(&language->encoding);
    }
    *tokens += list.count;
    token_list_release(&list);
    if (!done)
        return false;

    buffer_printf(text, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", index ? "," : "", index);
    write_vector(text, vector, (size_t)llm_encoder_width(encoder), request->base64);
    return buffer_append_string(text, "}") || error_set(error, ERROR_MEMORY, "not enough memory for vectors");
}

static bool answer_vectors(struct language *language, const json_t *body, struct buffer *text,
                           struct error *error) {
    struct embedding_request request = {0};
    size_t tokens = 0;
    if (!read_fields(language->encoder, body, &request, error))
        return false;
    float *vector = calloc((size_t)llm_encoder_width(language->encoder), sizeof *vector);
    if (!vector)
        return error_set(error, ERROR_MEMORY, "not enough memory for a vector");

    bool done = true;
    buffer_append_string(text, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; done && i < (request.several ? json_array_size(request.input) : 1); i++)
        done = write_one(language, &request, i, vector, &tokens, text, error);
    buffer_append_string(text, "],\"model\":");
    json_append_string(text, language->options.name);
    buffer_printf(text, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", tokens, tokens);
    free(vector);
    return done;
}

void language_embed(struct language *language, struct http_request *request) {
    if (language_check_kind(language, request, true))
        question_ask(language, request, answer_vectors);
}
