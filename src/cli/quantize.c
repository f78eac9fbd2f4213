/* guichet quantize: a float model and photos -> the same model in 8-bit integers, and a report; or a language
 * model, in fewer bits (quantize_language.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/comparison.h"
#include "cli/engine_options.h"
#include "cli/quantize_language.h"
#include "cli/verbs.h"
#include "model/find.h"
#include "quant/load.h"

enum { PHOTOS_DEFAULT = 500, PHOTOS_MOST = 20000 };
#define SPEED_SECONDS 2.0

static const char help[] =
    "Make a model smaller and faster, with whole numbers of few bits instead of floats, and report\n"
    "what that costs.\n"
    "\n"
    "Usage: guichet quantize [MODEL] --calibrate DIR [OPTION…]\n"
    "       guichet quantize MODEL --to TYPE [OPTION…]\n"
    "\n"
    "The second form is for language models, in GGUF. Rounding makes good in some weights what it costs\n"
    "in others, for a text like those the model will see; two thirds of the text choose, the rest\n"
    "judge. Writes MODEL-TYPE.gguf, which any program for GGUF opens, report.json and report.html.\n"
    "\n"
    "  --to TYPE         Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, Q3_K_L,\n"
    "                    Q3_K_M, Q3_K_S, Q2_K, BF16 or F16\n"
    "  --text FILE       the text; may come several times (what the model writes by itself)\n"
    "  --seed N          of what the model writes, and which of the text, or of the photos, judge (0)\n"
    "  --plain           round each weight by itself, without a text\n"
    "\n"
    "The first form is for networks that take photos, in ONNX. DIR has photos like those the model will see, "
    "right in it or in folders; labels are not\n"
    "needed. Half of them calibrate, a sixth choose, and the report is on the rest. Layers that change\n"
    "too many predictions stay in float. Writes model_int8.onnx (standard ONNX with\n"
    "QuantizeLinear and DequantizeLinear), report.json and report.html. Repeat an interrupted\n"
    "command to continue it.\n"
    "\n"
    "  --calibrate DIR   the photos\n"
    "  --photos N        use at most N of them, evenly spread (500)\n"
    "  --method M        how ranges are chosen: minmax, entropy, percentile, mse, or the best of\n"
    "                    them: auto (auto)\n"
    "  --per-tensor      one scale for a whole weight tensor (default: --per-channel)\n"
    "  --activations T   uint8 or int8 (uint8)\n"
    "  --max-loss P      percentage points of agreement that may be lost on the held-out photos\n"
    "                    (0.5)\n"
    "  --labels FILE     lines \"photo <tab> class\": then accuracy is reported too\n"
    "  --label-offset N  added to the class numbers of the list (1 where the model's first class\n"
    "                    is a background)\n"
    "  --output DIR      where to write (the model's own folder, where it becomes MODEL:int8)\n"
    "  --threads N       threads of the network (all processors)\n"
    "  --json            the report as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet quantize animals --calibrate photos\n"
    "  guichet quantize smollm2:F16 --to Q4_K_M --text notes.txt\n"
    "  guichet quantize ~/models/resnet50 --calibrate photos --method entropy --output small\n"
    "\n"
    "Exit status: 0 written, 1 failed, 2 usage error.\n";

static const struct command command = {"quantize", help};

struct quantize_settings {
    struct quantize_language_arguments language;
    struct comparison_arguments common;
    const char *model, *calibrate, *method, *activations;
    double max_loss;
    bool per_channel, per_tensor;
};

struct quantize_paths {
    char *model_folder; /* with config.json */
    char *output;       /* a folder */
    char *network, *state;
};

static void paths_release(struct quantize_paths *paths) {
    free(paths->model_folder);
    free(paths->output);
    free(paths->network);
    free(paths->state);
}

