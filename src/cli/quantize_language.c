#include "cli/quantize_language.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/comparison.h"
#include "cli/language.h"
#include "gguf/convert.h"
#include "model/language_files.h"
#include "quant/language.h"
#include "quant/language_report.h"

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

bool language_texts_read(const struct option_list *texts, const struct llm_model *model, int window,
                         struct language_text *ret, struct error *error) {
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
                    ? language_texts_read(&run->arguments->texts, model, window, &all, error)
                    : language_text_sample(model, window, CHOOSERS + JUDGES / 2, run->arguments->threads,
                                           seed, stages_show, &run->stages, &all, error);
    done = done && language_text_part(&all, CHOOSERS, JUDGES, seed, &run->choosers, &run->judges, error);
    language_text_release(&all);
    return done;
}

static void print_estimate(const char *name, struct estimate estimate, const char *words) {
    printf("%-14s%10.4f  (%.4f to %.4f)  %s\n", name, estimate.value, estimate.low, estimate.high, words);
}

void language_report_print(const struct language_report *report) {
    const struct language_comparison *c = report->comparison;
    const struct language_side *a = &c->sides[0], *b = &c->sides[1];
    char english[300], french[300];

    language_judge(c, english, french, sizeof english);
    printf("size          %10.2f MB instead of %.2f MB\n", (double)b->bytes / 1e6, (double)a->bytes / 1e6);
    print_estimate("divergence", c->divergence, "mean");
    print_estimate("", c->divergence_99, "99 %");
    print_estimate("", c->divergence_most, "largest");
    print_estimate("same first", c->same_first, "share of tokens that both find likeliest");
    print_estimate("perplexity", b->perplexity, "");
    print_estimate("  original", a->perplexity, "");
    print_estimate("prompts", c->prompt_speedup, "times as fast");
    print_estimate("writing", c->step_speedup, "times as fast");
    printf("\n%s\n", english);
}

bool language_report_write(const struct language_report *report, const char *folder, struct error *error) {
    struct buffer page = {0};
    json_t *json = language_report_json(report);
    cleanup(freep) char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    cleanup(freep) char *json_path = NULL;
    cleanup(freep) char *page_path = NULL;
    json_decref(json);
    if (asprintf(&json_path, "%s/report.json", folder) < 0)
        json_path = NULL;
    if (asprintf(&page_path, "%s/report.html", folder) < 0)
        page_path = NULL;
    if (!text || !json_path || !page_path || !language_report_html(report, &page))
        return error_set(error, ERROR_MEMORY, "not enough memory for the report");

    bool done = file_write(json_path, text, strlen(text), error) &&
                file_write(page_path, page.bytes, page.size, error);
    buffer_release(&page);
    return done;
}

/* The folder that has the new file. */
static char *folder_of(const struct quantize_language *run) {
    const char *slash = strrchr(run->output, '/');
    return slash ? strndup(run->output, slash == run->output ? 1 : (size_t)(slash - run->output))
                 : strdup(".");
}

static bool show_report(const struct quantize_language *run, const struct language_report *report,
                        struct error *error) {
    cleanup(freep) char *folder = folder_of(run);
    if (!folder)
        return error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");
    if (!language_report_write(report, folder, error))
        return false;
    if (run->arguments->json)
        return cli_print_json(language_report_json(report)) ||
               error_set(error, ERROR_MEMORY, "not enough memory for the report");
    language_report_print(report);
    printf("\nwritten: %s, report.json, report.html\n", run->output);
    return true;
}

/* The new file against the original. */
static bool report_price(struct quantize_language *run, struct error *error) {
    struct language_comparison comparison;
    const char *paths[2] = {run->files.network, run->output};
    const struct language_report report = {.comparison = &comparison,
                                           .result = &run->result,
                                           .target = run->target->name,
                                           .choosers = run->arguments->plain ? 0 : run->choosers.windows};
    bool done = language_compare(paths, &run->judges, run->arguments->threads, stages_show, &run->stages,
                                 &comparison, error);
    stages_end(&run->stages);
    done = done && show_report(run, &report, error);
    language_comparison_release(&comparison);
    return done;
}

/* A folder of Hugging Face's becomes a GGUF file first, FOLDER/NAME-BF16.gguf, which stays. */
static bool convert_first(struct quantize_language *run, struct error *error) {
    cleanup(freep) char *folder = strdup(run->arguments->model);
    cleanup(freep) char *path = NULL;
    const char *type, *output = run->arguments->output;
    size_t length = folder ? strlen(folder) : 0;
    while (length > 1 && folder[length - 1] == '/')
        folder[--length] = 0;
    const char *slash = folder ? strrchr(folder, '/') : NULL, *name = slash ? slash + 1 : folder;
    if (!folder || !convert_folder_type(folder, &type, error))
        return folder ? false : error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");

    output = output ? output : folder;
    if (mkdir(output, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s", output);
    if (asprintf(&path, "%s/%s-%s.gguf", output, name, type) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");
    }
    return cli_convert(folder, path, name, &run->stages, error) && language_find(path, &run->files, error);
}

static bool run_all(struct quantize_language *run, struct error *error) {
    const char *model = run->arguments->model;
    stages_begin(&run->stages);
    if (!(model && convert_is_folder(model) ? convert_first(run, error)
                                            : language_find(model, &run->files, error)) ||
        !name_output(run, error))
        return false;

    if (!find_text(run, error))
        return false;
    const struct language_request options = {.target = run->target,
                                             .text = run->arguments->plain ? NULL : &run->choosers,
                                             .threads = run->arguments->threads,
                                             .progress = stages_show,
                                             .context = &run->stages};
    if (!language_quantize(run->files.network, run->output, &options, &run->result, error))
        return false;
    return report_price(run, error);
}

int quantize_language(const struct command *command, const struct quantize_language_arguments *arguments) {
    struct quantize_language run = {.arguments = arguments};
    struct error error = {0};
    if (!arguments->to)
        return cli_usage(command, "--to TYPE is needed: %s", language_target_names());
    run.target = language_target_find(arguments->to);
    if (!run.target)
        return cli_usage(command, "--to is %s, not '%s'", language_target_names(), arguments->to);

    bool done = run_all(&run, &error);
    stages_end(&run.stages);
    language_result_release(&run.result);
    language_text_release(&run.choosers);
    language_text_release(&run.judges);
    model_files_release(&run.files);
    free(run.output);
    return done ? EXIT_DONE : cli_fail(&error);
}
