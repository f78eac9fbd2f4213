/* What quantize and compare share: photos with their classes, progress with stages, and showing the report.
 */
#pragma once
#include "base/progress.h"
#include "cli/cli.h"
#include "model/model.h"
#include "quant/report.h"

/* One line on the terminal for one stage after another. Ctrl-C ends the work at the next step instead of at
 * once. */
struct stages {
    struct progress line;
    char stage[48];
};
void stages_begin(struct stages *stages);
void stages_end(struct stages *stages);
/* A quant_progress; the context is the struct stages. */
bool stages_show(void *context, const char *stage, uint64_t done, uint64_t total);

struct photo_choice {
    const char *folder, *labels; /* labels NULL: folder/labels.tsv, or the subfolders' names */
    int offset; /* added to class numbers; INT_MIN: 1 where the model's first class is a background */
    int limit, threads;
};

/* Photos as the model wants them, their classes set where they are known; says which could not be read. */
bool cli_photos_load(const struct model *model, const struct photo_choice *choice, struct stages *stages,
                     struct photo_set *ret, struct error *error);

/* A side of a report for a loaded model. */
struct report_side cli_report_side(const struct model *model, const struct photo_set *set);
/* For people, on standard output. */
void cli_report_print(const struct report *report);
/* report.json and report.html into the folder. */
bool cli_report_write(const struct report *report, const char *folder, struct error *error);
