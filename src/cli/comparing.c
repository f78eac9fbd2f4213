#include "cli/comparing.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/dataset.h"

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number) {
    (void)signal_number;
    stop_asked = 1;
}

void stages_begin(struct stages *stages) {
    *stages = (struct stages){0};
    stop_asked = 0;
    /* Once: a second Ctrl-C ends the program at once. */
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void stages_end(struct stages *stages) {
    progress_end(&stages->line);
    stages->stage[0] = 0;
}

bool stages_show(void *context, const char *stage, uint64_t done, uint64_t total) {
    struct stages *stages = context;
    if (strcmp(stage, stages->stage) != 0) {
        stages_end(stages);
        snprintf(stages->stage, sizeof stages->stage, "%s", stage);
        progress_begin(&stages->line, stages->stage,
                       strstr(stage, "photo") || strstr(stage, "calib") ? "photos" : "steps", total, 0);
    }
    progress_update(&stages->line, done);
    return !stop_asked;
}

static int photo_by_name(const void *a, const void *b) {
    return strcmp(a, ((const struct photo *)b)->name);
}

/* From a list of photos and classes. */
static bool classes_from_list(const struct model *model, const struct photo_choice *choice, int offset,
                              struct photo_set *set, struct error *error) {
    struct dataset dataset;
    if (!dataset_load(choice->folder, choice->labels, offset, model, &dataset, error))
        return false;
    size_t prefix = strlen(choice->folder) + 1;
    for (size_t i = 0; i < dataset.count; i++) {
        const char *path = dataset.photos[i].path;
        struct photo *photo = strlen(path) > prefix ? bsearch(path + prefix, set->photos, (size_t)set->count,
                                                              sizeof *set->photos, photo_by_name)
                                                    : NULL;
        if (photo)
            photo->class = dataset.photos[i].class;
    }
    dataset_release(&dataset);
    return true;
}

static bool classes_find(const struct model *model, const struct photo_choice *choice, struct photo_set *set,
                         struct error *error) {
    int offset = choice->offset;
    bool grouped = false;
    cleanup(freep) char *beside = NULL;
    if (offset == INT_MIN)
        offset = strcasecmp(model_label(model, 0, NULL), "background") == 0 ? 1 : 0;
    for (int i = 0; i < set->count; i++)
        grouped = grouped || set->photos[i].group;
    if (asprintf(&beside, "%s/labels.tsv", choice->folder) < 0) {
        beside = NULL;
        return error_set(error, ERROR_MEMORY, "no memory for the labels");
    }
    if (choice->labels || (!grouped && access(beside, R_OK) == 0))
        return classes_from_list(model, choice, offset, set, error);
    for (int i = 0; i < set->count; i++)
        if (set->photos[i].group)
            set->photos[i].class = model_class_find(model, set->photos[i].group);
    return true;
}

static void name_skipped(const struct photo_set *set) {
    enum { NAMED = 10 };
    if (!set->skipped_count)
        return;
    cli_warn("%d of %d photos cannot be used and are left out:", set->skipped_count,
             set->skipped_count + set->count);
    for (int i = 0; i < set->skipped_count && i < NAMED; i++)
        cli_warn("  %s", set->skipped[i]);
    if (set->skipped_count > NAMED)
        cli_warn("  and %d more", set->skipped_count - NAMED);
}

bool cli_photos_load(const struct model *model, const struct photo_choice *choice, struct stages *stages,
                     struct photo_set *ret, struct error *error) {
    const struct engine_port *input = engine_input(model_engine((struct model *)model), 0);
    const struct photo_request request = {
        .folder = choice->folder,
        .recipe = model_recipe(model),
        .channels_last = input->shape.rank == 4 && input->shape.dims[1] != 3 && input->shape.dims[3] == 3,
        .limit = choice->limit,
        .threads =
            choice->threads > 0 ? choice->threads : engine_threads(model_engine((struct model *)model)),
        .progress = stages_show,
        .context = stages,
    };
    struct photo_set set = {0};
    if (input->dtype != DTYPE_F32)
        return error_set(error, ERROR_MODEL, "%s: its input is %s, and only float32 inputs are known here",
                         model_path(model), dtype_name(input->dtype));
    bool done = photo_set_load(&request, &set, error);
    stages_end(stages);
    if (!done)
        return false;
    name_skipped(&set);
    if (!classes_find(model, choice, &set, error)) {
        photo_set_release(&set);
        return false;
    }
    *ret = set;
    return true;
}

static const char *label_of(const void *context, int class) {
    const struct model *model = context;
    return class < model_class_count(model) ? model_label(model, class, NULL) : "?";
}

struct report_side cli_report_side(const struct model *model, const struct photo_set *set) {
    return (struct report_side){.name = model_name(model),
                                .path = model_path(model),
                                .engine = model_engine((struct model *)model),
                                .set = set,
                                .label = label_of,
                                .context = model};
}

static double percent(int part, int whole) {
    return whole ? 100.0 * part / whole : 0;
}

/* Reason by reason, with the first few layers of each: networks repeat themselves. */
static void print_float_layers(const struct quant_result *quant) {
    enum { NAMED = 3 };
    for (int i = 0; i < quant->layer_count; i++) {
        const struct quant_layer *first = &quant->layers[i];
        int alike = 0, before = 0;
        for (int j = 0; j < quant->layer_count && !first->active; j++) {
            bool same = !quant->layers[j].active && strcmp(quant->layers[j].reason, first->reason) == 0;
            alike += same;
            before += same && j < i;
        }
        if (first->active || before >= NAMED)
            continue;
        if (!before)
            printf("  in float: %s (%d layer%s)\n", first->reason, alike, alike == 1 ? "" : "s");
        printf("    %s (%s)\n", first->name, first->op_type);
        if (before == NAMED - 1 && alike > NAMED)
            printf("    and %d more: see report.html\n", alike - NAMED);
    }
}

static void print_layers(const struct report *report) {
    enum { WORST = 10 };
    const struct quant_layer *worst[WORST];
    const struct quant_result *quant = report->quant;
    int count = report_worst_layers(report, worst, WORST);
    if (!quant)
        return;
    printf("\nThe most damaging layers (divergence when quantised alone)\n");
    for (int i = 0; i < count; i++)
        printf("  %-10.2g %s (%s)%s\n", worst[i]->damage, worst[i]->name, worst[i]->op_type,
               worst[i]->active ? "" : ", kept in float");
    printf("\n%d of %d layers in int8; ranges by %s%s%s\n", quant->quantised_count, quant->layer_count,
           quant_method_name(quant->method), quant->corrected ? ", biases corrected" : "",
           quant->equalised ? ", layers equalised" : "");
    print_float_layers(quant);
}

void cli_report_print(const struct report *report) {
    const struct report_side *a = &report->sides[0], *b = &report->sides[1];
    printf("%-12s %16.16s %16.16s\n", "", a->name, b->name);
    printf("%-12s %13.2f MB %13.2f MB   x %.2f\n", "size", (double)a->bytes / 1e6, (double)b->bytes / 1e6,
           (double)b->bytes / (double)(a->bytes ? a->bytes : 1));
    printf("%-12s %13.2f ms %13.2f ms   %.2f times as fast (%s, %s; %d thread%s)\n", "one photo",
           a->milliseconds, b->milliseconds, a->milliseconds / b->milliseconds,
           engine_precision_used(a->engine), engine_precision_used(b->engine), report->threads,
           report->threads == 1 ? "" : "s");
    if (report->fast)
        printf("%-12s %13.2f ms\n", "  in bf16", report->fast_milliseconds);
    if (a->hits.count) {
        printf("%-12s %14.2f %% %14.2f %%   %+.2f points\n", "top-1", percent(a->hits.first, a->hits.count),
               percent(b->hits.first, b->hits.count),
               percent(b->hits.first, b->hits.count) - percent(a->hits.first, a->hits.count));
        printf("%-12s %14.2f %% %14.2f %%\n", "top-5", percent(a->hits.five, a->hits.count),
               percent(b->hits.five, b->hits.count));
    }
    printf("%-12s %31.2f %%   the same first answer on %d of %d photos\n", "agreement",
           percent(report->likeness.same, report->likeness.count), report->likeness.same,
           report->likeness.count);
    printf("%-12s %33.5f   mean; worst %.4f (%s)\n", "divergence", report->likeness.mean,
           report->likeness.worst, a->set->photos[report->samples[report->likeness.worst_at]].name);
    print_layers(report);
}

static bool write_beside(const char *folder, const char *name, const char *bytes, size_t size,
                         struct error *error) {
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "no memory for the report");
    }
    return file_write(path, bytes, size, error);
}

bool cli_report_write(const struct report *report, const char *folder, struct error *error) {
    struct buffer page = {0};
    json_t *json = report_json(report);
    cleanup(freep) char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text || !report_html(report, &page))
        return error_set(error, ERROR_MEMORY, "no memory for the report");
    bool done = write_beside(folder, "report.json", text, strlen(text), error) &&
                write_beside(folder, "report.html", page.bytes, page.size, error);
    buffer_release(&page);
    return done;
}
