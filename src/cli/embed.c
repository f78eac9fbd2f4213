/* guichet embed: the vector of a text. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/verbs.h"
#include "llm/encoder.h"

static const char help[] =
    "Print the vector of a text: texts that mean alike have vectors that are close.\n"
    "\n"
    "Usage: guichet embed MODEL TEXT [OPTION…]\n"
    "\n"
    "MODEL is an encoder of the BERT family (bge, for example), or a .gguf file. The numbers are on one\n"
    "line; their squares add up to 1, so that the sum of products of two vectors is their similarity.\n"
    "TEXT may be - for standard input.\n"
    "\n"
    "  --json             {\"model\": …, \"tokens\": …, \"embedding\": […]}\n"
    "  --threads N        threads (all processors)\n"
    "\n"
    "Example:\n"
    "  guichet embed bge-small-en-v1.5.gguf \"Where is the ticket counter?\"\n";

static const struct command self = {"embed", help};

struct embed_arguments {
    const char *model;
    int threads;
    bool json;
};

static void print_vector(const struct embed_arguments *arguments, const float *vector, int64_t width,
                         size_t tokens) {
    if (arguments->json) {
        struct buffer name = {0};
        json_append_string(&name, arguments->model);
        printf("{\"model\": %s, \"tokens\": %zu, \"embedding\": [", name.bytes ? name.bytes : "\"\"", tokens);
        buffer_release(&name);
    }
    for (int64_t i = 0; i < width; i++)
        printf("%s%.9g", i ? (arguments->json ? ", " : " ") : "", (double)vector[i]);
    puts(arguments->json ? "]}" : "");
}

static bool embed(const struct embed_arguments *arguments, const char *text, size_t size,
                  struct error *error) {
    struct gguf *gguf = language_open(arguments->model, error);
    if (!gguf)
        return false;
    if (!llm_is_encoder(gguf)) {
        gguf_free(gguf);
        return error_set(error, ERROR_INVALID, "%s is no encoder of the BERT family, and makes no embeddings",
                         arguments->model);
    }

    struct llm_encoder *encoder = llm_encoder_create(gguf, error);
    struct token_list tokens = {0};
    float *vector = NULL;
    bool done = encoder && llm_encoder_tokens(encoder, text, size, &tokens, error);
    if (done) {
        vector = malloc((size_t)llm_encoder_width(encoder) * sizeof *vector);
        done = vector || error_set(error, ERROR_MEMORY, "not enough memory for a vector");
    }
    done = done && llm_encoder_embed(encoder, tokens.ids, tokens.count, arguments->threads, vector, error);
    if (done)
        print_vector(arguments, vector, llm_encoder_width(encoder), tokens.count);
    free(vector);
    token_list_release(&tokens);
    llm_encoder_free(encoder);
    return done;
}

static bool run(const struct embed_arguments *arguments, const char *words, struct error *error) {
    if (strcmp(words, "-") != 0)
        return embed(arguments, words, strlen(words), error);

    size_t size;
    cleanup(freep) char *text = file_read("/dev/stdin", LIMIT_TOKENIZED_BYTES, &size, error);
    return text && embed(arguments, text, size, error);
}

int verb_embed(int argc, char **argv) {
    struct embed_arguments arguments = {0};
    const struct option_spec options[] = {
        {.name = "json", .kind = OPTION_FLAG, .value = &arguments.json},
        {.name = "threads", .kind = OPTION_INT, .value = &arguments.threads, .minimum = 1, .maximum = 1024},
        {0},
    };
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 2, 2, &words, &code))
        return code;
    arguments.model = argv[1];
    return run(&arguments, argv[2], &error) ? EXIT_DONE : cli_fail(&error);
}
