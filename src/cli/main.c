/* guichet VERB …: the table of verbs, and the help that lists them. */
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/spin.h"
#include "cli/verbs.h"

/* In the order of the help. */
static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
    bool runs_networks;
} verbs[] = {
    {.name = "classify", .run = verb_classify, .summary = "say what photos show", .runs_networks = true},
    {.name = "serve", .run = verb_serve, .summary = "the page and the service on this machine"},
    {.name = "models",
     .run = verb_models,
     .summary = "list the installed models, and those that can be pulled"},
    {.name = "pull", .run = verb_pull, .summary = "fetch a model from the catalogue, Hugging Face or a URL"},
    {.name = "inspect", .run = verb_inspect, .summary = "show what a model is made of"},
    {.name = "bake", .run = verb_bake, .summary = "prepare a model, so that it starts at once"},
    {.name = "bench",
     .run = verb_bench,
     .summary = "measure how fast a network is here",
     .runs_networks = true},
    {.name = "evaluate",
     .run = verb_evaluate,
     .summary = "measure how often a model is right",
     .runs_networks = true},
    {.name = "quantize",
     .run = verb_quantize,
     .summary = "make a model smaller and faster in 8-bit integers",
     .runs_networks = true},
    {.name = "compare",
     .run = verb_compare,
     .summary = "compare two models on the same photos",
     .runs_networks = true},
    {.name = "teach",
     .run = verb_teach,
     .summary = "teach classes of your own from photos",
     .runs_networks = true},
    {.name = "convert", .run = verb_convert, .summary = "make a GGUF file of a folder of Hugging Face's"},
    {.name = "run", .run = verb_run, .summary = "run a network on a raw tensor", .runs_networks = true},
    {.name = "chat", .run = verb_chat, .summary = "talk with a language model", .runs_networks = true},
    {.name = "template", .run = verb_template, .summary = "render a conversation with a chat template"},
    {.name = "complete", .run = verb_complete, .summary = "go on with a text", .runs_networks = true},
    {.name = "perplexity",
     .run = verb_perplexity,
     .summary = "measure how well a language model foretells a text",
     .runs_networks = true},
    {.name = "logits",
     .run = verb_logits,
     .summary = "write a language model's logits",
     .runs_networks = true},
    {.name = "embed", .run = verb_embed, .summary = "print the vector of a text", .runs_networks = true},
    {.name = "tokenize", .run = verb_tokenize, .summary = "print the tokens of a text"},
    {.name = "backend", .run = verb_backend, .summary = "one model's service", .runs_networks = true},
    {.name = "gateway", .run = verb_gateway, .summary = "the single entry to backends that run elsewhere"},
    {.name = "frontend", .run = verb_frontend, .summary = "the page and its sessions, in front of a gateway"},
    {.name = "health", .run = verb_health, .summary = "ask a service whether it is ready"},
};

enum { VERBS = sizeof verbs / sizeof verbs[0], USAGE = 2 };

static void print_help(FILE *stream) {
    fputs("guichet says what a photo shows, chats, and runs other models: on the command line and as a "
          "service.\n"
          "\n"
          "Usage: guichet VERB [OPTION…] [ARGUMENT…]\n"
          "\n",
          stream);

    for (int i = 0; i < VERBS; i++)
        fprintf(stream, "  %-10s %s\n", verbs[i].name, verbs[i].summary);

    fputs("\n"
          "  guichet VERB --help   what a verb does, its options, and examples\n"
          "  guichet --version     which guichet this is\n"
          "\n"
          "Examples:\n"
          "  guichet classify cat.jpg   what is on this photo?\n"
          "  guichet chat               talk with a language model\n"
          "  guichet serve              the page and the service, on http://127.0.0.1:8080\n"
          "\n"
          "Exit status: 0 done, 1 failed, 2 usage error.\n",
          stream);
}

static const struct verb *find_verb(const char *name) {
    for (int i = 0; i < VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];

    fprintf(stderr, "guichet: unknown %s '%s'\n", name[0] == '-' ? "option" : "verb", name);
    if (access(name, F_OK) == 0) /* a photo, most likely */
        fprintf(stderr, "Try: guichet classify %s\n", name);
    else
        fputs("Try: guichet --help\n", stderr);

    return NULL;
}

static int print_verb_help(char *name) {
    char option[] = "--help", *words[] = {name, option, NULL};
    const struct verb *verb = find_verb(name);
    return verb ? verb->run(2, words) : USAGE;
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        print_help(stderr);
        return USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("guichet %s\n", GUICHET_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2)
        return print_verb_help(argv[2]);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }

    const struct verb *verb = find_verb(argv[1]);
    if (verb && verb->runs_networks)
        spin_watch();
    return verb ? verb->run(argc - 1, argv + 1) : USAGE;
}
