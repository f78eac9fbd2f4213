/* BERT's WordPiece: text in lower case without accents, parted at blanks and punctuation; each word is cut
 * into the longest pieces that are tokens, front to back. Devlin et al. 2018,
 * https://arxiv.org/abs/1810.04805. In GGUF a piece that begins a word has ▁ in front, and the others have no
 * "##". */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tokenizer/kinds.h"
#include "tokenizer/unicode.h"

#define BEGIN "\xe2\x96\x81" /* ▁ */
enum { BEGIN_SIZE = 3, LONGEST_WORD = 100 /* characters; longer ones are unknown, as in BERT's own code */ };

/* Cut word[0, size), which has BEGIN in front, into pieces. */
static bool add_word(const struct tokenizer *tokenizer, const char *word, size_t size, int characters,
                     struct token_list *list, struct error *error) {
    size_t before = list->count;

    for (size_t at = 0; at < size;) {
        size_t end = size;
        int32_t id = -1;
        if (end - at > tokenizer->vocabulary.longest)
            end = at + tokenizer->vocabulary.longest;
        for (; characters <= LONGEST_WORD && end > at; end--)
            if ((id = vocabulary_find(&tokenizer->vocabulary, word + at, end - at)) >= 0)
                break;

        if (id < 0) { /* all of the word is unknown */
            list->count = before;
            return tokenizer_add_unknown(tokenizer, list, error);
        }
        if (!token_list_add(list, id))
            return tokenizer_no_memory(tokenizer, error);
        at = end;
    }
    return true;
}

/* The word under construction, with BEGIN in front. */
struct wordpiece_word {
    struct buffer text;
    int characters;
};

static bool word_end(const struct tokenizer *tokenizer, struct wordpiece_word *word, struct token_list *list,
                     struct error *error) {
    bool done = word->characters == 0 ||
                add_word(tokenizer, word->text.bytes, word->text.size, word->characters, list, error);
    word->text.size = 0;
    word->characters = 0;
    return done;
}

static bool word_add(const struct tokenizer *tokenizer, struct wordpiece_word *word, int32_t character,
                     struct error *error) {
    char bytes[4];
    if ((word->characters == 0 && !buffer_append(&word->text, BEGIN, BEGIN_SIZE)) ||
        !buffer_append(&word->text, bytes, character_write(character, bytes)))
        return tokenizer_no_memory(tokenizer, error);

    word->characters++;
    return true;
}

static bool add_character(const struct tokenizer *tokenizer, struct wordpiece_word *word, int32_t character,
                          struct token_list *list, struct error *error) {
    bool alone = character_is_punctuation(character) || character_is_ideograph(character);
    if (character_is_space(character))
        return word_end(tokenizer, word, list, error);
    if (!alone)
        return word_add(tokenizer, word, character, error);

    return word_end(tokenizer, word, list, error) && word_add(tokenizer, word, character, error) &&
           word_end(tokenizer, word, list, error);
}

static bool encode(const struct tokenizer *tokenizer, const char *text, size_t size, bool first,
                   struct token_list *list, struct error *error) {
    struct wordpiece_word word = {0};
    int32_t folded[18];
    bool done = true;

    for (size_t at = 0, length; done && at < size; at += length) {
        int32_t character = character_at(text + at, size - at, &length);
        if (character <= 0 || character == 0xfffd ||
            (character_is_control(character) && !character_is_space(character)))
            continue;
        int count = character_fold(character, folded);
        for (int i = 0; done && i < count; i++)
            done = add_character(tokenizer, &word, folded[i], list, error);
    }

    done = done && word_end(tokenizer, &word, list, error);
    buffer_release(&word.text);
    return done;
}

static bool decode(const struct tokenizer *tokenizer, const struct vocabulary_token *token,
                   struct buffer *ret) {
    bool begins = token->size >= BEGIN_SIZE && memcmp(token->bytes, BEGIN, BEGIN_SIZE) == 0;
    size_t skipped = begins ? BEGIN_SIZE : 0;

    return (!begins || ret->size == 0 || buffer_append(ret, " ", 1)) &&
           buffer_append(ret, token->bytes + skipped, token->size - skipped);
}

const struct tokenizer_kind wordpiece_kind = {.name = "bert", .encode = encode, .decode = decode};
