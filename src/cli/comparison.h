/* What quantize and compare share: loading photos, progress by stages, and the report. One thread. */
#pragma once
#include "base/progress.h"
#include "cli/cli.h"
#include "data/photo_set.h"
#include "model/model.h"
#include "quant/report.h"

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
