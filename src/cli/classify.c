/* guichet classify: photos in, answers out. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/progress.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"

enum { TOP_DEFAULT = 5, TOP_LIMIT = 1000, BAR_WIDTH = 24 };

static const char help[] =
    "Say what photos show.\n"
    "\n"
    "Usage: guichet classify [OPTION…] IMAGE…\n"
    "\n"
    "IMAGE is a file (JPEG, PNG or WebP), an http or https address, or - for standard input.\n"
    "\n"
    "  --model MODEL      a folder, an .onnx file or a name ('guichet models' lists them); animals by "
    "default;\n"
    "                     MODEL:int8 takes the quantised one\n"
    "  --top K            so many answers for each photo (5)\n"
    "  --language CODE    labels in this language, where the model has them: fr\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        of the network (as many as there are)\n"
    "  --json             one JSON object a line: image, model, category, predictions, timing_ms\n"
    "\n"
    "Examples:\n"
    "  guichet classify cat.jpg\n"
    "  guichet classify --top 1 --json *.jpg\n"
    "  guichet classify --model ~/models/resnet152 https://example.org/dog.jpg\n"
    "  curl -s https://example.org/dog.jpg | guichet classify -\n"
    "\n"
    "Exit status: 0 all were answered, 1 some were not, 2 asked for wrongly.\n";

struct settings {
    const char *model, *language, *precision;
    int top, threads;
    bool json;
};

/* Everything that one answer is made of. */
struct answer {
    const char *image;
    const struct model *model;
    const struct prediction *predictions; /* [count] */
    int count;
    struct timing timing;
    const char *language;
};

static json_t *predictions_json(const struct answer *answer) {
    json_t *list = json_array();
    for (int i = 0; i < answer->count; i++) {
        const struct prediction *prediction = &answer->predictions[i];
        json_array_append_new(list, json_pack("{s:i, s:s, s:o}", "index", prediction->index, "label",
                                              model_label(answer->model, prediction->index, answer->language),
                                              "probability", cli_json_real(prediction->probability, 6)));
    }
    return list;
}

