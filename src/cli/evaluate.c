/* guichet evaluate: how often a model is right about photos whose classes are known. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/progress.h"
#include "cli/engine_options.h"
#include "cli/feeder.h"
#include "cli/verbs.h"

enum { TOP = 5, BATCH_DEFAULT = 8 };

static const char help[] =
    "Measure how often a model is right.\n"
    "\n"
    "Usage: guichet evaluate --data DIR [OPTION…]\n"
    "\n"
    "DIR holds one folder a class, called as the model calls it (\"golden retriever\", golden_retriever) or "
    "by its WordNet\n"
    "id (n02099601), with photos in it; or photos and labels.tsv, with lines \"photo <tab> class\".\n"
    "Photos that cannot be read are named, left out and not counted.\n"
    "\n"
    "  --model MODEL      a folder, an .onnx file or a name (animals)\n"
    "  --labels FILE      such a list of photos and classes, instead of DIR/labels.tsv\n"
    "  --label-offset N   added to the class numbers of the list (0); 1 where the model has a \"background\" "
    "first\n"
    "  --batch N          photos a run (8)\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --threads N        of the network (as many as there are)\n"
    "  --json             images, top1, top5 (shares of one) and images_per_s, as one JSON object\n"
    "\n"
    "Examples:\n"
    "  guichet evaluate --data animals64/val\n"
    "  guichet evaluate --model mobilenet_v2 --data photos --label-offset 1 --json\n"
    "\n"
    "Exit status: 0 measured, 1 nothing could be, 2 asked for wrongly.\n";

struct settings {
    const char *model, *data, *labels, *precision;
    int offset, batch, threads;
    bool json;
};

struct score {
    size_t images, first, five, failed;
    double seconds;
};

/* A batch being filled with tensors of one size. */
struct batch {
    int limit, count, width, height;
    size_t *photos;                 /* [limit] */
    float *tensors;                 /* [limit, 3, height, width] */
    struct prediction *predictions; /* [limit, TOP] */
};

static void batch_release(struct batch *batch) {
    free(batch->photos);
    free(batch->tensors);
    free(batch->predictions);
}

static void score_count(const struct dataset *dataset, const struct batch *batch, int from, int count,
                        int top, struct score *score) {
    for (int i = 0; i < count; i++) {
        const struct prediction *best = batch->predictions + i * top;
        int class = dataset->photos[batch->photos[from + i]].class;
        score->images++;
        score->first += best[0].index == class;
        for (int k = 0; k < top; k++)
            score->five += best[k].index == class;
    }
}

/* Whole batches at once; what is left at the end one by one, so that no plan is made for its odd size. */
static bool batch_run(struct model_classifier *classifier, const struct model *model,
                      const struct dataset *dataset, struct batch *batch, struct score *score,
                      struct error *error) {
    int step = batch->count == batch->limit ? batch->limit : 1;
    int top = TOP < model_class_count(model) ? TOP : model_class_count(model);
    size_t values = (size_t)batch->width * (size_t)batch->height * 3;
    for (int i = 0; i < batch->count; i += step) {
        if (!model_classify_tensors(classifier, batch->tensors + (size_t)i * values, step, batch->height,
                                    batch->width, top, batch->predictions, error))
            return false;
        score_count(dataset, batch, i, step, top, score);
    }
    batch->count = 0;
    return true;
}

/* False when memory is out. */
static bool batch_add(struct batch *batch, const struct feed *feed, struct error *error) {
    size_t values = (size_t)feed->width * (size_t)feed->height * 3;
    if (batch->width != feed->width || batch->height != feed->height) { /* the batch is empty now */
        free(batch->tensors);
        batch->tensors = malloc(values * (size_t)batch->limit * sizeof *batch->tensors);
        if (!batch->tensors)
            return error_set(error, ERROR_MEMORY, "no memory for %d photos; --batch 1 needs less",
                             batch->limit);
        batch->width = feed->width;
        batch->height = feed->height;
    }
    memcpy(batch->tensors + (size_t)batch->count * values, feed->tensor, values * sizeof *feed->tensor);
    batch->photos[batch->count++] = feed->photo;
    return true;
}

static void photo_failed(struct progress *progress, const struct feed *feed, struct score *score) {
    bool was_active = progress->active;
    progress_end(progress);
    cli_warn("%s", feed->error.message);
    progress->active = was_active;
    score->failed++;
}

