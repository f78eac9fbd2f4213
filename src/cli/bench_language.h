/* What guichet bench measures of a language model. One thread. */
#pragma once
#include "llm/context.h"
#include "model/folder.h"

struct bench_language_options {
    int prompt, steps, sequences, rounds, threads;
    enum llm_precision precision;
    bool profile, json;
};

/* Measure it and print a table, or one line of JSON. */
bool bench_language(const struct model_files *files, const struct bench_language_options *options,
                    double started, struct error *error);
