/* guichet quantize for language models, and their report. */
#pragma once
#include "cli/cli.h"
#include "quant/language_report.h"

struct quantize_language_arguments {
    const char *model, *to, *output;
    struct option_list texts;
    double seed;
    int threads;
    bool plain, json;
};

/* The options of language models alone, for the verb's table. */
#define QUANTIZE_LANGUAGE_SPECS(arguments)                                                         \
    {"to", OPTION_TEXT, &(arguments)->to, 0, 0}, {"text", OPTION_LIST, &(arguments)->texts, 0, 0}, \
        {"seed", OPTION_REAL, &(arguments)->seed, 0, 1e15}, {                                      \
        "plain", OPTION_FLAG, &(arguments)->plain, 0, 0                                            \
    }

/* The exit status. */
int quantize_language(const struct command *command, const struct quantize_language_arguments *arguments);

/* The files' tokens, as windows. */
bool language_texts_read(const struct option_list *texts, const struct llm_model *model, int window,
                         struct language_text *ret, struct error *error);
/* On standard output; as report.json and report.html into a folder. */
void language_report_print(const struct language_report *report);
bool language_report_write(const struct language_report *report, const char *folder, struct error *error);
