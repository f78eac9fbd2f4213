#include <stdio.h>
#include <string.h>

#include "cli/verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} verbs[] = {
    {"gateway", verb_gateway, "the single entry before backends that run elsewhere"},
};

#define VERBS (sizeof verbs / sizeof verbs[0])

static void help(FILE *stream) {
    fputs("guichet VERB [options]\n\n", stream);
    for (size_t i = 0; i < VERBS; i++)
        fprintf(stream, "  %-12s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\nguichet VERB --help says more of each; guichet --version names this one.\n", stream);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("guichet %s\n", GUICHET_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return 0;
    }
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    fprintf(stderr, "guichet: there is no verb \"%s\"; guichet --help lists them\n", argv[1]);
    return 2;
}
