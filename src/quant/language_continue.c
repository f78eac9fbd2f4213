#include "quant/language_continue.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

enum { BEGINNING = 12, CONTINUATION = 48, WORDS = 200 };

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* What is no UTF-8, or may not stand in a page, becomes U+FFFD. */
static char *clean(struct buffer *from) {
    struct buffer out = {0};
    for (size_t at = 0; at < from->size;) {
        int length = utf8_length(from->bytes + at, from->size - at);
        unsigned char first = (unsigned char)from->bytes[at];
        if (length < 1 || (first < 32 && !is_space((char)first)) || first == 127)
            buffer_append_string(&out, "\xef\xbf\xbd");
        else
            buffer_append(&out, from->bytes + at, (size_t)length);
        at += length < 1 ? 1 : (size_t)length;
    }
    buffer_release(from);
    if (!out.failed && out.bytes)
        return out.bytes;
    buffer_release(&out);
    return out.failed ? NULL : strdup("");
}

static char *text_of(const struct llm_model *model, const int32_t *tokens, int count) {
    struct buffer out = {0};
    for (int i = 0; i < count; i++)
        tokenizer_decode(llm_model_tokenizer(model), tokens[i], SPECIAL_AS_TEXT, &out);
    return clean(&out);
}

static int32_t likeliest(const float *logits, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* ret: [CONTINUATION] tokens. */
static bool go_on(struct llm_context *context, const int32_t *beginning, int count, int32_t *ret,
                  struct error *error) {
    struct llm_row rows[BEGINNING + 1];
    struct llm_sequence sequence = {0};
    float *logits;

    for (int i = 0; i < count; i++)
        rows[i] = (struct llm_row){&sequence, beginning[i], i + 1 == count, true};
    bool done = llm_context_run(context, rows, count, &logits, error);
    for (int i = 0; done && i < CONTINUATION; i++) {
        ret[i] = likeliest(logits, llm_context_vocabulary(context));
        rows[0] = (struct llm_row){&sequence, ret[i], true, false};
        done = i + 1 == CONTINUATION || llm_context_run(context, rows, 1, &logits, error);
    }
    llm_sequence_release(context, &sequence);
    return done;
}

bool language_continue(struct language_comparison *comparison, struct llm_context *const contexts[2],
                       const struct language_text *judges, struct error *error) {
    int beginning = judges->window < BEGINNING + 1 ? judges->window : BEGINNING + 1;
    for (int i = 0; i < LANGUAGE_CONTINUATIONS && i < judges->windows; i++) {
        struct language_continuation *continuation = &comparison->continuations[i];
        const int32_t *tokens = judges->tokens + (size_t)i * (size_t)judges->window;
        int32_t written[CONTINUATION];

        continuation->beginning = text_of(comparison->sides[0].model, tokens, beginning);
        for (int side = 0; side < 2; side++) {
            if (!go_on(contexts[side], tokens, beginning, written, error))
                return false;
            continuation->texts[side] = text_of(comparison->sides[side].model, written, CONTINUATION);
        }
        comparison->continuation_count = i + 1;
        if (!continuation->beginning || !continuation->texts[0] || !continuation->texts[1])
            return error_set(error, ERROR_MEMORY, "not enough memory for continuations");
    }
    return true;
}

/* --- Words ---------------------------------------------------------------------------------------------- */

struct text_word {
    const char *at;
    size_t size;
};

static int cut(const char *text, struct text_word *ret) {
    int count = 0;
    while (*text && count < WORDS) {
        while (is_space(*text))
            text++;
        const char *start = text;
        while (*text && !is_space(*text))
            text++;
        if (text > start)
            ret[count++] = (struct text_word){start, (size_t)(text - start)};
    }
    return count;
}

static bool equal(struct text_word a, struct text_word b) {
    return a.size == b.size && memcmp(a.at, b.at, a.size) == 0;
}

bool language_words_differ(const char *a, const char *b, bool **ret_a, bool **ret_b, struct error *error) {
    struct text_word first[WORDS], second[WORDS];
    int rows = cut(a, first), columns = cut(b, second);
    short(*common)[WORDS + 1] = calloc(WORDS + 1, sizeof *common); /* words in common from here on */
    bool *differ_a = calloc((size_t)rows + 1, sizeof *differ_a),
         *differ_b = calloc((size_t)columns + 1, sizeof *differ_b);
    if (!common || !differ_a || !differ_b) {
        free(common);
        free(differ_a);
        free(differ_b);
        return error_set(error, ERROR_MEMORY, "not enough memory to compare texts");
    }

    for (int i = rows - 1; i >= 0; i--)
        for (int j = columns - 1; j >= 0; j--)
            common[i][j] = equal(first[i], second[j])            ? (short)(common[i + 1][j + 1] + 1)
                           : common[i + 1][j] > common[i][j + 1] ? common[i + 1][j]
                                                                 : common[i][j + 1];
    for (int i = 0, j = 0; i < rows || j < columns;) {
        if (i < rows && j < columns && equal(first[i], second[j])) {
            i++;
            j++;
        } else if (j >= columns || (i < rows && common[i + 1][j] >= common[i][j + 1])) {
            differ_a[i++] = true;
        } else {
            differ_b[j++] = true;
        }
    }
    free(common);
    *ret_a = differ_a;
    *ret_b = differ_b;
    return true;
}
