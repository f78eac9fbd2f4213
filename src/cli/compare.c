/* guichet compare: two models on the same photos. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <errno.h>

#include "base/cleanup.h"
#include "cli/comparing.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"

enum { PHOTOS_MOST = 100000 };
#define SPEED_SECONDS 2.0

static const char help[] =
    "Put two models side by side: size, speed on this machine, and how their answers differ.\n"
    "\n"
    "Usage: guichet compare MODEL_A MODEL_B --data DIR [OPTION…]\n"
    "\n"
    "The models tell the same classes apart; each sees the photos as its own recipe prepares them. DIR holds "
    "photos, right in\n"
    "it or in folders; with labels (folders named after classes, labels.tsv or --labels) the right answers "
    "are counted too.\n"
    "\n"
    "  --data DIR          the photos\n"
    "  --photos N          at most so many of them, spread evenly (all that fit into memory)\n"
    "  --labels FILE       lines \"photo <tab> class\"\n"
    "  --label-offset N    added to the class numbers of the list (1 where the model's first class is a "
    "background)\n"
    "  --precision P       of both: auto, f32, bf16 or int8 (int8 for a quantised network, f32 for another)\n"
    "  --output DIR        write report.json and report.html there\n"
    "  --threads N         (as many as there are)\n"
    "  --json              the report as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet compare animals animals:int8 --data animals64/val\n"
    "  guichet compare resnet50 resnet152 --data photos --output report\n"
    "\n"
    "Exit status: 0 compared, 1 failed, 2 asked for wrongly.\n";

static const struct command command = {"compare", help};

struct settings {
    const char *data, *labels, *precision, *output;
    int photos, offset, threads;
    bool json;
};

/* The second model's photos: the first's, where both want them alike. */
static bool load_second(const struct model *model, const struct photo_choice *choice, struct stages *stages,
                        const struct photo_set *first, struct photo_set *ret, struct error *error) {
    if (!cli_photos_load(model, choice, stages, ret, error))
        return false;
    bool same = ret->count == first->count;
    for (int i = 0; same && i < ret->count; i++)
        same = strcmp(ret->photos[i].name, first->photos[i].name) == 0;
    return same ||
           error_set(error, ERROR_INVALID,
                     "the two models cannot be shown the same photos: %d and %d of them can be prepared",
                     first->count, ret->count);
}

static bool recipes_alike(const struct model *a, const struct model *b) {
    const struct engine_port *first = engine_input(model_engine((struct model *)a), 0);
    const struct engine_port *second = engine_input(model_engine((struct model *)b), 0);
    return image_recipe_equal(model_recipe(a), model_recipe(b)) &&
           shape_equal(&first->shape, &second->shape) && model_class_count(a) == model_class_count(b);
}

static bool show(const struct settings *settings, const struct report *report, struct error *error) {
    if (settings->output && mkdir(settings->output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", settings->output);
    if (settings->output && !cli_report_write(report, settings->output, error))
        return false;
    if (!settings->json) {
        cli_report_print(report);
        return true;
    }
    json_t *json = report_json(report);
    return (json && cli_print_json(json)) || error_set(error, ERROR_MEMORY, "no memory for the report");
}

static bool compare(const struct settings *settings, struct model *const *models, struct error *error) {
    const struct photo_choice choice = {settings->data, settings->labels, settings->offset, settings->photos,
                                        settings->threads};
    struct photo_set sets[2] = {0};
    struct stages stages;
    bool alike = recipes_alike(models[0], models[1]);
    stages_begin(&stages);
    bool done = cli_photos_load(models[0], &choice, &stages, &sets[0], error) &&
                (alike || load_second(models[1], &choice, &stages, &sets[0], &sets[1], error));
    cleanup(freep) int *samples = done ? calloc((size_t)sets[0].count + 1, sizeof *samples) : NULL;
    struct report report = {
        .sides = {cli_report_side(models[0], &sets[0]), cli_report_side(models[1], &sets[alike ? 0 : 1])}};
    if (done && !samples)
        done = error_set(error, ERROR_MEMORY, "no memory to compare");
    for (int i = 0; done && i < sets[0].count; i++)
        samples[i] = i;
    done =
        done && report_measure(&report, samples, sets[0].count, SPEED_SECONDS, stages_show, &stages, error);
    stages_end(&stages);
    done = done && show(settings, &report, error);
    report_release(&report);
    photo_set_release(&sets[0]);
    photo_set_release(&sets[1]);
    return done;
}

/* What the file was made for, unless the user says otherwise: integers, or floats in full. */
static struct model *load(const char *name, const char *precision, struct engine_options options,
                          struct error *error) {
    struct model *model = NULL;
    options.precision = precision ? options.precision : PRECISION_AUTO;
    model = cli_model_load(name, &options, error);
    if (!model || precision || engine_precision(model_engine(model)) == PRECISION_INT8)
        return model;
    model_free(model);
    options.precision = PRECISION_F32;
    return cli_model_load(name, &options, error);
}

int verb_compare(int argc, char **argv) {
    struct settings settings = {.offset = INT_MIN};
    const struct option_spec specs[] = {
        {"data", OPTION_TEXT, &settings.data, 0, 0},
        {"photos", OPTION_INT, &settings.photos, 1, PHOTOS_MOST},
        {"labels", OPTION_TEXT, &settings.labels, 0, 0},
        {"label-offset", OPTION_INT, &settings.offset, -1000000, 1000000},
        {"precision", OPTION_TEXT, &settings.precision, 0, 0},
        {"output", OPTION_TEXT, &settings.output, 0, 0},
        {"threads", OPTION_INT, &settings.threads, 0, 1024},
        {"json", OPTION_FLAG, &settings.json, 0, 0},
        {0},
    };
    int words, status;
    struct engine_options options;
    struct error error = {0};
    if (!options_parse(&command, argc, argv, specs, 2, 2, &words, &status))
        return status;
    if (!settings.data)
        return cli_usage(&command, "--data DIR is needed: the photos to compare on");
    if (!cli_engine_options(&command, settings.precision, settings.threads, &options, &status))
        return status;
    struct model *models[2] = {load(argv[1], settings.precision, options, &error), NULL};
    bool done = models[0] && (models[1] = cli_model_load(argv[2], &options, &error)) &&
                compare(&settings, models, &error);
    model_free(models[0]);
    model_free(models[1]);
    return done ? EXIT_DONE : cli_fail(&error);
}
