#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct option_spec *find_option(const struct option_spec *options, const char *name,
                                             size_t length) {
    for (; options->name; options++)
        if (strlen(options->name) == length && memcmp(options->name, name, length) == 0)
            return options;
    return NULL;
}

static bool parse_number(const char *text, const struct option_spec *option, double *ret) {
    char *end;
    errno = 0;
    double value = option->kind == OPTION_INT ? (double)strtol(text, &end, 10) : strtod(text, &end);
    if (errno || end == text || *end || !(value >= option->minimum && value <= option->maximum))
        return false;

    *ret = value;
    return true;
}

static bool append_word(struct option_list *list, const char *word) {
    const char **words = realloc(list->words, ((size_t)list->count + 1) * sizeof *words);
    if (!words)
        return false;
    words[list->count++] = word;
    list->words = words;
    return true;
}

/* EXIT_DONE, or EXIT_USAGE with the reason printed. */
static int store_option(const struct command *command, const struct option_spec *option, const char *text) {
    double number = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->value = true;
        return EXIT_DONE;
    case OPTION_TEXT:
        *(const char **)option->value = text;
        return EXIT_DONE;
    case OPTION_LIST:
        if (append_word(option->value, text))
            return EXIT_DONE;
        return cli_usage(command, "not enough memory for --%s", option->name);
    case OPTION_INT:
    case OPTION_REAL:
        if (!parse_number(text, option, &number))
            return cli_usage(command, "--%s takes a%s number from %.12g to %.12g, not '%s'", option->name,
                             option->kind == OPTION_INT ? " whole" : "", option->minimum, option->maximum,
                             text);
        if (option->kind == OPTION_INT)
            *(int *)option->value = (int)number;
        else
            *(double *)option->value = number;
    }

    return EXIT_DONE;
}

/* One --name; *at moves past a value that is the next word. */
static int read_option(const struct command *command, int argc, char **argv, int *at,
                       const struct option_spec *options) {
    const char *name = argv[*at] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *option = find_option(options, name, length);
    if (!option)
        return cli_usage(command, "unknown option --%.*s", (int)length, name);
    if (option->kind == OPTION_FLAG)
        return equals ? cli_usage(command, "--%s takes no value", option->name)
                      : store_option(command, option, NULL);
    if (!equals && *at + 1 >= argc)
        return cli_usage(command, "--%s needs a value", option->name);

    return store_option(command, option, equals ? equals + 1 : argv[++*at]);
}

bool options_parse(const struct command *command, int argc, char **argv, const struct option_spec *options,
                   int least, int most, int *ret_words, int *ret_exit) {
    int words = 0;
    bool only_words = false;

    for (int i = 1; i < argc; i++) {
        if (only_words || argv[i][0] != '-' || !argv[i][1]) {
            argv[++words] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(command->help, stdout);
            *ret_exit = EXIT_DONE;
            return false;
        } else if (argv[i][1] != '-') {
            *ret_exit = cli_usage(command, "unknown option %s", argv[i]);
            return false;
        } else if ((*ret_exit = read_option(command, argc, argv, &i, options)) != EXIT_DONE) {
            return false;
        }
    }

    if (words >= least && (most < 0 || words <= most)) {
        *ret_words = words;
        return true;
    }

    *ret_exit = words < least ? cli_usage_missing(command)
                              : cli_usage(command, "unexpected argument '%s'", argv[most + 1]);
    return false;
}
