/* guichet compare for language models. */
#pragma once
#include "cli/cli.h"

struct compare_language_arguments {
    const char *models[2];
    struct option_list texts; /* at least one */
    const char *output;       /* a folder for the report; NULL: none */
    int threads;
    bool json;
};

/* The exit status. */
int compare_language(const struct compare_language_arguments *arguments);
