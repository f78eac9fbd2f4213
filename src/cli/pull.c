#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "model/directory.h"
#include "serve/pull.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define RETRIES 5

static const char help[] =
    "Fetch models into the model folder.\n"
    "\n"
    "Usage: guichet pull [OPTION…] SOURCE…\n"
    "\n"
    "SOURCE is a name of the catalogue (guichet models lists it), hf:OWNER/REPO[@REVISION] of Hugging Face, "
    "or the\n"
    "http(s) address of an .onnx file. A pull that was cut goes on where it stopped when it is asked for "
    "again.\n"
    "\n"
    "  --name NAME    call the model so (one SOURCE only)\n"
    "  --file PATH    which network of a repository (onnx/model.onnx, model.onnx, or the only one)\n"
    "  --sha256 HEX   what the file at an address must be\n"
    "  --models DIR   the model folder ($GUICHET_MODELS, else ~/.local/share/guichet/models)\n"
    "  --force        replace a model that is there\n"
    "  --quiet        no progress\n"
    "\n"
    "HF_ENDPOINT names another server that speaks Hugging Face's protocol; HF_TOKEN is sent to it, and to "
    "nobody\n"
    "else.\n"
    "\n"
    "Examples:\n"
    "  guichet pull resnet50\n"
    "  guichet pull --name cats hf:someone/cat-breeds@v2\n";

/* The line on the terminal follows one file after the other. */
struct show {
    struct progress line;
    int number; /* of the file that the line is about; 0: none yet */
    char label[96];
};

static void show_progress(void *context, const char *file, int number, int count, uint64_t done,
                          uint64_t total) {
    struct show *show = context;
    if (number != show->number) {
        progress_end(&show->line);
        snprintf(show->label, sizeof show->label, "%s (%d of %d)", file, number, count);
        progress_begin(&show->line, show->label, NULL, total, done);
        show->number = number;
    }
    progress_update(&show->line, done);
}

static void report(const char *directory, const struct pull_result *result) {
    if (result->already) {
        printf("%s: already in %s (--force pulls it again)\n", result->name, directory);
        return;
    }
    printf("%s: %.1f MB in %s/%s\n", result->name, (double)result->bytes / 1e6, directory, result->name);
    if (result->supplied.labels)
        printf("  ImageNet's labels were added: the source has none\n");
    if (result->supplied.recipe)
        printf("  ImageNet's preprocessing was added: the source has none\n");
}

static int pull_each(char **sources, int count, const char *directory, struct pull_options *options) {
    int status = EXIT_DONE;
    for (int i = 0; i < count; i++) {
        struct show show = {0};
        struct pull_result result;
        struct error error = {0};
        options->context = &show;
        bool done = pull_model(directory, sources[i], options, &result, &error);
        progress_end(&show.line);
        if (done)
            report(directory, &result);
        else
            status = cli_fail(&error);
    }
    return status;
}

/* A variable that is set and not empty. */
static const char *variable(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static const struct command self = {"pull", help};

int verb_pull(int argc, char **argv) {
    struct pull_options options = {.endpoint = variable("HF_ENDPOINT", DEFAULT_ENDPOINT),
                                   .token = variable("HF_TOKEN", NULL),
                                   .retries = RETRIES};
    const char *directory = NULL;
    bool quiet = false;
    const struct option_spec specs[] = {
        {.name = "name", .kind = OPTION_TEXT, .value = &options.name},
        {.name = "file", .kind = OPTION_TEXT, .value = &options.file},
        {.name = "sha256", .kind = OPTION_TEXT, .value = &options.sha256},
        {.name = "models", .kind = OPTION_TEXT, .value = &directory},
        {.name = "force", .kind = OPTION_FLAG, .value = &options.force},
        {.name = "quiet", .kind = OPTION_FLAG, .value = &quiet},
        {0},
    };
    int count, status;
    if (!options_parse(&self, argc, argv, specs, 1, -1, &count, &status))
        return status;
    if (count > 1 && (options.name || options.file || options.sha256))
        return cli_usage(&self, "--name, --file and --sha256 go with one SOURCE");
    cleanup(freep) char *own = directory ? NULL : model_directory_default();
    directory = directory ? directory : own;
    if (!directory)
        return cli_usage(&self, "there is no model folder: set GUICHET_MODELS or give --models");
    options.progress = quiet ? NULL : show_progress;
    return pull_each(argv + 1, count, directory, &options);
}
