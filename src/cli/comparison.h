/* What quantize and compare share: loading photos, progress by stages, and the report. One thread. */
#pragma once
#include "base/progress.h"
#include "cli/cli.h"
#include "data/photo_set.h"
#include "model/model.h"
#include "quant/report.h"

/* The options that both have, and their rows of an option table. */
struct comparison_arguments {
    const char *labels, *output;
    int photos, offset, threads;
    bool json;
};
#define COMPARISON_SPECS(arguments)                                            \
    {"photos", OPTION_INT, &(arguments)->photos, 1, PHOTOS_MOST},              \
        {"labels", OPTION_TEXT, &(arguments)->labels, 0, 0},                   \
        {"label-offset", OPTION_INT, &(arguments)->offset, -1000000, 1000000}, \
        {"output", OPTION_TEXT, &(arguments)->output, 0, 0},                   \
        {"threads", OPTION_INT, &(arguments)->threads, 0, 1024}, {             \
        "json", OPTION_FLAG, &(arguments)->json, 0, 0                          \
    }

/* A progress line on the terminal for each stage. Ctrl-C ends the work at the next step. */
struct stages {
    struct progress line;
    char stage[48];
};
void stages_begin(struct stages *stages);
void stages_end(struct stages *stages);
/* A progress_report whose context is the struct stages. */
bool stages_show(void *context, const char *stage, uint64_t done, uint64_t total);

/* The photos as the model wants them, with a warning for those that cannot be used. request->threads 0: as
 * many as the engine has; its progress goes to `stages`. */
bool cli_photos_load(const struct model *model, const struct photo_request *request, struct stages *stages,
                     struct photo_set *ret, struct error *error);

/* As text on standard output. */
void cli_report_print(const struct report *report);
/* Write report.json and report.html into the folder. */
bool cli_report_write(const struct report *report, const char *folder, struct error *error);
