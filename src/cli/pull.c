#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "hub/pull.h"
#include "model/directory.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define RETRIES 5

static const char help[] =
    "Fetch models into the model directory.\n"
    "\n"
    "Usage: guichet pull [OPTION…] SOURCE…\n"
    "\n"
    "SOURCE is a name of the catalogue (guichet models lists it), hf:OWNER/REPO[@REVISION][:VARIANT] on "
    "Hugging Face\n"
    "(hf: may be left out, and the address of its page is good, too), or the http(s) URL of an .onnx or "
    ".gguf "
    "file.\n"
    "The files of weights that a network names come with it. An interrupted pull resumes where it stopped "
    "when it is run "
    "again.\n"
    "\n"
    "Of a language model (GGUF) one VARIANT is fetched, with all of its parts: Q4_K_M, Q8_0 …; without one "
    "Q4_K_M,\n"
    "else the smallest of 4 bits a weight or more, else the largest. Another one joins it later under the "
    "same name.\n"
    "\n"
    "  --name NAME    name of the model (with one SOURCE only)\n"
    "  --file PATH    the network to take of a repository (onnx/model.onnx, model.onnx, or the only one), or "
    "the\n"
    "                 GGUF file\n"
    "  --sha256 HEX   the expected SHA-256 of the file at a URL\n"
    "  --models DIR   the model directory ($GUICHET_MODELS, else ~/.local/share/guichet/models)\n"
    "  --force        replace an existing model\n"
    "  --quiet        show no progress\n"
    "\n"
    "HF_ENDPOINT names another server that speaks Hugging Face's protocol. HF_TOKEN is sent to that server "
    "only.\n"
    "\n"
    "Examples:\n"
    "  guichet pull resnet50\n"
    "  guichet pull hf:owner/SmolLM2-135M-Instruct-GGUF:Q8_0\n"
    "  guichet pull --name cats hf:someone/cat-breeds@v2\n";

/* The progress line on the terminal: of one file after the other. */
struct progress_display {
    struct progress line;
    int number; /* of the file that the line shows; 0: none yet */
    char label[96];
};

static void show_progress(void *context, const char *file, int number, int count, uint64_t done,
                          uint64_t total) {
    struct progress_display *display = context;
    if (number != display->number) {
        progress_end(&display->line);
        snprintf(display->label, sizeof display->label, "%s (%d of %d)", file, number, count);
        progress_begin(&display->line, display->label, NULL, total, done);
        display->number = number;
    }
    progress_update(&display->line, done);
}

static void report(const char *directory, const struct pull_result *result) {
    if (result->already) {
        printf("%s: already in %s (--force pulls it again)\n", result->name, directory);
        return;
    }

    printf("%s%s%s: %.1f MB in %s/%s%s\n", result->name, *result->variant ? ":" : "", result->variant,
           (double)result->bytes / 1e6, directory, result->name,
           result->added ? ", beside what was there" : "");
    if (result->defaults.labels)
        printf("  ImageNet's labels were added: the source has none\n");
    if (result->defaults.preprocessing)
        printf("  ImageNet's preprocessing was added: the source has none\n");
}

static int pull_each(char **sources, int count, const char *directory, struct pull_options *options) {
    int status = EXIT_DONE;

    for (int i = 0; i < count; i++) {
        struct progress_display display = {0};
        struct pull_result result;
        struct error error = {0};

        options->context = &display;
        bool done = pull_model(directory, sources[i], options, &result, &error);
        progress_end(&display.line);

        if (done)
            report(directory, &result);
        else
            status = cli_fail(&error);
    }

    return status;
}

/* An environment variable that is set and not empty, else `fallback`. */
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
        return cli_usage(&self, "no model directory is known: set GUICHET_MODELS or give --models");

    options.progress = quiet ? NULL : show_progress;
    return pull_each(argv + 1, count, directory, &options);
}