static bool score_all(struct model_classifier *classifier, const struct model *model,
                      const struct dataset *dataset, struct feeder *feeder, struct batch *batch,
                      struct score *score, struct error *error) {
    struct progress progress;
    struct feed feed;
    size_t seen = 0;
    bool done = true;
    progress_begin(&progress, "evaluating", "photos", dataset->count, 0);
    while (done && feeder_take(feeder, &feed)) {
        if (!feed.tensor) {
            photo_failed(&progress, &feed, score);
        } else {
            bool full = batch->count == batch->limit;
            bool other = batch->count && (batch->width != feed.width || batch->height != feed.height);
            done = (!(full || other) || batch_run(classifier, model, dataset, batch, score, error)) &&
                   batch_add(batch, &feed, error);
            free(feed.tensor);
        }
        progress_update(&progress, ++seen);
    }
    done = done && batch_run(classifier, model, dataset, batch, score, error);
    progress_end(&progress);
    return done;
}

static void print_score(const struct settings *settings, const struct model *model,
                        const struct score *score) {
    double all = (double)score->images, rate = all / score->seconds;
    if (settings->json) {
        cli_print_json(json_pack("{s:I, s:o, s:o, s:o}", "images", (json_int_t)score->images, "top1",
                                 cli_json_real((double)score->first / all, 6), "top5",
                                 cli_json_real((double)score->five / all, 6), "images_per_s",
                                 cli_json_real(rate, 2)));
        return;
    }
    const struct engine *engine = model_engine(model);
    printf("%s on %zu photos of %s", model_name(model), score->images, settings->data);
    if (score->failed)
        printf(" (%zu could not be read)", score->failed);
    printf("\n  top-1  %6.2f %%  (%zu)\n  top-5  %6.2f %%  (%zu)\n  %.0f images/s, %s, %d thread%s\n",
           100.0 * (double)score->first / all, score->first, 100.0 * (double)score->five / all, score->five,
           rate, engine_precision_used(engine), engine_threads(engine),
           engine_threads(engine) == 1 ? "" : "s");
}

static bool evaluate_data(const struct settings *settings, struct model *model, struct error *error) {
    struct dataset dataset = {0};
    struct score score = {0};
    struct batch batch = {.limit = settings->batch};
    batch.photos = calloc((size_t)batch.limit, sizeof *batch.photos);
    batch.predictions = calloc((size_t)batch.limit * TOP, sizeof *batch.predictions);
    struct model_classifier *classifier = NULL;
    struct feeder *feeder = NULL;
    bool done =
        batch.photos && batch.predictions ? true : error_set(error, ERROR_MEMORY, "no memory for a batch");
    done = done && dataset_load(settings->data, settings->labels, settings->offset, model, &dataset, error) &&
           (classifier = model_classifier_create(model, error));
    double start = clock_ms();
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    done = done &&
           (feeder =
                feeder_create(&dataset, model_recipe(model), processors > 1 ? (int)processors : 1, error)) &&
           score_all(classifier, model, &dataset, feeder, &batch, &score, error);
    score.seconds = (clock_ms() - start) / 1000;
    if (done && !score.images)
        done = error_set(error, ERROR_INVALID, "%s: none of %zu photos could be read", settings->data,
                         score.failed);
    if (done)
        print_score(settings, model, &score);
    feeder_free(feeder);
    model_classifier_free(classifier);
    dataset_release(&dataset);
    batch_release(&batch);
    return done;
}

static const struct command self = {"evaluate", help};

int verb_evaluate(int argc, char **argv) {
    struct settings settings = {.batch = BATCH_DEFAULT};
    const struct option_spec options[] = {
        {"model", OPTION_TEXT, &settings.model, 0, 0},
        {"data", OPTION_TEXT, &settings.data, 0, 0},
        {"labels", OPTION_TEXT, &settings.labels, 0, 0},
        {"label-offset", OPTION_INT, &settings.offset, -100000, 100000},
        {"batch", OPTION_INT, &settings.batch, 1, 4096},
        {"precision", OPTION_TEXT, &settings.precision, 0, 0},
        {"threads", OPTION_INT, &settings.threads, 1, 1024},
        {"json", OPTION_FLAG, &settings.json, 0, 0},
        {0},
    };
    int words, code;
    struct engine_options engine;
    struct error error = {0};
    if (!options_parse(&self, argc, argv, options, 0, 0, &words, &code) ||
        !cli_engine_options(&self, settings.precision, settings.threads, &engine, &code))
        return code;
    if (!settings.data)
        return cli_usage(&self, "--data is missing");
    struct model *model = cli_model_load(settings.model, &engine, &error);
    bool done = model && evaluate_data(&settings, model, &error);
    model_free(model);
    return done ? EXIT_DONE : cli_fail(&error);
}
