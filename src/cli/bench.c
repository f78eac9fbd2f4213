/* guichet bench: how fast a network is here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/progress.h"
#include "cli/bench_language.h"
#include "cli/engine_options.h"
#include "cli/language.h"
#include "cli/plan_table.h"
#include "cli/shapes.h"
#include "cli/verbs.h"
#include "model/find.h"

static const char help[] =
    "Measure how fast a network or a language model is on this machine.\n"
    "\n"
    "Usage: guichet bench MODEL [OPTION…]\n"
    "\n"
    "MODEL is a folder, an .onnx or .gguf file or a name. The input is noise; decoding photos is not\n"
    "measured. Times are of one run of a whole batch; images_per_s is computed from the median.\n"
    "\n"
    "  --batch N          photos per run (1)\n"
    "  --size N           height, width or length, where the network leaves it free (224, or a length that\n"
    "                     fits)\n"
    "  --shape NAME=DIMS  an input's whole shape: 1x3x224x224; may come several times\n"
    "  --threads N        threads of the network (all processors)\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --iters N          measured runs, after a tenth as many to warm up (50)\n"
    "  --profile          show where the time goes: by operator, the slowest steps, and the whole\n"
    "                     compared with convolutions and matrix products alone\n"
    "  --json             model, batch, threads, precision, load_ms, min_ms, median_ms, p99_ms,\n"
    "                     images_per_s; guessed: what free dimensions were taken for\n"
    "\n"
    "Of a language model, tokens per second of the fastest of --iters rounds (3), with these options,\n"
    "--threads, --precision (auto or f32), --profile and --json:\n"
    "\n"
    "  --prompt N         tokens of the prompt (512)\n"
    "  --steps N          tokens made one after the other (64)\n"
    "  --sequences N      texts that are continued at once (1)\n"
    "\n"
    "Examples:\n"
    "  guichet bench animals\n"
    "  guichet bench resnet50.onnx --threads 2 --precision f32 --json\n"
    "  guichet bench smollm2-Q4_0.gguf --sequences 8 --profile\n";

struct bench_settings {
    const char *precision;
    struct option_list shapes;
    int batch, size, threads, iterations;
    int prompt, steps, sequences; /* of a language model */
    bool json, profile;
};

struct bench_result {
    const char *name, *precision;
    int threads;
    double load_ms, min_ms, median_ms, p99_ms;
    struct plan_times times; /* with profile */
    char *shapes;            /* of the inputs; malloc'ed */
    int guess;               /* what free dimensions were taken for; 0: nothing was left to guess */
    int64_t batch;           /* the first dimension of the first input: photos a run */
};

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench {
    struct engine_context *context;
    struct shaped_inputs inputs;
    struct tensor *outputs;
    int output_count;
};

/* `times`: [runs] milliseconds; NULL: not wanted. */
static bool repeat_runs(const struct bench *bench, int runs, double *times, struct progress *progress,
                        struct error *error) {
    for (int i = 0; i < runs; i++) {
        double start = clock_ms();
        if (!engine_run(bench->context, bench->inputs.inputs, bench->inputs.count, bench->outputs,
                        bench->output_count, error))
            return false;
        if (times)
            times[i] = clock_ms() - start;
        progress_update(progress, times ? (uint64_t)i : 0);
    }

    return true;
}

/* The times of the steps since `before`. */
static bool take_profile(const struct bench *bench, const int64_t *before, const double *times, int runs,
                         struct bench_result *result, struct error *error) {
    double sum = 0;
    for (int i = 0; i < runs; i++)
        sum += times[i];

    return plan_times_init(&result->times, engine_context_plan(bench->context), before,
                           engine_context_times(bench->context), runs, sum / runs) ||
           error_set(error, ERROR_MEMORY, "not enough memory for the profile");
}

/* The times of the steps so far; malloc'ed. */
static int64_t *begin_profile(const struct bench *bench) {
    size_t bytes = (size_t)engine_context_plan(bench->context)->step_count * sizeof(int64_t);
    int64_t *copy = malloc(bytes + 1);
    if (copy)
        memcpy(copy, engine_context_times(bench->context), bytes);
    return copy;
}

