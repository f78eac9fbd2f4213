/* guichet evaluate: how often a model is right about photos whose classes are known. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/progress.h"
#include "cli/engine_options.h"
#include "cli/verbs.h"
#include "data/evaluator.h"
#include "data/loader.h"

enum { BATCH_DEFAULT = 8 };

static const char help[] =
    "Measure how often a model is right.\n"
    "\n"
    "Usage: guichet evaluate --data DIR [OPTION…]\n"
    "\n"
    "DIR has a folder of photos for each class, named by its label (\"golden retriever\",\n"
    "golden_retriever) or WordNet id (n02099601); or it has photos and labels.tsv, with lines\n"
    "\"photo <tab> class\". Photos that cannot be read are named and not counted.\n"
    "\n"
    "  --model MODEL      a folder, an .onnx file or a name (animals)\n"
    "  --labels FILE      a list of photos and classes instead of DIR/labels.tsv\n"
    "  --label-offset N   added to the class numbers of the list (1 where the model's first class\n"
    "                     is a background, else 0). A warning tells where another would suit\n"
    "  --batch N          photos per run (8)\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        threads of the network (all processors)\n"
    "  --json             images, top1 and top5 (0 to 1) and images_per_s, as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet evaluate --data animals64/val\n"
    "  guichet evaluate --model mobilenet_v2 --data photos --labels classes.tsv --json\n"
    "\n"
    "Exit status: 0 measured, 1 failed, 2 usage error.\n";

struct evaluate_settings {
    const char *model, *data, *labels, *precision;
    int offset, batch, threads;
    bool json;
};

struct score {
    const struct photo_list *list;
    struct hits hits;
    size_t failed;
    double seconds;
};

static void score_add(void *context, const struct evaluated_photo *photo) {
    struct score *score = context;
    hits_add(&score->hits, photo->best, photo->top, score->list->files[photo->photo].class_index);
}

static void print_failure(struct progress *progress, const struct error *error) {
    bool was_active = progress->active;
    progress_end(progress);
    cli_warn("%s", error->message);
    progress->active = was_active;
}

static bool score_photos(const struct photo_list *list, struct photo_loader *loader,
                         struct evaluator *evaluator, struct score *score, struct error *error) {
    struct progress progress;
    struct loaded_photo photo;
    bool done = true;
    progress_begin(&progress, "evaluating", "photos", list->count, 0);

    while (done && photo_loader_take(loader, &photo)) {
        const struct prepared_photo *prepared = &photo.prepared;
        if (prepared->tensor) {
            done = evaluator_add(evaluator, photo.index, prepared->tensor, prepared->width, prepared->height,
                                 error);
        } else {
            print_failure(&progress, &photo.error);
            score->failed++;
        }
        free(prepared->tensor);
        progress_update(&progress, photo.index + 1);
    }

    done = done && evaluator_finish(evaluator, error);
    progress_end(&progress);
    return done;
}

static void print_score(const struct evaluate_settings *settings, const struct model *model,
                        const struct score *score) {
    const struct hits *hits = &score->hits;
    double all = hits->count, rate = all / score->seconds;

    if (settings->json) {
        cli_print_json(json_pack("{s:i, s:o, s:o, s:o}", "images", hits->count, "top1",
                                 cli_json_real(hits->first / all, 6), "top5",
                                 cli_json_real(hits->five / all, 6), "images_per_s", cli_json_real(rate, 2)));
        return;
    }

    const struct engine *engine = model_engine(model);
    printf("%s on %d photos of %s", model_name(model), hits->count, settings->data);
    if (score->failed)
        printf(" (%zu could not be read)", score->failed);
    printf("\n  top-1  %6.2f %%  (%d)\n  top-5  %6.2f %%  (%d)\n  %.0f images/s, %s, %d thread%s\n",
           100.0 * hits->first / all, hits->first, 100.0 * hits->five / all, hits->five, rate,
           engine_precision_used(engine), engine_threads(engine), engine_threads(engine) == 1 ? "" : "s");
}

static bool score_list(const struct evaluate_settings *settings, struct model *model,
                       const struct photo_list *list, struct score *score, struct error *error) {
    struct photo_loader *loader = NULL;
    struct evaluator *evaluator = evaluator_create(model, settings->batch, score_add, score, error);
    double start = clock_ms();
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    bool done = false;

    if (!evaluator)
        goto out;

    loader = photo_loader_create(list, model_input(model), (int)processors, error);
    if (!loader || !score_photos(list, loader, evaluator, score, error))
        goto out;

    score->seconds = (clock_ms() - start) / 1000;
    done = score->hits.count || error_set(error, ERROR_INVALID, "%s: none of %zu photos could be read",
                                          settings->data, score->failed);

out:
    photo_loader_free(loader);
    evaluator_free(evaluator);

    return done;
}

static void warn_of_offset(const struct hits *hits, int used) {
    int offset = hits_find_offset(hits);
    if (offset)
        cli_warn(
            "%d of %d answers are the class %s the listed one: do the numbers begin at another class? Try "
            "--label-offset %d",
            offset > 0 ? hits->after : hits->before, hits->count, offset > 0 ? "after" : "before",
            offset + used);
}

static bool evaluate(const struct evaluate_settings *settings, struct model *model, struct error *error) {
    const struct photo_source source = {settings->data, settings->labels, settings->offset};
    struct photo_list list;
    if (!photo_list_read_labelled(&source, model, &list, error))
        return false;
    for (size_t i = 0; i < list.unknown_count; i++)
        cli_warn("%s: not a class of %s; ignored", list.unknown[i], model_name(model));

    struct score score = {.list = &list};
    bool done = score_list(settings, model, &list, &score, error);
    if (done) {
        print_score(settings, model, &score);
        warn_of_offset(&score.hits, list.label_offset);
    }
    photo_list_release(&list);
    return done;
}

static const struct command self = {"evaluate", help};

int verb_evaluate(int argc, char **argv) {
    struct evaluate_settings settings = {.batch = BATCH_DEFAULT, .offset = LABEL_OFFSET_AUTO};
    const struct option_spec options[] = {
        {.name = "model", .kind = OPTION_TEXT, .value = &settings.model},
        {.name = "data", .kind = OPTION_TEXT, .value = &settings.data},
        {.name = "labels", .kind = OPTION_TEXT, .value = &settings.labels},
        {.name = "label-offset",
         .kind = OPTION_INT,
         .value = &settings.offset,
         .minimum = -100000,
         .maximum = 100000},
        {.name = "batch", .kind = OPTION_INT, .value = &settings.batch, .minimum = 1, .maximum = 4096},
        {.name = "precision", .kind = OPTION_TEXT, .value = &settings.precision},
        {.name = "threads", .kind = OPTION_INT, .value = &settings.threads, .minimum = 1, .maximum = 1024},
        {.name = "json", .kind = OPTION_FLAG, .value = &settings.json},
        {0},
    };
    int words, code;
    struct engine_options engine;
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 0, 0, &words, &code) ||
        !cli_engine_options(&self, settings.precision, settings.threads, &engine, &code))
        return code;
    if (!settings.data)
        return cli_usage(&self,
                         "--data DIR is needed: photos in a folder for each class, or with labels.tsv");

    struct model *model = cli_model_load(settings.model, &engine, &error);
    bool done = model && evaluate(&settings, model, &error);
    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
