/* guichet convert: a language model as Hugging Face keeps it -> a GGUF file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cli/comparison.h"
#include "cli/language.h"
#include "cli/verbs.h"
#include "gguf/convert.h"
#include "llm/model.h"

static const char help[] =
    "Convert a language model from Hugging Face's format to GGUF, with the same weights.\n"
    "\n"
    "Usage: guichet convert DIR --output FILE.gguf\n"
    "\n"
    "DIR has config.json, tokenizer.json and model.safetensors, or the files that\n"
    "model.safetensors.index.json names; of the architectures llama, mistral, smollm3, qwen2 and\n"
    "qwen3, with weights in F32, F16 or BF16. guichet quantize takes such folders, too.\n"
    "\n"
    "  --output FILE      the file that is written\n"
    "  --name NAME        what the model is called (the folder's name)\n"
    "\n"
    "Example:\n"
    "  guichet convert Qwen3-0.6B --output qwen3-0.6b-BF16.gguf\n";

static const struct command command = {"convert", help};

/* Nothing is there, or a GGUF file. */
static bool may_replace(const char *output, struct error *error) {
    char first[4] = "";
    FILE *file = fopen(output, "re");
    if (!file)
        return errno == ENOENT || error_set_errno(error, ERROR_IO, errno, "%s", output);
    size_t count = fread(first, 1, sizeof first, file);
    fclose(file);
    return (count == sizeof first && memcmp(first, "GGUF", sizeof first) == 0) ||
           error_set(error, ERROR_INVALID, "%s is there, and is no GGUF file: give another --output", output);
}

bool cli_convert(const char *folder, const char *output, const char *name, struct stages *stages,
                 struct error *error) {
    cleanup(freep) char *draft = NULL;
    if (!may_replace(output, error))
        return false;
    if (asprintf(&draft, "%s.unchecked", output) < 0) {
        draft = NULL;
        return error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");
    }
    if (!convert_folder(folder, draft, name, stages_show, stages, error))
        return false;

    struct llm_model *model = llm_model_load(draft, error);
    bool done = model || error_prefix(error, "%s is not a whole model: converted", folder);
    llm_model_free(model);
    if (done && rename(draft, output) < 0)
        done = error_set_errno(error, ERROR_IO, errno, "%s", output);
    if (!done)
        unlink(draft);
    return done;
}

int verb_convert(int argc, char **argv) {
    const char *output = NULL, *name = NULL;
    const struct option_spec specs[] = {
        {.name = "output", .kind = OPTION_TEXT, .value = &output},
        {.name = "name", .kind = OPTION_TEXT, .value = &name},
        {0},
    };
    int words, status;
    struct error error = {0};
    struct stages stages;

    if (!options_parse(&command, argc, argv, specs, 1, 1, &words, &status))
        return status;
    if (!output)
        return cli_usage(&command, "--output FILE.gguf is needed");

    size_t length = strlen(argv[1]);
    while (length > 1 && argv[1][length - 1] == '/')
        argv[1][--length] = 0;
    const char *slash = strrchr(argv[1], '/');
    stages_begin(&stages);
    bool done = cli_convert(argv[1], output, name ? name : slash ? slash + 1 : argv[1], &stages, &error);
    stages_end(&stages);
    if (done)
        printf("written: %s\n", output);
    return done ? EXIT_DONE : cli_fail(&error);
}