/* The folder of a file, malloc'ed. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}

static bool find_paths(const struct model *model, const struct quantize_settings *settings,
                       struct quantize_paths *ret, struct error *error) {
    ret->model_folder = folder_of(model_path(model));
    ret->output = settings->common.output ? strdup(settings->common.output) : folder_of(model_path(model));
    const char *last = ret->model_folder ? strrchr(ret->model_folder, '/') : NULL;
    if (last && strcmp(last, "/onnx") == 0 && last != ret->model_folder)
        ret->model_folder[last - ret->model_folder] = 0;
    if (!ret->model_folder || !ret->output ||
        asprintf(&ret->network, "%s/model_int8.onnx", ret->output) < 0 ||
        asprintf(&ret->state, "%s/.model_int8.calibration", ret->output) < 0)
        return error_set(error, ERROR_MEMORY, "not enough memory for the names of files");
    if (settings->common.output && mkdir(settings->common.output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", settings->common.output);

    return true;
}

/* The configuration and labels that exist go with the network. */
static bool copy_configuration(const struct quantize_paths *paths, struct error *error) {
    static const char *const names[] = {"config.json", "preprocessor_config.json", "labels_fr.json"};
    cleanup(freep) char *from_real = realpath(paths->model_folder, NULL);
    cleanup(freep) char *to_real = realpath(paths->output, NULL);
    if (from_real && to_real && strcmp(from_real, to_real) == 0)
        return true;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cleanup(freep) char *from = NULL;
        cleanup(freep) char *to = NULL;
        size_t size;
        if (asprintf(&from, "%s/%s", paths->model_folder, names[i]) < 0 ||
            asprintf(&to, "%s/%s", paths->output, names[i]) < 0)
            return error_set(error, ERROR_MEMORY, "not enough memory for the names of files");
        cleanup(freep) char *bytes = file_read(from, LIMIT_CONFIG_BYTES, &size, error);
        if (!bytes && error->code == ERROR_NOT_FOUND)
            continue;
        if (!bytes || !file_write(to, bytes, size, error))
            return false;
    }

    return true;
}

static bool print_report(const struct quantize_settings *settings, const struct quantize_paths *paths,
                         const struct report *report, struct error *error) {
    if (settings->common.json) {
        json_t *json = report_json(report);
        return (json && cli_print_json(json)) ||
               error_set(error, ERROR_MEMORY, "not enough memory for the report");
    }

    cli_report_print(report);
    printf("\nwritten: %s, report.json, report.html\n", paths->network);
    if (!report_target_is_met(report))
        cli_warn("it is not certain that --max-loss is kept: at least %.1f %% of predictions are the same, "
                 "with 95 %% "
                 "confidence, by %d photos",
                 100 * report->same.low, report->count);
    return true;
}

/* The quantised network and the float one on the held-out photos. */
static bool report_loss(const struct quantize_settings *settings, const struct quantize_paths *paths,
                        struct model *model, const struct photo_set *set, const struct quant_result *result,
                        const struct quant_options *options, struct stages *stages, struct error *error) {
    const struct model_options model_options = {
        .engine = {.precision = PRECISION_AUTO, .threads = settings->common.threads}};
    struct model *quantized = model_load(paths->network, &model_options, error);
    struct model *fast = quantized ? model_load(model_path(model), &model_options, error) : NULL;
    struct report report = {.sides = {{.model = model, .set = set}, {.model = quantized, .set = set}},
                            .quant = result,
                            .options = options};
    bool done = false;

    if (!fast)
        goto out;

    report.fast = engine_precision(model_engine(fast)) == PRECISION_BF16 ? fast : NULL;
    done = report_measure(&report, result->held_out_photos, result->held_out, SPEED_SECONDS, stages_show,
                          stages, error);
    stages_end(stages);
    if (done)
        done =
            cli_report_write(&report, paths->output, error) && print_report(settings, paths, &report, error);

out:
    report_release(&report);
    model_free(fast);
    model_free(quantized);

    return done;
}

static void warn_of_few_photos(const struct photo_set *set, double max_loss) {
    int wanted = quant_photos_wanted(set->count, max_loss);
    if (wanted)
        cli_warn("%d photo%s %s few to measure a loss of %g points; about %d would do", set->count,
                 set->count == 1 ? "" : "s", set->count == 1 ? "is" : "are", max_loss, wanted);
}

static bool quantize(const struct quantize_settings *settings, const struct quant_options *base,
                     struct model *model, struct error *error) {
    struct quantize_paths paths = {0};
    struct photo_set set = {0};
    struct quant_result result = {0};
    struct quant_options options = *base;
    struct stages stages;
    const struct photo_request request = {
        .source = {settings->calibrate, settings->common.labels, settings->common.offset},
        .limit = settings->common.photos,
        .threads = settings->common.threads};
    bool done = false;

    stages_begin(&stages);
    if (!find_paths(model, settings, &paths, error) ||
        !cli_photos_load(model, &request, &stages, &set, error))
        goto out;

    warn_of_few_photos(&set, options.max_loss);
    options.threads = engine_threads(model_engine(model));
    options.state_path = paths.state;
    options.progress = stages_show;
    options.context = &stages;
    done = quant_run(model, &set, paths.network, &options, &result, error);
    stages_end(&stages);
    if (!done && error->code == ERROR_UNAVAILABLE)
        error_set(error, ERROR_UNAVAILABLE,
                  "interrupted; nothing was written, and the same command continues from here");

    if (done)
        done = copy_configuration(&paths, error) &&
               report_loss(settings, &paths, model, &set, &result, &options, &stages, error);

out:
    stages_end(&stages);
    quant_result_release(&result);
    photo_set_release(&set);
    paths_release(&paths);

    return done;
}

