#include "cli/quantize_language.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/comparison.h"
#include "cli/language.h"
#include "model/language_files.h"
#include "quant/language.h"

enum { WINDOW = 256, CHOOSERS = 32, JUDGES = 32 };

/* What the run has. */
struct quantize_language {
    const struct quantize_language_arguments *arguments;
    const struct language_target *target;
    struct model_files files;
    char *output; /* the file */
    struct language_text choosers, judges;
    struct stages stages;
    struct language_result result;
};

/* FOLDER/NAME-TYPE.gguf, where NAME is that of the model without its type of weights. */
static bool name_output(struct quantize_language *run, struct error *error) {
    size_t size;
    const char *path = run->files.network, *stem = language_file_stem(path, &size),
               *folder = run->arguments->output;
    struct language_files list = {0};
    bool known = language_files_add(&list, path, 0);

    if (known && list.count && list.files[0].bits) {
        size_t type = strlen(list.files[0].variant);
        if (size > type + 1)
            size -= type + 1;
    }
    language_files_release(&list);
    if (folder && mkdir(folder, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", folder);
    int length = folder
                     ? asprintf(&run->output, "%s/%.*s-%s.gguf", folder, (int)size, stem, run->target->name)
                     : asprintf(&run->output, "%.*s%.*s-%s.gguf", (int)(stem - path), path, (int)size, stem,
                                run->target->name);
    if (length < 0) {
        run->output = NULL;
        return error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");
    }
    struct stat from, to;
    if (stat(path, &from) == 0 && stat(run->output, &to) == 0 && from.st_dev == to.st_dev &&
        from.st_ino == to.st_ino)
        return error_set(error, ERROR_INVALID, "%s would be written over itself: --output DIR", path);
    return true;
}

static bool read_texts(const struct quantize_language *run, const struct llm_model *model, int window,
                       struct language_text *ret, struct error *error) {
    const struct option_list *texts = &run->arguments->texts;
    struct token_list tokens = {0};
    bool done = true;

    for (int i = 0; done && i < texts->count; i++) {
        size_t size;
        cleanup(freep) char *text = file_read(texts->words[i], LIMIT_TOKENIZED_BYTES, &size, error);
        done =
            text && tokenizer_encode(llm_model_tokenizer(model), text, size, SPECIAL_AS_TEXT, &tokens, error);
    }
    done = done && language_text_cut(model, tokens.ids, tokens.count, window, ret, error);
    token_list_release(&tokens);
    return done;
}

/* Texts that choose, and others that judge. */
static bool find_text(struct quantize_language *run, struct error *error) {
    cleanup(llm_model_freep) struct llm_model *model = llm_model_load(run->files.network, error);
    struct language_text all = {0};
    uint64_t seed = (uint64_t)run->arguments->seed;
    if (!model)
        return false;

    int64_t context = llm_model_config(model)->context;
    int window = context > 0 && context < WINDOW ? (int)context : WINDOW;
    bool done = run->arguments->texts.count
                    ? read_texts(run, model, window, &all, error)
                    : language_text_sample(model, window, CHOOSERS + JUDGES / 2, run->arguments->threads,
                                           seed, stages_show, &run->stages, &all, error);
    done = done && language_text_part(&all, CHOOSERS, JUDGES, seed, &run->choosers, &run->judges, error);
    language_text_release(&all);
    return done;
}

static void print_result(const struct quantize_language *run) {
    const struct language_result *result = &run->result;
    printf("written: %s\n%.2f MB of weights instead of %.2f MB\n", run->output,
           (double)result->bytes[1] / 1e6, (double)result->bytes[0] / 1e6);
}

static bool run_all(struct quantize_language *run, struct error *error) {
    if (!language_find(run->arguments->model, &run->files, error) || !name_output(run, error))
        return false;

    stages_begin(&run->stages);
    if (!run->arguments->plain && !find_text(run, error))
        return false;
    const struct language_request options = {.target = run->target,
                                             .text = run->arguments->plain ? NULL : &run->choosers,
                                             .threads = run->arguments->threads,
                                             .progress = stages_show,
                                             .context = &run->stages};
    if (!language_quantize(run->files.network, run->output, &options, &run->result, error))
        return false;
    stages_end(&run->stages);
    print_result(run);
    return true;
}

int quantize_language(const struct command *command, const struct quantize_language_arguments *arguments) {
    struct quantize_language run = {.arguments = arguments};
    struct error error = {0};
    if (!arguments->to)
        return cli_usage(command, "--to TYPE is needed: %s", language_target_names());
    run.target = language_target_find(arguments->to);
    if (!run.target)
        return cli_usage(command, "--to is %s, not '%s'", language_target_names(), arguments->to);
    if (arguments->plain && arguments->texts.count)
        return cli_usage(command, "--plain needs no --text");

    bool done = run_all(&run, &error);
    stages_end(&run.stages);
    language_result_release(&run.result);
    language_text_release(&run.choosers);
    language_text_release(&run.judges);
    model_files_release(&run.files);
    free(run.output);
    return done ? EXIT_DONE : cli_fail(&error);
}
