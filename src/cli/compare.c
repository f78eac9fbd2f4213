/* guichet compare: two models on the same photos. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <errno.h>

#include "base/cleanup.h"
#include "cli/compare_language.h"
#include "cli/comparison.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"
#include "model/find.h"

enum { PHOTOS_MOST = 100000 };
#define SPEED_SECONDS 2.0

static const char help[] =
    "Compare two models: size, speed on this machine, and how their predictions differ.\n"
    "\n"
    "Usage: guichet compare MODEL_A MODEL_B --data DIR [OPTION…]\n"
    "       guichet compare MODEL_A MODEL_B --text FILE [OPTION…]\n"
    "\n"
    "The second form is for language models: the report of guichet quantize, for any two that have\n"
    "the same vocabulary. MODEL_B may be a folder that guichet quantize has written.\n"
    "\n"
    "  --text FILE         what both foretell; may come several times\n"
    "\n"
    "The first form is for models of photos.\n"
    "Both models must have the same classes; each photo is preprocessed as each model wants it.\n"
    "DIR has photos, right in it or in folders. With labels (folders named after classes,\n"
    "labels.tsv or --labels), accuracy is measured too.\n"
    "\n"
    "  --data DIR          the photos\n"
    "  --photos N          use at most N of them, evenly spread (all that fit into memory)\n"
    "  --labels FILE       lines \"photo <tab> class\"\n"
    "  --label-offset N    added to the class numbers of the list (1 where the model's first\n"
    "                      class is a background)\n"
    "  --precision P       of both models: auto, f32, bf16 or int8 (int8 for a quantised network,\n"
    "                      else f32)\n"
    "  --output DIR        write report.json and report.html there\n"
    "  --threads N         threads of the networks (all processors)\n"
    "  --json              the report as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet compare animals animals:int8 --data animals64/val\n"
    "  guichet compare resnet50 resnet152 --data photos --output report\n"
    "\n"
    "Exit status: 0 compared, 1 failed, 2 usage error.\n";

static const struct command command = {"compare", help};

struct compare_settings {
    struct comparison_arguments common;
    const char *data, *precision;
    struct option_list texts;
};

/* The photos as the second model wants them: the same ones as the first has. */
static bool load_second(const struct model *model, const struct photo_request *request, struct stages *stages,
                        const struct photo_set *first, struct photo_set *ret, struct error *error) {
    if (!cli_photos_load(model, request, stages, ret, error))
        return false;

    bool same = ret->count == first->count;
    for (int i = 0; same && i < ret->count; i++)
        same = strcmp(ret->photos[i].name, first->photos[i].name) == 0;

    return same ||
           error_set(error, ERROR_INVALID,
                     "the two models cannot use the same photos: one can prepare %d of them, the other %d",
                     first->count, ret->count);
}

static bool inputs_alike(const struct model *a, const struct model *b) {
    return photo_input_equal(model_input(a), model_input(b)) && model_class_count(a) == model_class_count(b);
}

