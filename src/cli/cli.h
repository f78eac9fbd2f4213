/* What the verbs share: options, output, and reading photos. One thread.
 *
 * A verb is one file, one function in verbs.h and one row of main.c's table. Exit codes: 0 done, 1 failed
 * (one line on standard error says why), 2 usage error (with a hint). */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/error.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *help; /* all of --help: what it does, usage, options, examples; ends with a newline */
};

enum option_kind {
    OPTION_FLAG, /* bool *: --name sets it */
    OPTION_TEXT, /* const char **: --name VALUE or --name=VALUE */
    OPTION_INT,  /* int *: a whole number within [minimum, maximum] */
    OPTION_REAL, /* double *: a number within [minimum, maximum] */
    OPTION_LIST, /* struct option_list *: may come several times */
};

struct option_list {
    const char **words; /* [count] strings of argv; malloc'ed */
    int count;
};

struct option_spec {
    const char *name; /* without the dashes */
    enum option_kind kind;
    void *value;
    double minimum, maximum;
};

/* Parse options, which may come in any order and between the other words; "--" ends them; "-" is a word.
 * `options` ends with a zeroed entry. The words move to argv[1] … argv[*ret_words]; there must be `least` to
 * `most` (-1: any number). False: help or a usage error was printed; return *ret_exit. Every verb has --help.
 */
bool options_parse(const struct command *command, int argc, char **argv, const struct option_spec *options,
                   int least, int most, int *ret_words, int *ret_exit);

/* Print "guichet VERB: message" and a hint to --help on standard error; returns EXIT_USAGE. */
int cli_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for missing words, with the "Usage: " line of the help. */
int cli_usage_missing(const struct command *command);
/* Print "guichet: message" on standard error; returns EXIT_FAILED. */
int cli_fail(const struct error *error);
/* Print a warning in the same form. */
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Print a JSON value as one line on standard output; takes the reference. False when memory is out. */
bool cli_print_json(json_t *value);
/* A JSON number, rounded to `digits` decimals. */
json_t *cli_json_real(double value, int digits);

enum { CLI_PERCENT_TEXT = 16 };
/* "54 %", "99.6 %", "< 0.1 %": with a decimal where it is near 0 or 1, or where `exact`, and never 0 or 100
 * where that would be rounded. Returns `ret`. */
const char *cli_percent(double probability, bool exact, char ret[CLI_PERCENT_TEXT]);

/* Is it an http or https URL rather than a path? */
bool photo_is_url(const char *name);
/* The bytes of a photo, at most LIMIT_IMAGE_BYTES: a path, a URL, or "-" for standard input. Adds the time
 * that fetching a URL takes to *fetch_ms. */
bool photo_read(const char *name, struct buffer *ret, double *fetch_ms, struct error *error);
