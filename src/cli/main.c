/* guichet VERB …: the table of verbs, and the help that lists them. */
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/serving.h"
#include "cli/verbs.h"

/* A line each, in the order in which a newcomer meets them. */
static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
    bool runs_networks; /* at once, in this process */
} verbs[] = {
    {"classify", verb_classify, "say what photos show", true},
    {"serve", verb_serve, "the page and the service on this machine", false},
    {"models", verb_models, "list the models that are here, and those that could be pulled", false},
    {"pull", verb_pull, "fetch a model from the catalogue, Hugging Face or an address", false},
    {"inspect", verb_inspect, "show what a network is made of", false},
    {"bake", verb_bake, "make a model ready, so that it starts at once", false},
    {"bench", verb_bench, "measure how fast a network is here", true},
    {"evaluate", verb_evaluate, "measure how often a model is right", true},
    {"quantize", verb_quantize, "make a model smaller and faster in 8-bit integers", true},
    {"compare", verb_compare, "put two models side by side", true},
    {"run", verb_run, "run a network on a raw tensor", true},
    {"backend", verb_backend, "one model's service", false},
    {"gateway", verb_gateway, "the single entry before backends that run elsewhere", false},
    {"frontend", verb_frontend, "the page and the sessions, before a gateway", false},
    {"health", verb_health, "ask a service whether it is ready", false},
};

enum { VERBS = sizeof verbs / sizeof verbs[0], USAGE = 2 };

static void print_help(FILE *stream) {
    fputs("guichet recognises what a photo shows, on the command line and as a service.\n"
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
          "  guichet serve              the page and the service, on http://127.0.0.1:8080\n"
          "\n"
          "Exit status: 0 done, 1 failed, 2 asked for wrongly.\n",
          stream);
}

static const struct verb *verb_find(const char *name) {
    for (int i = 0; i < VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    fprintf(stderr, "guichet: there is no %s '%s'\n", name[0] == '-' ? "option" : "verb", name);
    if (access(name, F_OK) == 0) /* a photo, most likely */
        fprintf(stderr, "Try: guichet classify %s\n", name);
    else
        fputs("Try: guichet --help\n", stderr);
    return NULL;
}

static int help_for(char *name) {
    char option[] = "--help", *words[] = {name, option, NULL};
    const struct verb *verb = verb_find(name);
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
        return help_for(argv[2]);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    const struct verb *verb = verb_find(argv[1]);
    if (verb && verb->runs_networks)
        serving_calm_threads_if_busy(argc - 1, argv + 1);
    return verb ? verb->run(argc - 1, argv + 1) : USAGE;
}