/* False: a usage error was printed; *ret_exit is the exit code. */
static bool read_options(const struct quantize_settings *settings, struct quant_options *ret, int *ret_exit) {
    *ret = (struct quant_options){.max_loss = settings->max_loss,
                                  .per_tensor = settings->per_tensor,
                                  .activations = DTYPE_U8,
                                  .seed = (uint64_t)settings->language.seed};
    *ret_exit = EXIT_DONE;

    if (!settings->calibrate)
        *ret_exit = cli_usage(&command, "--calibrate DIR is needed: photos like those the model will see");
    else if (settings->method && !quant_method_parse(settings->method, &ret->method))
        *ret_exit = cli_usage(&command, "--method is minmax, entropy, percentile, mse or auto, not '%s'",
                              settings->method);
    else if (settings->activations && strcmp(settings->activations, "int8") == 0)
        ret->activations = DTYPE_I8;
    else if (settings->activations && strcmp(settings->activations, "uint8") != 0)
        *ret_exit = cli_usage(&command, "--activations is uint8 or int8, not '%s'", settings->activations);
    else if (settings->per_channel && settings->per_tensor)
        *ret_exit = cli_usage(&command, "--per-channel and --per-tensor cannot be combined");

    return *ret_exit == EXIT_DONE;
}

/* Is it a language model that is meant? */
static bool means_language(const struct quantize_settings *settings) {
    struct model_files files;
    struct error ignored;
    if (!settings->model || !model_find_files(settings->model, &files, &ignored))
        return settings->language.to;

    bool language = files.kind == MODEL_LANGUAGE;
    model_files_release(&files);
    return language;
}

static int quantize_a_language_model(struct quantize_settings *settings) {
    const struct comparison_arguments *common = &settings->common;
    if (settings->calibrate || settings->method || settings->activations || settings->per_channel ||
        settings->per_tensor || common->labels)
        return cli_usage(&command, "a language model has no photos: --to TYPE and perhaps --text FILE");

    settings->language.model = settings->model;
    settings->language.output = common->output;
    settings->language.threads = common->threads;
    settings->language.json = common->json;
    return quantize_language(&command, &settings->language);
}

int verb_quantize(int argc, char **argv) {
    struct quantize_settings settings = {.max_loss = 0.5,
                                         .common = {.photos = PHOTOS_DEFAULT, .offset = LABEL_OFFSET_AUTO}};
    const struct option_spec specs[] = {
        {.name = "calibrate", .kind = OPTION_TEXT, .value = &settings.calibrate},
        {.name = "method", .kind = OPTION_TEXT, .value = &settings.method},
        {.name = "per-channel", .kind = OPTION_FLAG, .value = &settings.per_channel},
        {.name = "per-tensor", .kind = OPTION_FLAG, .value = &settings.per_tensor},
        {.name = "activations", .kind = OPTION_TEXT, .value = &settings.activations},
        {.name = "max-loss", .kind = OPTION_REAL, .value = &settings.max_loss, .minimum = 0, .maximum = 100},
        QUANTIZE_LANGUAGE_SPECS(&settings.language),
        COMPARISON_SPECS(&settings.common),
        {0},
    };
    int words, status;
    struct quant_options options;
    struct error error = {0};

    if (!options_parse(&command, argc, argv, specs, 0, 1, &words, &status))
        return status;
    settings.model = words ? argv[1] : NULL;
    if (means_language(&settings)) {
        status = quantize_a_language_model(&settings);
        free(settings.language.texts.words);
        return status;
    }
    if (!read_options(&settings, &options, &status))
        return status;

    const struct engine_options engine_options = {.precision = PRECISION_F32,
                                                  .threads = settings.common.threads};
    struct model *model = cli_model_load(settings.model, &engine_options, &error);
    bool done = model && quant_network_check(model_path(model), &error) &&
                quantize(&settings, &options, model, &error);

    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
