/* guichet classify: what photos show. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"
#include "data/photo_list.h"
#include "model/document.h"

enum { TOP_DEFAULT = 5, TOP_LIMIT = 1000, BAR_WIDTH = 24 };

static const char help[] =
    "Say what photos show.\n"
    "\n"
    "Usage: guichet classify [OPTION…] IMAGE…\n"
    "\n"
    "IMAGE is a file (JPEG, PNG, WebP, GIF, BMP or TIFF), an http or https URL, a folder with photos in it\n"
    "or in its folders, or - for standard input.\n"
    "\n"
    "  --model MODEL      a folder, an .onnx file or a name ('guichet models' lists them);\n"
    "                     MODEL:int8 is the quantised variant (animals)\n"
    "  --top K            predictions per photo (5)\n"
    "  --language CODE    labels in this language, where the model has them: fr\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        threads of the network (all processors)\n"
    "  --json             one JSON object per line: image, model, category, predictions,\n"
    "                     timing_ms\n"
    "  --csv              a table with a line per photo: image, model, known, label, probability,\n"
    "                     error\n"
    "\n"
    "Examples:\n"
    "  guichet classify cat.jpg\n"
    "  guichet classify --top 1 --json *.jpg\n"
    "  guichet classify --csv Pictures/holidays > holidays.csv\n"
    "  guichet classify --model ~/models/resnet152 https://example.org/dog.jpg\n"
    "  curl -s https://example.org/dog.jpg | guichet classify -\n"
    "\n"
    "Exit status: 0 every photo was classified, 1 some were not, 2 usage error.\n";

struct classify_settings {
    const char *model, *language, *precision;
    int top, threads;
    bool json, csv;
};

/* A text that ends in a newline; released. */
static bool print_text(struct buffer *text, struct error *error) {
    bool done = !text->failed || error_set(error, ERROR_MEMORY, "not enough memory for the predictions");
    if (done)
        fwrite(text->bytes, 1, text->size, stdout);
    fflush(stdout);
    buffer_release(text);
    return done;
}

static bool print_json(const struct prediction_document *document, struct error *error) {
    struct buffer text = {0};
    prediction_document_write_line(document, &text);
    buffer_append_string(&text, "\n");
    return print_text(&text, error);
}

/* A photo's name may be any bytes: jansson would refuse those that are not UTF-8. */
static void print_json_failure(const char *image, const struct error *reason) {
    struct buffer text = {0};
    struct error error;
    buffer_append_string(&text, "{\"image\":");
    json_append_string(&text, image);
    buffer_append_string(&text, ",\"error\":");
    json_append_string(&text, reason->message);
    buffer_append_string(&text, "}\n");
    if (!print_text(&text, &error))
        cli_fail(&error);
}

/* A cell as RFC 4180 has it, and a comma. What a spreadsheet would take for a formula is made plain text. */
static void append_cell(struct buffer *text, const char *value) {
    bool is_formula = *value && strchr("=+-@\t\r", *value);
    bool is_quoted = strpbrk(value, ",\"\r\n");
    buffer_append_string(text, is_quoted ? "\"" : "");
    buffer_append_string(text, is_formula ? "'" : "");
    for (; *value; value++) {
        buffer_append_string(text, *value == '"' ? "\"" : "");
        buffer_append(text, value, 1);
    }
    buffer_append_string(text, is_quoted ? "\"," : ",");
}

/* `best`: NULL where there is none, as `reason` says. */
static bool print_csv(const char *image, const struct classify_settings *settings, const struct model *model,
                      const struct prediction *best, const struct error *reason, struct error *error) {
    struct buffer text = {0};
    const char *known = best ? model_knows_name(best->knows) : NULL;
    append_cell(&text, image);
    append_cell(&text, model_name(model));
    append_cell(&text, known ? known : "");
    append_cell(&text, best ? model_label(model, best->index, settings->language) : "");
    if (best)
        buffer_printf(&text, "%.6f", (double)best->probability);
    buffer_append_string(&text, ",");
    append_cell(&text, reason ? reason->message : "");
    if (text.size)
        text.size--; /* the last comma */
    buffer_append_string(&text, "\r\n");
    return print_text(&text, error);
}

