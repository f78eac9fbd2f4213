#include "tokenizer/split.h"

#include <string.h>
#include <strings.h>

#include "tokenizer/unicode.h"

/* The expressions are written with these parts:
 *
 *   GPT-2:   's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\sLN]+|\s+(?!\S)|\s+
 *   Llama 3: (?i:'s|…|'d)|[^\r\nLN]?L+|N{1,3}| ?[^\sLN]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *
 * where L is \p{L}, or [\p{L}\p{M}], and N is \p{N}. */
struct word_rules {
    const char *name;
    int most_digits;   /* of a word of digits; 0: any number */
    bool lines;        /* as Llama 3 has it: any case, line ends apart, one sign before letters */
    bool marks;        /* L includes \p{M} */
    bool digits_first; /* single digits are cut out before the rest is looked at */
    bool whole_words;
};

static const struct word_rules all_rules[] = {
    {.name = "gpt-2"},
    {.name = "phi-2"},
    {.name = "mpt"},
    {.name = "starcoder", .digits_first = true},
    {.name = "smollm", .digits_first = true},
    {.name = "refact", .digits_first = true},
    {.name = "command-r", .digits_first = true},
    {.name = "llama-bpe", .lines = true, .most_digits = 3, .whole_words = true},
    {.name = "llama3", .lines = true, .most_digits = 3, .whole_words = true},
    {.name = "llama-v3", .lines = true, .most_digits = 3, .whole_words = true},
    {.name = "smaug-bpe", .lines = true, .most_digits = 3},
    {.name = "dbrx", .lines = true, .most_digits = 3},
    {.name = "qwen2", .lines = true, .most_digits = 1},
    {.name = "deepseek-r1-qwen", .lines = true, .most_digits = 1},
    {.name = "qwen35", .lines = true, .marks = true, .most_digits = 1},
};

const struct word_rules *word_rules_find(struct gguf_text name) {
    for (size_t i = 0; i < sizeof all_rules / sizeof *all_rules; i++)
        if (gguf_text_is(name, all_rules[i].name))
            return &all_rules[i];
    return NULL;
}

bool word_rules_whole_words(const struct word_rules *rules) {
    return rules->whole_words;
}

/* What a character is to the rules. */
enum character_kind { OTHER, LETTER, NUMBER, SPACE, LINE_END };

/* A text under the scanner. */
struct word_scan {
    const struct word_rules *rules;
    const char *text;
    size_t size;
};

static enum character_kind kind_of(const struct word_rules *rules, int32_t character) {
    if (character == '\r' || character == '\n')
        return LINE_END;
    if (character_is_letter(character) || (rules->marks && character_is_mark(character)))
        return LETTER;
    if (character_is_number(character))
        return NUMBER;
    return character_is_space(character) ? SPACE : OTHER;
}

/* The kind of the character at `at`, and where the next one is. */
static enum character_kind kind_at(const struct word_scan *scan, size_t at, size_t *ret_next) {
    size_t size;
    int32_t character = character_at(scan->text + at, scan->size - at, &size);

    *ret_next = at + size;
    return kind_of(scan->rules, character);
}

/* The end of a run of one kind from `at` on, of at most `most` characters (0: any number). */
static size_t run_end(const struct word_scan *scan, size_t at, enum character_kind kind, int most) {
    size_t next;
    for (int count = 0; at < scan->size && (!most || count < most); count++) {
        if (kind_at(scan, at, &next) != kind)
            break;
        at = next;
    }
    return at;
}

/* 's, 't, 're, 've, 'm, 'll, 'd at the start: its bytes, or 0. */
static size_t contraction(const struct word_scan *scan) {
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (scan->text[0] != '\'')
        return 0;

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(endings[i]);
        if (scan->size > size && (scan->rules->lines ? strncasecmp(scan->text + 1, endings[i], size)
                                                     : strncmp(scan->text + 1, endings[i], size)) == 0)
            return 1 + size;
    }
    return 0;
}

/* Does the text go on with a word after white space? Where digits are cut out first, they end it. */
static bool goes_on(const struct word_scan *scan, size_t at) {
    size_t next;
    return at < scan->size && !(scan->rules->digits_first && kind_at(scan, at, &next) == NUMBER);
}

/* A word of white space: up to the last line end of its run where lines count; else all of it, but for the
 * last character where a word follows, which that takes. */
static size_t space_end(const struct word_scan *scan) {
    size_t at = 0, next, last = 0, line = 0;

    while (at < scan->size) {
        enum character_kind kind = kind_at(scan, at, &next);
        if (kind != SPACE && kind != LINE_END)
            break;
        last = at;
        at = next;
        if (kind == LINE_END)
            line = at;
    }

    if (scan->rules->lines && line)
        return line;
    return last > 0 && goes_on(scan, at) ? last : at;
}

static size_t gpt2_end(const struct word_scan *scan) {
    size_t start = scan->text[0] == ' ' ? 1 : 0, next;
    if (goes_on(scan, start)) {
        enum character_kind kind = kind_at(scan, start, &next);
        if (kind != SPACE && kind != LINE_END)
            return run_end(scan, start, kind, 0);
    }
    return space_end(scan);
}

static size_t lines_end(const struct word_scan *scan) {
    size_t second, next, start = scan->text[0] == ' ' ? 1 : 0;
    enum character_kind first = kind_at(scan, 0, &second);

    if (first == LETTER)
        return run_end(scan, 0, LETTER, 0);
    if (first == NUMBER)
        return run_end(scan, 0, NUMBER, scan->rules->most_digits);
    if (first != LINE_END && second < scan->size && kind_at(scan, second, &next) == LETTER)
        return run_end(scan, second, LETTER, 0);
    if (start < scan->size && kind_at(scan, start, &next) == OTHER) {
        size_t end = run_end(scan, start, OTHER, 0);
        return run_end(scan, end, LINE_END, 0);
    }
    return space_end(scan);
}

size_t word_rules_next(const struct word_rules *rules, const char *text, size_t size) {
    struct word_scan scan = {rules, text, size};
    size_t next;

    if (rules->digits_first && kind_at(&scan, 0, &next) == NUMBER)
        return next;

    size_t word = contraction(&scan);
    if (!word)
        word = rules->lines ? lines_end(&scan) : gpt2_end(&scan);
    return word;
}
