#include "cli/comparison.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

static volatile sig_atomic_t stop_requested;

static void request_stop(int signal_number) {
    (void)signal_number;
    stop_requested = 1;
}

void stages_begin(struct stages *stages) {
    *stages = (struct stages){0};
    stop_requested = 0;

    /* Once: a second Ctrl-C ends the program immediately. */
    struct sigaction action = {.sa_handler = request_stop, .sa_flags = (int)SA_RESETHAND};
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
                       strstr(stage, "photo") || strstr(stage, "calib") ? "photos"
                       : strstr(stage, "text")                          ? "windows"
                       : strstr(stage, "round")                         ? "weights"
                                                                        : "steps",
                       total, 0);
    }

    progress_update(&stages->line, done);
    return !stop_requested;
}

static void warn_of_skipped(const struct photo_set *set) {
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

bool cli_photos_load(const struct model *model, const struct photo_request *request, struct stages *stages,
                     struct photo_set *ret, struct error *error) {
    struct photo_request own = *request;
    own.report = stages_show;
    own.context = stages;
    if (own.threads < 1)
        own.threads = engine_threads(model_engine(model));

    bool done = photo_set_load(&own, model, ret, error);
    stages_end(stages);
    if (done)
        warn_of_skipped(ret);
    return done;
}

static double percent(int part, int whole) {
    return whole ? 100.0 * part / whole : 0;
}

/* By reason, with the first few layers of each: layers repeat. */
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

    printf("\n%d of %d layers in int8; ranges by %s%s%s\n", quant->quantized_count, quant->layer_count,
           quant_method_name(quant->method), quant->corrected ? ", biases corrected" : "",
           quant->equalized ? ", layers equalised" : "");
    print_float_layers(quant);
}

void cli_report_print(const struct report *report) {
    const struct report_side *a = &report->sides[0], *b = &report->sides[1];
    printf("%-12s %16.16s %16.16s\n", "", model_name(a->model), model_name(b->model));
    printf("%-12s %13.2f MB %13.2f MB   x %.2f\n", "size", (double)a->bytes / 1e6, (double)b->bytes / 1e6,
           (double)b->bytes / (double)(a->bytes ? a->bytes : 1));
    printf("%-12s %13.2f ms %13.2f ms   %.2f times as fast (%s, %s; %d thread%s)\n", "one photo",
           a->milliseconds, b->milliseconds, a->milliseconds / b->milliseconds,
           engine_precision_used(model_engine(a->model)), engine_precision_used(model_engine(b->model)),
           report->threads, report->threads == 1 ? "" : "s");
    if (report->fast)
        printf("%-12s %13.2f ms\n", "  in bf16", report->fast_milliseconds);

    if (a->hits.count) {
        printf("%-12s %14.2f %% %14.2f %%   %+.2f points\n", "top-1", percent(a->hits.first, a->hits.count),
               percent(b->hits.first, b->hits.count),
               percent(b->hits.first, b->hits.count) - percent(a->hits.first, a->hits.count));
        printf("%-12s %14.2f %% %14.2f %%\n", "top-5", percent(a->hits.five, a->hits.count),
               percent(b->hits.five, b->hits.count));
    }

    printf("%-12s %31.2f %%   the same prediction on %d of %d photos\n", "agreement",
           percent(report->agreement.same, report->agreement.count), report->agreement.same,
           report->agreement.count);
    printf("%-12s %14.2f to %.2f %%   of predictions are the same, with 95 %% confidence\n", "",
           100 * report->same.low, 100 * report->same.high);
    printf("%-12s %33.5f   mean; worst %.4f (%s)\n", "divergence", report->agreement.mean,
           report->agreement.worst, a->set->photos[report->samples[report->agreement.worst_at]].name);
    char english[300], french[300];
    report_judge(report, english, french, sizeof english);
    printf("\n%s\n", english);
    print_layers(report);
}

static bool write_file(const char *folder, const char *name, const char *bytes, size_t size,
                       struct error *error) {
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "not enough memory for the report");
    }
    return file_write(path, bytes, size, error);
}

bool cli_report_write(const struct report *report, const char *folder, struct error *error) {
    struct buffer page = {0};
    json_t *json = report_json(report);
    cleanup(freep) char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text || !report_html(report, &page))
        return error_set(error, ERROR_MEMORY, "not enough memory for the report");

    bool done = write_file(folder, "report.json", text, strlen(text), error) &&
                write_file(folder, "report.html", page.bytes, page.size, error);
    buffer_release(&page);
    return done;
}
