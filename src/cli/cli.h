/* What the verbs share: options, and how they talk to a person.
 *
 * A verb is one file, one function in verbs.h and one line in main.c's table. Exit codes: 0 done, 1 failed
 * (one line on standard error said why), 2 asked for wrongly (and a hint said how to ask). */
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
    const char **words; /* malloc'ed array of strings of argv */
    int count;
};

struct option_spec {
    const char *name; /* without the dashes */
    enum option_kind kind;
    void *value;
    double minimum, maximum;
};

/* Read options, in any order and between the other words; "--" ends them; "-" is a word. `options` ends with
 * a zeroed entry. The words are moved to the front of argv, after argv[0]: argv[1] … argv[*ret_words]. True:
 * go on. False: return *ret_exit (help was printed, or a usage error). --help is known everywhere. `least`
 * and `most`: how many words (most -1: any). */
bool options_parse(const struct command *command, int argc, char **argv, const struct option_spec *options,
                   int least, int most, int *ret_words, int *ret_exit);

/* "guichet VERB: message" and where help is, on standard error; returns EXIT_USAGE. */
int cli_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for words that are missing: shows the help's "Usage: " line, which every help has. */
int cli_usage_missing(const struct command *command);
/* "guichet: message" on standard error; returns EXIT_FAILED. */
int cli_fail(const struct error *error);
/* The same without failing: something was left out. */
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One JSON value on one line of standard output; takes the reference. False when memory is out. */
bool cli_print_json(json_t *value);
/* A number with so many digits behind the point, for JSON. */
json_t *cli_json_real(double value, int digits);

/* The bytes of a photo: a path, an http(s) address, or "-" for standard input. At most LIMIT_IMAGE_BYTES.
 * *fetch_ms grows by what an address took. */
bool photo_is_address(const char *name);
bool photo_read(const char *name, struct buffer *ret, double *fetch_ms, struct error *error);