/* Columns that a UTF-8 text takes, for Latin letters. */
static int text_width(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

/* "a ", "an ", or "" before a number: "class 17". */
static const char *article(const char *label) {
    size_t length = strlen(label);
    if (!length || isdigit((unsigned char)label[length - 1]))
        return "";
    return strchr("AEIOUaeiou", label[0]) ? "an " : "a ";
}

/* What comes before the best label. French needs no article this way. */
static const char *opening(const struct prediction *best, const char *label, bool english, char *ret,
                           size_t size) {
    bool sure = best->probability >= 0.5f && best->knows != MODEL_KNOWS_PERHAPS;
    if (best->knows == MODEL_KNOWS_NOT)
        snprintf(ret, size, "%s",
                 english ? "I don't know this; nearest: " : "je ne connais pas cela ; le plus proche : ");
    else if (english)
        snprintf(ret, size, "%s%s", sure ? "" : "hard to say, perhaps ", article(label));
    else
        snprintf(ret, size, "%s", sure ? "" : "difficile à dire, peut-être : ");
    return ret;
}

static void print_sentence(const struct prediction_document *document, bool colored) {
    const struct prediction *best = &document->predictions[0];
    const char *label = model_label(document->model, best->index, document->language);
    const char *bold = colored ? "\033[1m" : "", *plain = colored ? "\033[0m" : "";
    bool english = !document->language || strcmp(document->language, "fr") != 0;
    char percent[CLI_PERCENT_TEXT], words[64];

    printf("%s: %s%s%s%s (%s)\n", document->image, opening(best, label, english, words, sizeof words), bold,
           label, plain, cli_percent(best->probability, false, percent));
}

static void print_document(const struct prediction_document *document, bool blank_line_before) {
    if (blank_line_before)
        putchar('\n');
    bool colored = terminal_has_color(stdout);
    const char *blue = colored ? "\033[34m" : "", *grey = colored ? "\033[2m" : "",
               *plain = colored ? "\033[0m" : "";
    int widest = 0;

    for (int i = 0; i < document->count; i++) {
        int width =
            text_width(model_label(document->model, document->predictions[i].index, document->language));
        widest = width > widest ? width : widest;
    }

    print_sentence(document, colored);
    for (int i = 0; i < document->count; i++) {
        const char *label = model_label(document->model, document->predictions[i].index, document->language);
        char bar[PROGRESS_BAR_TEXT], percent[CLI_PERCENT_TEXT];
        printf("  %s%*s  %s%s%s%8s\n", label, widest - text_width(label), "", blue,
               progress_bar(document->predictions[i].probability, BAR_WIDTH, bar), plain,
               cli_percent(document->predictions[i].probability, true, percent));
    }

    const struct timing *timing = &document->timing;
    printf("  %s", grey);
    if (timing->fetch > 0)
        printf("fetched in %.0f ms, ", timing->fetch);
    printf("decoded in %.1f ms, prepared in %.1f, recognised in %.1f (%s, %s)%s\n", timing->decode,
           timing->preprocess, timing->infer, model_name(document->model),
           engine_precision_used(model_engine(document->model)), plain);
}

static void report_failure(const struct classify_settings *settings, const struct model *model,
                           const char *image, struct error *error) {
    struct error failure;
    if (settings->json) {
        print_json_failure(image, error);
        return;
    }
    if (settings->csv) {
        if (!print_csv(image, settings, model, NULL, error, &failure))
            cli_fail(&failure);
        return;
    }

    if (strncmp(error->message, image, strlen(image)) != 0)
        error_prefix(error, "%s", strcmp(image, "-") == 0 ? "standard input" : image);
    cli_fail(error);
}

static bool classify_one(const struct classify_settings *settings, const struct model *model,
                         struct model_classifier *classifier, const char *image,
                         struct prediction *predictions, bool blank_line_before) {
    struct error error = {0};
    struct buffer bytes = {0};
    struct prediction_document document = {.model = model,
                                           .name = model_name(model),
                                           .image = image,
                                           .language = settings->language,
                                           .predictions = predictions};
    bool done = photo_read(image, &bytes, &document.timing.fetch, &error) &&
                model_classify(classifier, (const uint8_t *)bytes.bytes, bytes.size, settings->top,
                               predictions, &document.count, &document.timing, &error);
    buffer_release(&bytes);

    if (done && settings->json)
        done = print_json(&document, &error);
    else if (done && settings->csv)
        done = print_csv(image, settings, model, &predictions[0], NULL, &error);
    else if (done)
        print_document(&document, blank_line_before);

    if (!done)
        report_failure(settings, model, image, &error);
    return done;
}

/* What is classified, and how that went. */
struct classify_run {
    const struct classify_settings *settings;
    const struct model *model;
    struct model_classifier *classifier;
    struct prediction *predictions; /* [settings->top] */
    int classified, failed;
};

static void run_one(struct classify_run *run, const char *image) {
    bool done = classify_one(run->settings, run->model, run->classifier, image, run->predictions,
                             run->classified > 0);
    run->classified += done;
    run->failed += !done;
}

static void run_folder(struct classify_run *run, const char *folder) {
    const struct photo_source source = {.folder = folder};
    struct photo_list list;
    struct error error;
    if (!photo_list_read(&source, NULL, &list, &error)) {
        report_failure(run->settings, run->model, folder, &error);
        run->failed++;
        return;
    }

    for (size_t i = 0; i < list.count; i++) {
        cleanup(freep) char *path = photo_list_path(&list, i);
        if (path)
            run_one(run, path);
        run->failed += !path;
    }
    photo_list_release(&list);
}

static bool is_folder(const char *path) {
    struct stat info;
    return !photo_is_url(path) && stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int classify_all(const struct classify_settings *settings, const struct engine_options *options,
                        char **images, int count) {
    struct error error = {0};
    struct model *model = cli_model_load(settings->model, options, &error);
    struct model_classifier *classifier = model ? model_classifier_create(model, &error) : NULL;
    struct prediction *predictions = calloc((size_t)settings->top, sizeof *predictions);
    struct classify_run run = {settings, model, classifier, predictions, 0, 0};

    if (!classifier || !predictions) {
        if (classifier)
            error_set(&error, ERROR_MEMORY, "not enough memory for %d predictions", settings->top);
        run.failed = cli_fail(&error);
    } else if (settings->csv) {
        fputs("image,model,known,label,probability,error\r\n", stdout);
    }

    for (int i = 0; classifier && predictions && i < count; i++) {
        if (is_folder(images[i]))
            run_folder(&run, images[i]);
        else
            run_one(&run, images[i]);
    }

    free(predictions);
    if (classifier)
        cli_refresh_baked(model);
    model_classifier_free(classifier);
    model_free(model);

    return run.failed ? EXIT_FAILED : EXIT_DONE;
}

static const struct command self = {"classify", help};

int verb_classify(int argc, char **argv) {
    struct classify_settings settings = {.top = TOP_DEFAULT};
    const struct option_spec options[] = {
        {.name = "model", .kind = OPTION_TEXT, .value = &settings.model},
        {.name = "top", .kind = OPTION_INT, .value = &settings.top, .minimum = 1, .maximum = TOP_LIMIT},
        {.name = "language", .kind = OPTION_TEXT, .value = &settings.language},
        {.name = "precision", .kind = OPTION_TEXT, .value = &settings.precision},
        {.name = "threads", .kind = OPTION_INT, .value = &settings.threads, .minimum = 1, .maximum = 1024},
        {.name = "json", .kind = OPTION_FLAG, .value = &settings.json},
        {.name = "csv", .kind = OPTION_FLAG, .value = &settings.csv},
        {0},
    };
    int images, code;
    struct engine_options engine;

    if (!options_parse(&self, argc, argv, options, 1, -1, &images, &code) ||
        !cli_engine_options(&self, settings.precision, settings.threads, &engine, &code))
        return code;
    if (settings.json && settings.csv)
        return cli_usage(&self, "--json and --csv: one of the two");
    return classify_all(&settings, &engine, argv + 1, images);
}
