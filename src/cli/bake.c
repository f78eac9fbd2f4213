/* guichet bake: prepare a model, so that it starts at once. */
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/engine_options.h"
#include "cli/shapes.h"
#include "cli/verbs.h"
#include "model/find.h"

static const char help[] =
    "Prepare a model, so that it starts at once.\n"
    "\n"
    "Usage: guichet bake MODEL [OPTION…]\n"
    "\n"
    "Writes the simplified network, with its weights packed for this processor, into a file next\n"
    "to the model (model.onnx.bf16.baked). Every verb and the service use it while it is current:\n"
    "made from the same model file, for the same precision and kind of processor, by the same\n"
    "version. Stale files are ignored, with a message. Language models are mapped as they are: there is\n"
    "nothing to prepare.\n"
    "\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --size N           height, width and the like, where a network that takes no photo leaves\n"
    "                     them free (224, or a length that fits)\n"
    "  --output FILE      write to this file instead\n"
    "  --json             {\"model\", \"file\", \"precision\", \"bytes\", \"bake_ms\"}\n"
    "\n"
    "Examples:\n"
    "  guichet bake resnet152           a model by name\n"
    "  guichet bake folder/model.onnx   a file\n";

static const struct command self = {"bake", help};

/* A plan for one photo, or for one row of whatever else the network takes: the weights are packed as most
 * requests need them. */
static bool pack_weights(struct model *model, int size, struct error *error) {
    struct engine *engine = model_engine(model);
    struct error no_photos;
    if (model_takes_photos(model, &no_photos)) {
        struct model_classifier *classifier = model_classifier_create(model, error);
        model_classifier_free(classifier);
        return classifier != NULL;
    }

    const struct shape_wishes wishes = {.size = size};
    struct shaped_inputs inputs = {0};
    struct engine_context *context = engine_context_create(engine, error);
    bool done = context && cli_inputs_prepare(model, context, &wishes, &inputs, error);
    shaped_inputs_release(&inputs);
    engine_context_free(context);
    return done;
}

static bool bake(struct model *model, const char *output, int size, struct error *error) {
    return pack_weights(model, size, error) && engine_bake(model_engine(model), output, error);
}

static int report(struct model *model, const char *file, double elapsed, bool json) {
    struct stat status;
    double bytes = stat(file, &status) == 0 ? (double)status.st_size : 0;
    const char *precision = engine_precision_used(model_engine(model));

    if (json)
        return cli_print_json(json_pack("{s:s,s:s,s:s,s:f,s:o}", "model", model_name(model), "file", file,
                                        "precision", precision, "bytes", bytes, "bake_ms",
                                        cli_json_real(elapsed, 1)))
                   ? EXIT_DONE
                   : EXIT_FAILED;

    printf("%s: %s, %.1f MB, made in %.1f s\n", file, precision, bytes / 1e6, elapsed / 1e3);
    return EXIT_DONE;
}

/* Of a language model there is nothing to prepare. */
static bool check_kind(const char *name, struct error *error) {
    struct model_files files;
    if (!model_find_files(name, &files, error))
        return false;

    bool is_network = files.kind == MODEL_NETWORK;
    if (!is_network)
        error_set(error, ERROR_INVALID,
                  "%s is a language model, which runs from its file as it is: there is nothing to bake",
                  files.network);
    model_files_release(&files);
    return is_network;
}

int verb_bake(int argc, char **argv) {
    const char *precision = NULL, *output = NULL;
    bool json = false;
    int words, code, size = 0;
    const struct option_spec options[] = {
        {.name = "precision", .kind = OPTION_TEXT, .value = &precision},
        {.name = "size", .kind = OPTION_INT, .value = &size, .minimum = 1, .maximum = 1 << 24},
        {.name = "output", .kind = OPTION_TEXT, .value = &output},
        {.name = "json", .kind = OPTION_FLAG, .value = &json},
        {0},
    };
    struct engine_options engine_options;
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code) ||
        !cli_engine_options(&self, precision, 0, &engine_options, &code))
        return code;

    if (!check_kind(argv[1], &error))
        return cli_fail(&error);
    engine_options.no_baked = true;
    double began = clock_ms();
    struct model *model = cli_network_load(argv[1], &engine_options, &error);
    char path[4096];

    if (model && !output)
        output = engine_baked_path(model_engine(model), path, sizeof path);
    if (!model || !bake(model, output, size, &error)) {
        model_free(model);
        return cli_fail(&error);
    }

    code = report(model, output, clock_ms() - began, json);
    model_free(model);
    return code;
}