/* `times`: [iterations] milliseconds of each run. */
static bool time_runs(const struct bench *bench, const struct bench_settings *settings, double *times,
                      struct bench_result *result, struct error *error) {
    int runs = settings->iterations;
    cleanup(freep) int64_t *before = NULL;
    struct progress progress;
    bool done = false;

    progress_begin(&progress, "measuring", "runs", (uint64_t)runs, 0);
    if (!repeat_runs(bench, runs / 10 + 1, NULL, &progress, error))
        goto out;
    if (settings->profile && !(before = begin_profile(bench))) {
        error_set(error, ERROR_MEMORY, "not enough memory for the profile");
        goto out;
    }
    done = repeat_runs(bench, runs, times, &progress, error);

out:
    progress_end(&progress);
    return done && (!before || take_profile(bench, before, times, runs, result, error));
}

static bool measure_runs(const struct bench *bench, const struct bench_settings *settings,
                         struct bench_result *result, struct error *error) {
    int runs = settings->iterations, middle = runs / 2;
    cleanup(freep) double *times = calloc((size_t)runs, sizeof *times);
    if (!times)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d times", runs);
    if (!time_runs(bench, settings, times, result, error))
        return false;

    qsort(times, (size_t)runs, sizeof *times, compare_doubles);
    result->min_ms = times[0];
    result->median_ms = runs % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
    result->p99_ms = times[(int)ceil(runs * 0.99) - 1];
    return true;
}

static bool measure_model(struct model *model, double started, const struct bench_settings *settings,
                          struct bench_result *result, struct error *error) {
    struct engine *engine = model_engine(model);
    const struct shape_wishes wishes = {settings->shapes, settings->batch, settings->size, true};
    struct bench bench = {.output_count = engine_output_count(engine)};
    bool done = false;
    bench.outputs = calloc((size_t)bench.output_count + 1, sizeof *bench.outputs);
    if (!bench.outputs) {
        error_set(error, ERROR_MEMORY, "not enough memory for the tensors");
        goto out;
    }

    bench.context = engine_context_create(engine, error);
    if (!bench.context || !cli_inputs_prepare(model, bench.context, &wishes, &bench.inputs, error))
        goto out;

    result->load_ms = clock_ms() - started;
    result->precision = engine_precision_used(engine);
    result->threads = engine_threads(engine);
    result->guess = bench.inputs.guess;
    result->shapes = shaped_inputs_text(engine, &bench.inputs);
    const struct shape *first = bench.inputs.count ? &bench.inputs.inputs[0].shape : NULL;
    result->batch = first && first->rank > 0 ? first->dims[0] : 1;
    done = measure_runs(&bench, settings, result, error);

out:
    shaped_inputs_release(&bench.inputs);
    free(bench.outputs);
    engine_context_free(bench.context);

    return done;
}

static json_t *result_to_json(const struct bench_result *result, const struct bench_settings *settings,
                              double rate) {
    json_t *json =
        json_pack("{s:s, s:I, s:i, s:s, s:o, s:o, s:o, s:o, s:o}", "model", result->name, "batch",
                  (json_int_t)result->batch, "threads", result->threads, "precision", result->precision,
                  "load_ms", cli_json_real(result->load_ms, 3), "min_ms", cli_json_real(result->min_ms, 6),
                  "median_ms", cli_json_real(result->median_ms, 6), "p99_ms",
                  cli_json_real(result->p99_ms, 6), "images_per_s", cli_json_real(rate, 2));
    if (result->guess)
        json_object_set_new(json, "guessed", json_integer(result->guess));
    if (settings->profile)
        json_object_set_new(json, "profile", plan_times_to_json(&result->times));

    return json;
}

