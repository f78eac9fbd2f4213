/* guichet teach: photos in named folders -> a model of those names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "cli/comparison.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"
#include "model/directory.h"
#include "model/find.h"
#include "model/name.h"
#include "teach/folder.h"

static const char help[] =
    "Teach classes of your own from photos, in seconds.\n"
    "\n"
    "Usage: guichet teach PHOTOS [OPTION…]\n"
    "\n"
    "PHOTOS has a folder for each class, named as the class is called, with photos in it: two at\n"
    "least, twenty are good, a hundred better. The network of another model is kept, and its last\n"
    "layer is made anew. Writes an ordinary model folder, which serve, classify and quantize take,\n"
    "with a card (README.md) that tells how well it does on photos it has not seen.\n"
    "\n"
    "  --from MODEL   the model whose network looks at the photos (animals). One that tells many\n"
    "                 kinds of things apart teaches better: guichet pull mobilenet_v2\n"
    "  --output DIR   the folder to be made (PHOTOS' name in the model directory)\n"
    "  --none NAME    add a class of this name, for photos that resemble none of those that were\n"
    "                 taught; about three in a hundred of its own are refused as well\n"
    "  --tune MINUTES tune all layers on the photos afterwards, for so long; what comes out is kept\n"
    "                 only where it is better on photos that were held out\n"
    "  --steps N      tune for N steps instead: the same file each time; an interrupted command\n"
    "                 continues when it is repeated\n"
    "  --force        replace a model that was taught before\n"
    "  --threads N    threads of the network (all processors)\n"
    "  --json         the report as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet teach ~/photos/mushrooms --from mobilenet_v2\n"
    "  guichet classify --model mushrooms photo.jpg\n"
    "\n"
    "Exit status: 0 written, 1 failed, 2 usage error.\n";

static const struct command command = {"teach", help};

struct teach_settings {
    const char *photos, *from, *output, *none;
    double minutes;
    int steps, threads;
    bool force, json;
};

/* The last part of a path, as a model may be called; "" where nothing of it may. */
static void name_of(const char *path, char ret[MODEL_NAME_PART + 1]) {
    size_t end = strlen(path), size = 0;
    while (end && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && path[start - 1] != '/')
        start--;

    for (size_t i = start; i < end && size < MODEL_NAME_PART; i++) {
        char one[2] = {path[i]};
        ret[size] = model_folder_name_valid(one) || (size && strchr("-_.", path[i])) ? path[i] : '-';
        size += size || ret[size] != '-';
    }
    ret[size] = 0;
}

/* The name is not that of a model in another of the searched directories, whose place the new one would take.
 */
static bool name_is_free(const char *name, const char *directory, struct error *error) {
    struct model_roots roots;
    cleanup(freep) char *own = realpath(directory, NULL); /* as the roots are; NULL: there is none yet */
    bool is_free = true;
    model_roots_find(&roots);
    for (int i = 0; is_free && i < roots.count; i++) {
        cleanup(freep) char *path = NULL;
        if (own && strcmp(roots.paths[i], own) == 0)
            continue;
        if (asprintf(&path, "%s/%s", roots.paths[i], name) < 0) {
            path = NULL;
            is_free = error_set(error, ERROR_MEMORY, "not enough memory for the name of a folder");
        } else if (access(path, F_OK) == 0) {
            is_free =
                error_set(error, ERROR_INVALID,
                          "there is a model called %s: %s; give --output DIR with another name", name, path);
        }
    }
    model_roots_release(&roots);
    return is_free;
}

/* malloc'ed; NULL with an error. */
static char *default_output(const char *photos, struct error *error) {
    char name[MODEL_NAME_PART + 1], *path;
    cleanup(freep) char *directory = model_directory_default();
    name_of(photos, name);
    if (!directory || !model_folder_name_valid(name)) {
        error_set(error, ERROR_INVALID,
                  directory ? "%s: no model can be called like this: give --output DIR"
                            : "%s: no model directory is known: give --output DIR",
                  photos);
        return NULL;
    }

    if (!name_is_free(name, directory, error))
        return NULL;
    for (char *slash = directory + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(directory, 0777);
        *slash = '/';
    }
    if ((mkdir(directory, 0777) < 0 && errno != EEXIST) || asprintf(&path, "%s/%s", directory, name) < 0) {
        error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", directory);
        return NULL;
    }
    return path;
}

