/* guichet quantize: a float model and photos -> the same model in 8-bit integers, and the price. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/comparing.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"
#include "model/find.h"
#include "quant/load.h"

enum { PHOTOS_DEFAULT = 500, PHOTOS_MOST = 20000 };
#define SPEED_SECONDS 2.0

static const char help[] =
    "Make a model smaller and faster: 8-bit integers instead of floats, and a report of what that cost.\n"
    "\n"
    "Usage: guichet quantize [MODEL] --calibrate DIR [OPTION…]\n"
    "\n"
    "DIR holds photos like those the model will see, right in it or in folders; labels are not needed. A "
    "third of them\n"
    "judges, the others calibrate. Layers that cost too much of the answers stay in float. Written are\n"
    "model_int8.onnx (standard ONNX with QuantizeLinear and DequantizeLinear), report.json and report.html.\n"
    "A run that was interrupted goes on where it was when it is repeated.\n"
    "\n"
    "  --calibrate DIR   the photos\n"
    "  --photos N        at most so many of them, spread evenly (500)\n"
    "  --method M        how ranges are chosen: minmax, entropy, percentile, mse, or auto: the best of them "
    "(auto)\n"
    "  --per-tensor      one scale for all channels of a weight; --per-channel, one for each, is the "
    "default\n"
    "  --activations T   uint8 or int8 (uint8)\n"
    "  --max-loss P      points of agreement that may be lost on the photos that judge (0.5)\n"
    "  --labels FILE     lines \"photo <tab> class\": then the report tells how often each is right\n"
    "  --label-offset N  added to the class numbers of the list (1 where the model's first class is a "
    "background)\n"
    "  --output DIR      where to write (the model's own folder, which then offers MODEL:int8)\n"
    "  --threads N       (as many as there are)\n"
    "  --json            the report as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet quantize animals --calibrate photos\n"
    "  guichet quantize ~/models/resnet50 --calibrate photos --method entropy --output small\n"
    "\n"
    "Exit status: 0 written, 1 failed, 2 asked for wrongly.\n";

static const struct command command = {"quantize", help};

struct settings {
    const char *model, *calibrate, *method, *activations, *labels, *output;
    double max_loss;
    int photos, offset, threads;
    bool per_channel, per_tensor, json;
};

/* Where things lie. */
struct places {
    char *model_folder; /* with config.json */
    char *output;       /* a folder */
    char *network, *state;
};

static void places_release(struct places *places) {
    free(places->model_folder);
    free(places->output);
    free(places->network);
    free(places->state);
}

/* The folder of a file, malloc'ed. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}

static bool places_find(const struct model *model, const struct settings *settings, struct places *ret,
                        struct error *error) {
    ret->model_folder = folder_of(model_path(model));
    ret->output = settings->output ? strdup(settings->output) : folder_of(model_path(model));
    const char *last = ret->model_folder ? strrchr(ret->model_folder, '/') : NULL;
    if (last && strcmp(last, "/onnx") == 0 && last != ret->model_folder)
        ret->model_folder[last - ret->model_folder] = 0;
    if (!ret->model_folder || !ret->output ||
        asprintf(&ret->network, "%s/model_int8.onnx", ret->output) < 0 ||
        asprintf(&ret->state, "%s/.model_int8.calibration", ret->output) < 0)
        return error_set(error, ERROR_MEMORY, "no memory for the names of files");
    if (settings->output && mkdir(settings->output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", settings->output);
    return true;
}

/* Configuration and labels go with the network; what is not there is not missed. */
static bool copy_configuration(const struct places *places, struct error *error) {
    static const char *const names[] = {"config.json", "preprocessor_config.json", "labels_fr.json"};
    cleanup(freep) char *from_real = realpath(places->model_folder, NULL);
    cleanup(freep) char *to_real = realpath(places->output, NULL);
    if (from_real && to_real && strcmp(from_real, to_real) == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cleanup(freep) char *from = NULL;
        cleanup(freep) char *to = NULL;
        size_t size;
        if (asprintf(&from, "%s/%s", places->model_folder, names[i]) < 0 ||
            asprintf(&to, "%s/%s", places->output, names[i]) < 0)
            return error_set(error, ERROR_MEMORY, "no memory for the names of files");
        cleanup(freep) char *bytes = file_read(from, LIMIT_CONFIG_BYTES, &size, error);
        if (!bytes && error->code == ERROR_NOT_FOUND)
            continue;
        if (!bytes || !file_write(to, bytes, size, error))
            return false;
    }
    return true;
}