static void print_result(const struct bench_result *result, const struct bench_settings *settings) {
    double rate = (double)result->batch * 1000.0 / result->median_ms;
    if (settings->json) {
        cli_print_json(result_to_json(result, settings, rate));
        return;
    }

    printf("%s, %s, batch %lld, %d thread%s\n", result->name, result->precision, (long long)result->batch,
           result->threads, result->threads == 1 ? "" : "s");
    if (result->guess)
        printf("  %s: free dimensions were taken for %d, --shape NAME=… gives them\n",
               result->shapes ? result->shapes : "", result->guess);
    printf(
        "  ready after  %9.1f ms\n  fastest      %9.3f ms\n  median       %9.3f ms\n  99th percent %9.3f ms\n"
        "  that is      %9.1f images/s\n",
        result->load_ms, result->min_ms, result->median_ms, result->p99_ms, rate);
    if (settings->profile)
        plan_times_print(&result->times);
}

static bool bench_model(const char *name, const struct engine_options *options,
                        const struct bench_settings *settings, struct bench_result *result,
                        struct error *error) {
    double started = clock_ms();
    struct model *model = cli_network_load(name, options, error);
    if (!model)
        return false;

    result->name = model_name(model);
    bool done = measure_model(model, started, settings, result, error);
    if (done)
        print_result(result, settings);
    plan_times_release(&result->times);
    free(result->shapes);
    model_free(model);

    return done;
}

static const struct command self = {"bench", help};

/* Returns the exit status. */
static int measure_language(const struct model_files *files, const struct bench_settings *settings) {
    struct bench_language_options options = {.prompt = settings->prompt,
                                             .steps = settings->steps,
                                             .sequences = settings->sequences,
                                             .rounds = settings->iterations ? settings->iterations : 3,
                                             .threads = settings->threads,
                                             .profile = settings->profile,
                                             .json = settings->json};
    struct error error = {0};
    int code;

    if (!language_precision(&self, settings->precision, &options.precision, &code))
        return code;
    return bench_language(files, &options, clock_ms(), &error) ? EXIT_DONE : cli_fail(&error);
}

int verb_bench(int argc, char **argv) {
    struct bench_settings settings = {.batch = 1, .prompt = 512, .steps = 64, .sequences = 1};
    struct model_files files;
    const struct option_spec options[] = {
        {.name = "batch", .kind = OPTION_INT, .value = &settings.batch, .minimum = 1, .maximum = 4096},
        {.name = "size", .kind = OPTION_INT, .value = &settings.size, .minimum = 1, .maximum = 1 << 24},
        {.name = "shape", .kind = OPTION_LIST, .value = &settings.shapes},
        {.name = "threads", .kind = OPTION_INT, .value = &settings.threads, .minimum = 1, .maximum = 1024},
        {.name = "precision", .kind = OPTION_TEXT, .value = &settings.precision},
        {.name = "iters",
         .kind = OPTION_INT,
         .value = &settings.iterations,
         .minimum = 1,
         .maximum = 1000000},
        {.name = "prompt", .kind = OPTION_INT, .value = &settings.prompt, .minimum = 1, .maximum = 1 << 20},
        {.name = "steps", .kind = OPTION_INT, .value = &settings.steps, .minimum = 1, .maximum = 1 << 20},
        {.name = "sequences",
         .kind = OPTION_INT,
         .value = &settings.sequences,
         .minimum = 1,
         .maximum = LANGUAGE_ROWS},
        {.name = "profile", .kind = OPTION_FLAG, .value = &settings.profile},
        {.name = "json", .kind = OPTION_FLAG, .value = &settings.json},
        {0},
    };
    int words, code;
    struct engine_options engine_options;
    struct bench_result result = {0};
    struct error error = {0};

    if (!options_parse(&self, argc, argv, options, 1, 1, &words, &code))
        return code;
    if (!model_find_files(argv[1], &files, &error))
        return cli_fail(&error);
    bool is_language = files.kind == MODEL_LANGUAGE;
    if (is_language)
        code = measure_language(&files, &settings);
    model_files_release(&files);
    if (is_language ||
        !cli_engine_options(&self, settings.precision, settings.threads, &engine_options, &code))
        return code;

    engine_options.profile = settings.profile;
    settings.iterations = settings.iterations ? settings.iterations : 50;
    code = bench_model(argv[1], &engine_options, &settings, &result, &error) ? EXIT_DONE : cli_fail(&error);
    free(settings.shapes.words);
    return code;
}