static void warn_of_photos(const struct teach_result *result) {
    enum { NAMED = 10 };
    const struct teach_features *features = &result->features;
    if (result->classes.outside)
        cli_warn("%zu photos are in no class's folder and are left out", result->classes.outside);
    if (features->skipped_count)
        cli_warn("%d of %d photos cannot be used and are left out:", features->skipped_count,
                 features->skipped_count + features->count);
    for (int i = 0; i < features->skipped_count && i < NAMED; i++)
        cli_warn("  %s", features->skipped[i]);
    if (features->skipped_count > NAMED)
        cli_warn("  and %d more", features->skipped_count - NAMED);
}

static void print_result(const struct teach_result *result, const char *output, double seconds) {
    const struct teach_score *score = &result->score;
    int count = result->features.count, first, second;
    printf("%d photos of %d classes, %.1f s\n", count, result->classes.count, seconds);
    printf("%.1f %% are recognised by a layer made without them (with 95 %% confidence %.1f to %.1f %%)\n",
           100.0 * score->right / count, 100 * score->low, 100 * score->high);

    int confused = teach_most_confused(result, &first, &second);
    if (confused)
        printf("most often confused: %d of %d %s are taken for %s\n", confused, result->classes.photos[first],
               result->classes.names[first], result->classes.names[second]);

    const struct teach_tuning *tuning = &result->tuning;
    if (tuning->steps)
        printf("tuned: %lld steps, %.0f s; of %d photos held out %d are recognised, %d before: %s\n",
               (long long)tuning->steps, tuning->seconds, tuning->held_out, tuning->right, tuning->head_right,
               tuning->kept ? "better, and kept" : "no better, so the network stays as it was");
    printf("written: %s\n", output);
}

static bool teach(const struct teach_settings *settings, struct model *model, const char *output,
                  struct error *error) {
    struct stages stages;
    struct teach_result result;
    const struct teach_options options = {.photos = settings->photos,
                                          .output = output,
                                          .none = settings->none,
                                          .replace = settings->force,
                                          .minutes = settings->minutes,
                                          .steps = settings->steps,
                                          .threads = engine_threads(model_engine(model)),
                                          .report = stages_show,
                                          .context = &stages};
    double start = clock_ms();

    stages_begin(&stages);
    bool done = teach_run(model, &options, &result, error);
    stages_end(&stages);
    if (!done)
        return false;

    warn_of_photos(&result);
    if (settings->json)
        done = cli_print_json(teach_report(model, &options, &result)) ||
               error_set(error, ERROR_MEMORY, "not enough memory for the report");
    else
        print_result(&result, output, (clock_ms() - start) / 1000);
    teach_result_release(&result);
    return done;
}

int verb_teach(int argc, char **argv) {
    struct teach_settings settings = {0};
    const struct option_spec specs[] = {
        {.name = "from", .kind = OPTION_TEXT, .value = &settings.from},
        {.name = "output", .kind = OPTION_TEXT, .value = &settings.output},
        {.name = "none", .kind = OPTION_TEXT, .value = &settings.none},
        {.name = "tune", .kind = OPTION_REAL, .value = &settings.minutes, .maximum = 10000},
        {.name = "steps", .kind = OPTION_INT, .value = &settings.steps, .maximum = 1e6},
        {.name = "force", .kind = OPTION_FLAG, .value = &settings.force},
        {.name = "threads", .kind = OPTION_INT, .value = &settings.threads, .maximum = 1024},
        {.name = "json", .kind = OPTION_FLAG, .value = &settings.json},
        {0},
    };
    int words, status;
    struct error error = {0};
    if (!options_parse(&command, argc, argv, specs, 1, 1, &words, &status))
        return status;

    if (settings.none && (!*settings.none || settings.minutes > 0 || settings.steps))
        return cli_usage(&command, "--none takes a name, and cannot be combined with --tune and --steps");

    settings.photos = argv[1];
    cleanup(freep) char *output =
        settings.output ? strdup(settings.output) : default_output(settings.photos, &error);
    for (size_t end = output ? strlen(output) : 0; end > 1 && output[end - 1] == '/'; end--)
        output[end - 1] = 0;
    const struct engine_options engine_options = {.threads = settings.threads};
    struct model *model = output ? cli_model_load(settings.from, &engine_options, &error) : NULL;
    bool done = model && model_check_classifier(model, &error) && teach(&settings, model, output, &error);

    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
