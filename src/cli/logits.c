/* guichet logits: what a language model thinks of every next token, for comparing with other programs. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/verbs.h"

static const char help[] =
    "Write the logits of every position of a list of tokens.\n"
    "\n"
    "Usage: guichet logits MODEL --tokens 1,2,3 --output OUT.f32 [OPTION…]\n"
    "\n"
    "OUT.f32 gets [tokens, vocabulary] numbers, little-endian float32, row by row, without a header.\n"
    "Prints the shape.\n"
    "\n"
    "  --tokens LIST      numbers of tokens, parted by commas; BOS is not added\n"
    "  --output FILE      where the logits go\n"
    "  --step             one token at a time, as when a text is continued\n"
    "  --precision P      auto; f32: exactly, several times slower (auto)\n"
    "  --threads N        threads (all processors)\n"
    "\n"
    "Example:\n"
    "  guichet logits smollm2.gguf --tokens 1,403,407,261,378 --output logits.f32\n";

static const struct command self = {"logits", help};

struct logits_arguments {
    const char *tokens, *output, *precision_text;
    bool step;
    int threads;
    enum llm_precision precision;
};

static bool parse_tokens(const char *text, struct token_list *ret, struct error *error) {
    for (const char *at = text;; at++) {
        char *end;
        long token = strtol(at, &end, 10);
        if (end == at || token < 0 || token > INT_MAX || (*end && *end != ','))
            return error_set(error, ERROR_INVALID, "--tokens wants numbers like 1,2,3, not '%s'", text);
        if (!token_list_add(ret, (int32_t)token))
            return error_set(error, ERROR_MEMORY, "not enough memory for the tokens");
        at = end;
        if (!*at)
            return true;
    }
}

/* All rows at once, or one run for each. */
static bool run(struct llm_context *context, const struct token_list *tokens, bool step, size_t vocabulary,
                float *ret, struct error *error) {
    cleanup(freep) struct llm_row *rows = calloc(tokens->count, sizeof *rows);
    struct llm_sequence sequence = {0};
    size_t batch = step ? 1 : tokens->count;
    bool done = rows || error_set(error, ERROR_MEMORY, "not enough memory for the tokens");

    for (size_t i = 0; done && i < tokens->count; i++)
        rows[i] = (struct llm_row){&sequence, tokens->ids[i], .wants_logits = true, .is_prompt = !step};
    for (size_t i = 0; done && i < tokens->count; i += batch) {
        float *logits;
        done = llm_context_run(context, rows + i, (int)batch, &logits, error);
        if (done)
            memcpy(ret + i * vocabulary, logits, batch * vocabulary * sizeof *ret);
    }

    llm_sequence_release(context, &sequence);
    return done;
}

static bool write_logits(const char *path, const struct logits_arguments *arguments,
                         const struct token_list *tokens, struct error *error) {
    cleanup(llm_model_freep) struct llm_model *model = language_load(path, error);
    cleanup(llm_context_freep) struct llm_context *context = NULL;
    if (!model)
        return false;

    const struct llm_context_options options = {.rows = (int)tokens->count,
                                                .positions = (int64_t)tokens->count,
                                                .threads = arguments->threads,
                                                .precision = arguments->precision};
    context = llm_context_create(model, &options, error);
    if (!context)
        return false;

    size_t vocabulary = (size_t)llm_model_vocabulary(model),
           bytes = tokens->count * vocabulary * sizeof(float);
    cleanup(freep) float *logits = malloc(bytes);
    if (!logits)
        return error_set(error, ERROR_MEMORY, "not enough memory for the logits of %zu tokens",
                         tokens->count);
    if (!run(context, tokens, arguments->step, vocabulary, logits, error) ||
        !file_write(arguments->output, logits, bytes, error))
        return false;

    printf("%zux%zu\n", tokens->count, vocabulary);
    return true;
}

int verb_logits(int argc, char **argv) {
    struct logits_arguments arguments = {0};
    const struct option_spec options[] = {
        {.name = "tokens", .kind = OPTION_TEXT, .value = &arguments.tokens},
        {.name = "output", .kind = OPTION_TEXT, .value = &arguments.output},
        {.name = "step", .kind = OPTION_FLAG, .value = &arguments.step},
        {.name = "precision", .kind = OPTION_TEXT, .value = &arguments.precision_text},
        {.name = "threads", .kind = OPTION_INT, .value = &arguments.threads, .minimum = 1, .maximum = 1024},
        {0},
    };
    struct token_list tokens = {0};
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code) ||
        !language_precision(&self, arguments.precision_text, &arguments.precision, &code))
        return code;
    if (!arguments.tokens || !arguments.output)
        return cli_usage(&self, "--tokens and --output are needed");

    bool done =
        parse_tokens(arguments.tokens, &tokens, &error) && write_logits(argv[1], &arguments, &tokens, &error);
    token_list_release(&tokens);
    return done ? EXIT_DONE : cli_fail(&error);
}
