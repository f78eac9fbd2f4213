#include "cli/compare_language.h"

#include <errno.h>
#include <sys/stat.h>

#include "cli/comparison.h"
#include "cli/language.h"
#include "cli/quantize_language.h"

enum { WINDOW = 256, WINDOWS = 64 };

static bool read_judges(const struct compare_language_arguments *arguments, const char *path,
                        struct language_text *ret, struct error *error) {
    cleanup(llm_model_freep) struct llm_model *model = llm_model_load(path, error);
    if (!model)
        return false;

    struct language_text all = {0}, others = {0};
    int64_t context = llm_model_config(model)->context;
    int window = context > 0 && context < WINDOW ? (int)context : WINDOW;
    if (!language_texts_read(&arguments->texts, model, window, &all, error))
        return false;
    if (all.windows <= WINDOWS) {
        *ret = all;
        return true;
    }
    bool done = language_text_part(&all, WINDOWS, 1, 0, ret, &others, error);
    language_text_release(&all);
    language_text_release(&others);
    return done;
}

static bool show(const struct compare_language_arguments *arguments, const struct language_report *report,
                 struct error *error) {
    if (arguments->output && mkdir(arguments->output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", arguments->output);
    if (arguments->output && !language_report_write(report, arguments->output, error))
        return false;
    if (arguments->json)
        return cli_print_json(language_report_json(report)) ||
               error_set(error, ERROR_MEMORY, "not enough memory for the report");
    language_report_print(report);
    return true;
}

int compare_language(const struct compare_language_arguments *arguments) {
    struct model_files files[2] = {0};
    struct language_text judges = {0};
    struct language_comparison comparison = {0};
    struct stages stages;
    struct error error = {0};

    stages_begin(&stages);
    bool done = language_find(arguments->models[0], &files[0], &error) &&
                language_find(arguments->models[1], &files[1], &error) &&
                read_judges(arguments, files[0].network, &judges, &error) &&
                language_compare((const char *const[]){files[0].network, files[1].network}, &judges,
                                 arguments->threads, stages_show, &stages, &comparison, &error);
    stages_end(&stages);
    done = done && show(arguments, &(struct language_report){.comparison = &comparison}, &error);

    language_comparison_release(&comparison);
    language_text_release(&judges);
    model_files_release(&files[0]);
    model_files_release(&files[1]);
    return done ? EXIT_DONE : cli_fail(&error);
}