/* The quantised file and the float one, side by side on the photos that were held out. */
static bool show_price(const struct settings *settings, const struct places *places, struct model *model,
                       const struct photo_set *set, const struct quant_result *result,
                       const struct quant_options *options, struct stages *stages, struct error *error) {
    const struct model_options model_options = {
        .engine = {.precision = PRECISION_AUTO, .threads = settings->threads}};
    struct model *quantised = model_load(places->network, &model_options, error);
    struct engine *fast = quantised ? engine_load(model_path(model), &model_options.engine, error) : NULL;
    struct report report = {.quant = result, .options = options};
    bool done = fast != NULL;
    if (done) {
        report.sides[0] = cli_report_side(model, set);
        report.sides[1] = cli_report_side(quantised, set);
        report.fast = engine_precision(fast) == PRECISION_BF16 ? fast : NULL;
        done = report_measure(&report, result->held_out_photos, result->held_out, SPEED_SECONDS, stages_show,
                              stages, error);
    }
    stages_end(stages);
    done = done && cli_report_write(&report, places->output, error);
    if (done && settings->json) {
        json_t *json = report_json(&report);
        done = (json && cli_print_json(json)) || error_set(error, ERROR_MEMORY, "no memory for the report");
    } else if (done) {
        cli_report_print(&report);
        printf("\nwritten: %s, report.json, report.html\n", places->network);
        if (!result->search.met)
            cli_warn("the target is not met: %d of %d answers changed on the photos that judge, and %d may",
                     result->search.after.count - result->search.after.same, result->search.after.count,
                     result->search.allowed);
    }
    report_release(&report);
    engine_free(fast);
    model_free(quantised);
    return done;
}

static void warn_of_few(const struct photo_set *set, double max_loss) {
    int wanted = quant_photos_wanted(set->count, max_loss);
    if (wanted)
        cli_warn("%d photo%s %s few to tell a loss of %g points; about %d would do", set->count,
                 set->count == 1 ? "" : "s", set->count == 1 ? "is" : "are", max_loss, wanted);
}

static bool quantize(const struct settings *settings, const struct quant_options *base, struct model *model,
                     struct error *error) {
    struct places places = {0};
    struct photo_set set = {0};
    struct quant_result result = {0};
    struct quant_options options = *base;
    struct stages stages;
    const struct photo_choice choice = {settings->calibrate, settings->labels, settings->offset,
                                        settings->photos, settings->threads};
    stages_begin(&stages);
    bool done =
        places_find(model, settings, &places, error) && cli_photos_load(model, &choice, &stages, &set, error);
    if (done)
        warn_of_few(&set, options.max_loss);
    options.threads = engine_threads(model_engine(model));
    options.state_path = places.state;
    options.progress = stages_show;
    options.context = &stages;
    done = done && quant_run(model_path(model), &set, places.network, &options, &result, error);
    stages_end(&stages);
    if (!done && error->code == ERROR_UNAVAILABLE)
        error_set(error, ERROR_UNAVAILABLE,
                  "interrupted; nothing was written, and the same command goes on from here");
    done = done && copy_configuration(&places, error) &&
           show_price(settings, &places, model, &set, &result, &options, &stages, error);
    stages_end(&stages);
    quant_result_release(&result);
    photo_set_release(&set);
    places_release(&places);
    return done;
}

/* False: *ret_exit, the usage error is printed. */
static bool options_understand(const struct settings *settings, struct quant_options *ret, int *ret_exit) {
    *ret = (struct quant_options){
        .max_loss = settings->max_loss, .per_tensor = settings->per_tensor, .activations = DTYPE_U8};
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
        *ret_exit = cli_usage(&command, "--per-channel and --per-tensor exclude each other");
    return *ret_exit == EXIT_DONE;
}

int verb_quantize(int argc, char **argv) {
    struct settings settings = {.max_loss = 0.5, .photos = PHOTOS_DEFAULT, .offset = INT_MIN};
    const struct option_spec specs[] = {
        {"calibrate", OPTION_TEXT, &settings.calibrate, 0, 0},
        {"photos", OPTION_INT, &settings.photos, 1, PHOTOS_MOST},
        {"method", OPTION_TEXT, &settings.method, 0, 0},
        {"per-channel", OPTION_FLAG, &settings.per_channel, 0, 0},
        {"per-tensor", OPTION_FLAG, &settings.per_tensor, 0, 0},
        {"activations", OPTION_TEXT, &settings.activations, 0, 0},
        {"max-loss", OPTION_REAL, &settings.max_loss, 0, 100},
        {"labels", OPTION_TEXT, &settings.labels, 0, 0},
        {"label-offset", OPTION_INT, &settings.offset, -1000000, 1000000},
        {"output", OPTION_TEXT, &settings.output, 0, 0},
        {"threads", OPTION_INT, &settings.threads, 0, 1024},
        {"json", OPTION_FLAG, &settings.json, 0, 0},
        {0},
    };
    int words, status;
    struct quant_options options;
    struct error error = {0};
    if (!options_parse(&command, argc, argv, specs, 0, 1, &words, &status) ||
        !options_understand(&settings, &options, &status))
        return status;
    settings.model = words ? argv[1] : NULL;
    const struct engine_options engine_options = {.precision = PRECISION_F32, .threads = settings.threads};
    struct model *model = cli_model_load(settings.model, &engine_options, &error);
    bool done = model && quant_network_check(model_path(model), &error) &&
                quantize(&settings, &options, model, &error);
    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