static bool show(const struct compare_settings *settings, const struct report *report, struct error *error) {
    if (settings->common.output && mkdir(settings->common.output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", settings->common.output);
    if (settings->common.output && !cli_report_write(report, settings->common.output, error))
        return false;
    if (!settings->common.json) {
        cli_report_print(report);
        return true;
    }

    json_t *json = report_json(report);
    return (json && cli_print_json(json)) ||
           error_set(error, ERROR_MEMORY, "not enough memory for the report");
}

static bool measure(const struct compare_settings *settings, struct report *report, struct stages *stages,
                    struct error *error) {
    int count = report->sides[0].set->count;
    cleanup(freep) int *samples = calloc((size_t)count + 1, sizeof *samples);
    if (!samples)
        return error_set(error, ERROR_MEMORY, "not enough memory to compare");

    for (int i = 0; i < count; i++)
        samples[i] = i;
    bool done = report_measure(report, samples, count, SPEED_SECONDS, stages_show, stages, error);
    stages_end(stages);
    done = done && show(settings, report, error);
    report_release(report);

    return done;
}

static bool compare(const struct compare_settings *settings, struct model *const *models,
                    struct error *error) {
    const struct photo_request request = {
        .source = {settings->data, settings->common.labels, settings->common.offset},
        .limit = settings->common.photos,
        .threads = settings->common.threads};
    struct photo_set sets[2] = {0};
    struct stages stages;
    bool alike = inputs_alike(models[0], models[1]), done = false;
    struct report report = {
        .sides = {{.model = models[0], .set = &sets[0]}, {.model = models[1], .set = &sets[alike ? 0 : 1]}}};

    stages_begin(&stages);
    if (!cli_photos_load(models[0], &request, &stages, &sets[0], error))
        goto out;
    if (!alike && !load_second(models[1], &request, &stages, &sets[0], &sets[1], error))
        goto out;
    done = measure(settings, &report, &stages, error);

out:
    stages_end(&stages);
    photo_set_release(&sets[0]);
    photo_set_release(&sets[1]);
    return done;
}

/* Without --precision: int8 for a quantised network, else float32. */
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

static bool is_language(const char *name) {
    struct model_files files;
    struct error ignored;
    if (!model_find_files(name, &files, &ignored))
        return false;
    bool language = files.kind == MODEL_LANGUAGE;
    model_files_release(&files);
    return language;
}

/* What guichet quantize has written: DIR with model_int8.onnx alone is DIR:int8. malloc'ed. */
static char *name_of_output(const char *name) {
    cleanup(freep) char *whole = NULL;
    cleanup(freep) char *small = NULL;
    char *result = NULL;
    struct stat status;
    if (asprintf(&whole, "%s/model.onnx", name) < 0)
        whole = NULL;
    if (asprintf(&small, "%s/model_int8.onnx", name) < 0)
        small = NULL;
    if (!whole || !small || stat(whole, &status) == 0 || stat(small, &status) < 0)
        return strdup(name);
    return asprintf(&result, "%s:int8", name) < 0 ? NULL : result;
}

static int compare_language_models(const struct compare_settings *settings, char **words) {
    const struct compare_language_arguments arguments = {{words[1], words[2]},
                                                         settings->texts,
                                                         settings->common.output,
                                                         settings->common.threads,
                                                         settings->common.json};
    if (settings->data || settings->precision || settings->common.labels || !settings->texts.count)
        return cli_usage(&command, "language models are compared by --text FILE, not by photos");
    return compare_language(&arguments);
}

int verb_compare(int argc, char **argv) {
    struct compare_settings settings = {.common = {.offset = LABEL_OFFSET_AUTO}};
    const struct option_spec specs[] = {
        {.name = "data", .kind = OPTION_TEXT, .value = &settings.data},
        {.name = "precision", .kind = OPTION_TEXT, .value = &settings.precision},
        {.name = "text", .kind = OPTION_LIST, .value = &settings.texts},
        COMPARISON_SPECS(&settings.common),
        {0},
    };
    int words, status;
    struct engine_options options;
    struct error error = {0};

    if (!options_parse(&command, argc, argv, specs, 2, 2, &words, &status))
        return status;
    if (settings.texts.count || is_language(argv[1])) {
        status = compare_language_models(&settings, argv);
        free(settings.texts.words);
        return status;
    }
    if (!settings.data)
        return cli_usage(&command, "--data DIR is needed: the photos to compare on");
    if (!cli_engine_options(&command, settings.precision, settings.common.threads, &options, &status))
        return status;

    cleanup(freep) char *second = name_of_output(argv[2]);
    struct model *models[2] = {load(argv[1], settings.precision, options, &error), NULL};
    if (models[0])
        models[1] = cli_model_load(second ? second : argv[2], &options, &error);
    bool done = models[1] && compare(&settings, models, &error);
    model_free(models[0]);
    model_free(models[1]);

    return done ? EXIT_DONE : cli_fail(&error);
}
