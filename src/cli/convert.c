/* guichet convert: a language model as Hugging Face keeps it -> a GGUF file. */
#include <string.h>

#include "cli/comparison.h"
#include "cli/verbs.h"
#include "gguf/convert.h"

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
    bool done = convert_folder(argv[1], output,
                               name    ? name
                               : slash ? slash + 1
                                       : argv[1],
                               stages_show, &stages, &error);
    stages_end(&stages);
    if (done)
        printf("written: %s\n", output);
    return done ? EXIT_DONE : cli_fail(&error);
}
