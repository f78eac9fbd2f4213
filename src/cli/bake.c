/* guichet bake: prepare a model, so that it starts at once. */
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"

static const char help[] =
    "Prepare a model, so that it starts at once.\n"
    "\n"
    "Usage: guichet bake MODEL [OPTION…]\n"
    "\n"
    "Writes the simplified network, with its weights packed for this processor, into a file next\n"
    "to the model (model.onnx.bf16.baked). Every verb and the service use it while it is current:\n"
    "made from the same model file, for the same precision and kind of processor, by the same\n"
    "version. Stale files are ignored, with a message.\n"
    "\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --output FILE      write to this file instead\n"
    "  --json             {\"model\", \"file\", \"precision\", \"bytes\", \"bake_ms\"}\n"
    "\n"
    "Examples:\n"
    "  guichet bake resnet152           a model by name\n"
    "  guichet bake folder/model.onnx   a file\n";

static const struct command self = {"bake", help};

/* A classifier plans for one photo: the weights are packed as most requests need them. */
static bool bake(struct model *model, const char *output, struct error *error) {
    struct model_classifier *classifier = model_classifier_create(model, error);
    bool done = classifier && engine_bake(model_engine(model), output, error);
    model_classifier_free(classifier);
    return done;
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

int verb_bake(int argc, char **argv) {
    const char *precision = NULL, *output = NULL;
    bool json = false;
    int words, code;
    const struct option_spec options[] = {
        {.name = "precision", .kind = OPTION_TEXT, .value = &precision},
        {.name = "output", .kind = OPTION_TEXT, .value = &output},
        {.name = "json", .kind = OPTION_FLAG, .value = &json},
        {0},
    };
    struct engine_options engine_options;
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code) ||
        !cli_engine_options(&self, precision, 0, &engine_options, &code))
        return code;

    engine_options.no_baked = true;
    double began = clock_ms();
    struct model *model = cli_model_load(argv[1], &engine_options, &error);
    char path[4096];

    if (model && !output)
        output = engine_baked_path(model_engine(model), path, sizeof path);
    if (!model || !bake(model, output, &error)) {
        model_free(model);
        return cli_fail(&error);
    }

    code = report(model, output, clock_ms() - began, json);
    model_free(model);
    return code;
}
