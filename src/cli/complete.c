/* guichet complete: a language model goes on with a text. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/text_stream.h"
#include "cli/verbs.h"
#include "llm/dialogue.h"
#include "llm/sampler.h"

DEFINE_FREEP(struct dialogue, dialogue)
DEFINE_FREEP(struct sampler, sampler)

enum { USUAL_TOKENS = 256 };

static const char help[] =
    "Go on with a text.\n"
    "\n"
    "Usage: guichet complete MODEL TEXT [OPTION…]\n"
    "\n"
    "Prints what follows the text, as it is made, until the model ends or --tokens are reached. TEXT\n"
    "may be - for standard input.\n"
    "\n"
    "  --tokens N         at most so many tokens (256, or what there is room for)\n"
    "  --temperature T    0: always the likeliest token; higher: more surprises (0.8)\n"
    "  --top-p P          only the likeliest tokens that have this probability together (0.95)\n"
    "  --top-k N          only the likeliest N tokens; 0: all (40)\n"
    "  --min-p P          only tokens at least P times as likely as the likeliest (0.05)\n"
    "  --seed N           the same seed gives the same text (another each time)\n"
    "  --precision P      auto; f32: exactly, several times slower (auto)\n"
    "  --threads N        threads (all processors)\n"
    "\n"
    "Example:\n"
    "  guichet complete stories.gguf \"Once upon a time\" --temperature 0\n";

static const struct command self = {"complete", help};

struct complete_arguments {
    struct sampler_options sampler;
    int tokens, threads;
    double seed;
    const char *precision_text;
    enum llm_precision precision;
};

/* What the last token's logits lead to. */
struct next {
    struct sampler *sampler;
    int32_t token;
};

static void pick(void *data, size_t index, float *logits) {
    struct next *next = data;
    next->token = sampler_pick(next->sampler, logits);
    sampler_note(next->sampler, next->token);
}

static bool print_token(const struct tokenizer *tokenizer, int32_t token, struct text_stream *stream,
                        struct error *error) {
    struct buffer text = {0};
    bool done = tokenizer_decode(tokenizer, token, SPECIAL_AS_TEXT, &text);

    if (done && text.size)
        text_stream_write(stream, text.bytes, text.size);
    buffer_release(&text);
    return done || error_set(error, ERROR_MEMORY, "not enough memory for the text");
}

static bool go_on(const struct dialogue *dialogue, const struct llm_model *model, struct llm_context *context,
                  struct sampler *sampler, const struct token_list *prompt, int64_t most,
                  struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    struct text_stream stream = {.file = stdout, .is_plain = isatty(STDOUT_FILENO)};
    struct llm_sequence sequence = {0};
    struct next next = {.sampler = sampler};
    bool done = language_run(context, &sequence, prompt->ids, prompt->count, true, prompt->count - 1, pick,
                             &next, error);

    for (int64_t i = 0; done && i < most && !dialogue_ends(dialogue, next.token); i++) {
        int32_t token = next.token;
        done = print_token(tokenizer, token, &stream, error) &&
               (i + 1 == most || language_run(context, &sequence, &token, 1, false, 0, pick, &next, error));
    }
    text_stream_end(&stream);
    if (done)
        putchar('\n');
    llm_sequence_release(context, &sequence);
    return done;
}

/* Tokens that may come: as many as were asked for, which must fit; else 256, or what there is room for. */
static bool find_room(const struct llm_model *model, size_t prompt, int asked, int64_t *ret,
                      struct error *error) {
    int64_t context = llm_model_config(model)->context, room = context - (int64_t)prompt;
    if (prompt == 0)
        return error_set(error, ERROR_INVALID,
                         "the text is empty, and texts of this model have no beginning of their own");
    if (room < (asked ? asked : 1))
        return error_set(
            error, ERROR_INVALID,
            "the text has %zu tokens; with %d to come that is more than the model's context of %lld "
            "(--tokens)",
            prompt, asked ? asked : 1, (long long)context);
    *ret = asked ? asked : room < USUAL_TOKENS ? room : USUAL_TOKENS;
    return true;
}

static bool complete(const char *name, const char *text, size_t size,
                     const struct complete_arguments *arguments, struct error *error) {
    cleanup(llm_model_freep) struct llm_model *model = language_load(name, error);
    cleanup(dialogue_freep) struct dialogue *dialogue = model ? dialogue_create(model, error) : NULL;
    cleanup(llm_context_freep) struct llm_context *context = NULL;
    cleanup(sampler_freep) struct sampler *sampler = NULL;
    struct token_list prompt = {0};
    int64_t room = 0;

    bool done = dialogue && language_encode(model, text, size, &prompt, error) &&
                find_room(model, prompt.count, arguments->tokens, &room, error);
    if (done) {
        const struct llm_context_options options = {.rows = LANGUAGE_ROWS,
                                                    .positions = (int64_t)prompt.count + room,
                                                    .threads = arguments->threads,
                                                    .precision = arguments->precision};
        context = llm_context_create(model, &options, error);
        sampler = context ? sampler_create(&arguments->sampler, llm_model_vocabulary(model), error) : NULL;
        done = sampler && go_on(dialogue, model, context, sampler, &prompt, room, error);
    }

    token_list_release(&prompt);
    return done;
}

static bool run(const char *name, const char *words, struct complete_arguments *arguments,
                struct error *error) {
    if (!language_seed(arguments->seed, &arguments->sampler.seed, error))
        return false;
    if (strcmp(words, "-") != 0)
        return complete(name, words, strlen(words), arguments, error);

    size_t size;
    cleanup(freep) char *text = file_read("/dev/stdin", LIMIT_TOKENIZED_BYTES, &size, error);
    return text && complete(name, text, size, arguments, error);
}

int verb_complete(int argc, char **argv) {
    struct complete_arguments arguments = {.sampler = SAMPLER_DEFAULTS, .seed = -1};
    struct sampler_options *sampler = &arguments.sampler;
    const struct option_spec options[] = {
        {.name = "tokens", .kind = OPTION_INT, .value = &arguments.tokens, .minimum = 1, .maximum = 1 << 24},
        {.name = "temperature", .kind = OPTION_REAL, .value = &sampler->temperature, .maximum = 100},
        {.name = "top-p", .kind = OPTION_REAL, .value = &sampler->top_p, .maximum = 1},
        {.name = "top-k", .kind = OPTION_INT, .value = &sampler->top_k, .maximum = 1 << 24},
        {.name = "min-p", .kind = OPTION_REAL, .value = &sampler->min_p, .maximum = 1},
        {.name = "seed", .kind = OPTION_REAL, .value = &arguments.seed, .maximum = 0x1p53},
        {.name = "precision", .kind = OPTION_TEXT, .value = &arguments.precision_text},
        {.name = "threads", .kind = OPTION_INT, .value = &arguments.threads, .minimum = 1, .maximum = 1024},
        {0},
    };
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 2, 2, &words, &code) ||
        !language_precision(&self, arguments.precision_text, &arguments.precision, &code))
        return code;
    return run(argv[1], argv[2], &arguments, &error) ? EXIT_DONE : cli_fail(&error);
}