static void print_json(const struct answer *answer) {
    const struct timing *timing = &answer->timing;
    cli_print_json(json_pack("{s:s, s:s, s:s, s:o, s:{s:o, s:o, s:o, s:o}}", "image", answer->image, "model",
                             model_name(answer->model), "category",
                             model_label(answer->model, answer->predictions[0].index, answer->language),
                             "predictions", predictions_json(answer), "timing_ms", "fetch",
                             cli_json_real(timing->fetch, 3), "decode", cli_json_real(timing->decode, 3),
                             "preprocess", cli_json_real(timing->preprocess, 3), "infer",
                             cli_json_real(timing->infer, 3)));
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

static void print_sentence(const struct answer *answer, bool coloured) {
    const char *label = model_label(answer->model, answer->predictions[0].index, answer->language);
    float probability = answer->predictions[0].probability;
    const char *bold = coloured ? "\033[1m" : "", *plain = coloured ? "\033[0m" : "";
    if (answer->language && strcmp(answer->language, "en") != 0)
        printf("%s: %s%s%s (%.0f %%)\n", answer->image, bold, label, plain, probability * 100);
    else if (probability >= 0.5f)
        printf("%s: %s%s%s%s (%.0f %%)\n", answer->image, article(label), bold, label, plain,
               probability * 100);
    else
        printf("%s: hard to say, perhaps %s%s%s%s (%.0f %%)\n", answer->image, article(label), bold, label,
               plain, probability * 100);
}

static void print_person(const struct answer *answer, bool blank_line_before) {
    if (blank_line_before)
        putchar('\n');
    bool coloured = terminal_has_colour(stdout);
    const char *blue = coloured ? "\033[34m" : "", *grey = coloured ? "\033[2m" : "",
               *plain = coloured ? "\033[0m" : "";
    int widest = 0;
    for (int i = 0; i < answer->count; i++) {
        int width = text_width(model_label(answer->model, answer->predictions[i].index, answer->language));
        widest = width > widest ? width : widest;
    }
    print_sentence(answer, coloured);
    for (int i = 0; i < answer->count; i++) {
        const char *label = model_label(answer->model, answer->predictions[i].index, answer->language);
        char bar[PROGRESS_BAR_TEXT];
        printf("  %s%*s  %s%s%s %5.1f %%\n", label, widest - text_width(label), "", blue,
               progress_bar(answer->predictions[i].probability, BAR_WIDTH, bar), plain,
               answer->predictions[i].probability * 100);
    }
    const struct timing *timing = &answer->timing;
    printf("  %s", grey);
    if (timing->fetch > 0)
        printf("fetched in %.0f ms, ", timing->fetch);
    printf("decoded in %.1f ms, prepared in %.1f, recognised in %.1f (%s, %s)%s\n", timing->decode,
           timing->preprocess, timing->infer, model_name(answer->model),
           engine_precision_used(model_engine(answer->model)), plain);
}

static void report_failure(const struct settings *settings, const char *image, struct error *error) {
    if (settings->json) {
        cli_print_json(json_pack("{s:s, s:s}", "image", image, "error", error->message));
        return;
    }
    if (strncmp(error->message, image, strlen(image)) != 0)
        error_prefix(error, "%s", strcmp(image, "-") == 0 ? "standard input" : image);
    cli_fail(error);
}

static bool classify_one(const struct settings *settings, const struct model *model,
                         struct model_classifier *classifier, const char *image,
                         struct prediction *predictions, bool blank_line_before) {
    struct error error = {0};
    struct buffer bytes = {0};
    struct answer answer = {
        .image = image, .model = model, .predictions = predictions, .language = settings->language};
    bool done = photo_read(image, &bytes, &answer.timing.fetch, &error) &&
                model_classify(classifier, (const uint8_t *)bytes.bytes, bytes.size, settings->top,
                               predictions, &answer.count, &answer.timing, &error);
    buffer_release(&bytes);
    if (!done)
        report_failure(settings, image, &error);
    else if (settings->json)
        print_json(&answer);
    else
        print_person(&answer, blank_line_before);
    return done;
}

static int classify_all(const struct settings *settings, const struct engine_options *options, char **images,
                        int count) {
    struct error error = {0};
    struct model *model = cli_model_load(settings->model, options, &error);
    struct model_classifier *classifier = model ? model_classifier_create(model, &error) : NULL;
    struct prediction *predictions = calloc((size_t)settings->top, sizeof *predictions);
    int failed = 0;
    if (!classifier || !predictions) {
        if (classifier)
            error_set(&error, ERROR_MEMORY, "no memory for %d answers", settings->top);
        failed = cli_fail(&error);
    }
    for (int i = 0, answered = 0; classifier && predictions && i < count; i++) {
        bool done = classify_one(settings, model, classifier, images[i], predictions, answered > 0);
        answered += done;
        failed += !done;
    }
    free(predictions);
    if (classifier)
        cli_refresh_baked(model);
    model_classifier_free(classifier);
    model_free(model);
    return failed ? EXIT_FAILED : EXIT_DONE;
}

static const struct command self = {"classify", help};

int verb_classify(int argc, char **argv) {
    struct settings settings = {.top = TOP_DEFAULT};
    const struct option_spec options[] = {
        {"model", OPTION_TEXT, &settings.model, 0, 0},
        {"top", OPTION_INT, &settings.top, 1, TOP_LIMIT},
        {"language", OPTION_TEXT, &settings.language, 0, 0},
        {"precision", OPTION_TEXT, &settings.precision, 0, 0},
        {"threads", OPTION_INT, &settings.threads, 1, 1024},
        {"json", OPTION_FLAG, &settings.json, 0, 0},
        {0},
    };
    int images, code;
    struct engine_options engine;
    if (!options_parse(&self, argc, argv, options, 1, -1, &images, &code) ||
        !cli_engine_options(&self, settings.precision, settings.threads, &engine, &code))
        return code;
    return classify_all(&settings, &engine, argv + 1, images);
}
