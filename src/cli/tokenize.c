/* guichet tokenize: the tokens of texts, for comparing with other tokenizers. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/verbs.h"
#include "tokenizer/tokenizer.h"

DEFINE_FREEP(struct tokenizer, tokenizer)

static const char help[] =
    "Print the tokens of a text.\n"
    "\n"
    "Usage: guichet tokenize MODEL FILE [OPTION…]\n"
    "\n"
    "Prints the numbers of the tokens on one line. FILE may be - for standard input. Nothing is put\n"
    "before or after the text (no BOS), and special tokens in it are text like any other. The model\n"
    "needs no weights: a file with a vocabulary only will do.\n"
    "\n"
    "  --separator LINE   FILE holds several texts, with such a line after each; one line a text\n"
    "\n"
    "Example:\n"
    "  guichet tokenize smollm2.gguf story.txt\n";

static const struct command self = {"tokenize", help};

static bool print_tokens(const struct tokenizer *tokenizer, const char *text, size_t size,
                         struct error *error) {
    struct token_list tokens = {0};
    bool done = tokenizer_encode(tokenizer, text, size, SPECIAL_AS_TEXT, &tokens, error);

    for (size_t i = 0; done && i < tokens.count; i++)
        printf("%s%d", i ? " " : "", tokens.ids[i]);
    if (done)
        putchar('\n');
    token_list_release(&tokens);
    return done;
}

/* The next line that is `separator`, with the line end before it; NULL: there is none. *ret_after: what
 * follows. */
static const char *find_separator(const char *start, const char *end, const char *separator,
                                  const char **ret_after) {
    size_t size = strlen(separator);

    for (const char *at = start; at < end; at++) {
        at = memmem(at, (size_t)(end - at), separator, size);
        if (!at)
            return NULL;

        const char *after = at + size;
        bool whole = (at == start || at[-1] == '\n') && (after == end || *after == '\n');
        if (whole) {
            *ret_after = after == end ? end : after + 1;
            return at == start ? at : at - 1;
        }
    }
    return NULL;
}

static bool print_texts(const struct tokenizer *tokenizer, const char *text, size_t size,
                        const char *separator, struct error *error) {
    const char *end = text + size, *after, *found;
    if (!separator)
        return print_tokens(tokenizer, text, size, error);

    for (; (found = find_separator(text, end, separator, &after)); text = after)
        if (!print_tokens(tokenizer, text, (size_t)(found - text), error))
            return false;
    return text == end || print_tokens(tokenizer, text, (size_t)(end - text), error);
}

static bool run(const char *model, const char *path, const char *separator, struct error *error) {
    cleanup(gguf_freep) struct gguf *gguf = language_open(model, error);
    cleanup(tokenizer_freep) struct tokenizer *tokenizer = gguf ? tokenizer_create(gguf, error) : NULL;
    size_t size;
    cleanup(freep) char *text = tokenizer ? file_read(strcmp(path, "-") == 0 ? "/dev/stdin" : path,
                                                      LIMIT_TOKENIZED_BYTES, &size, error)
                                          : NULL;

    return text && print_texts(tokenizer, text, size, separator, error);
}

int verb_tokenize(int argc, char **argv) {
    const char *separator = NULL;
    const struct option_spec options[] = {
        {.name = "separator", .kind = OPTION_TEXT, .value = &separator},
        {0},
    };
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 2, 2, &words, &code))
        return code;
    if (separator && !*separator)
        return cli_usage(&self, "--separator is empty");
    return run(argv[1], argv[2], separator, &error) ? EXIT_DONE : cli_fail(&error);
}
