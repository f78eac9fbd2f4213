/* guichet bench: how fast a network is here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/progress.h"
#include "cli/bench_language.h"
#include "cli/engine_options.h"
#include "cli/language.h"
#include "cli/plan_table.h"
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
    "  --size N           height and width, where the network leaves them free (224)\n"
    "  --threads N        threads of the network (all processors)\n"
    "  --precision P      auto, f32, bf16 or int8 (auto)\n"
    "  --iters N          measured runs, after a tenth as many to warm up (50)\n"
    "  --profile          show where the time goes: by operator, the slowest steps, and the whole\n"
    "                     compared with convolutions and matrix products alone\n"
    "  --json             model, batch, threads, precision, load_ms, min_ms, median_ms, p99_ms,\n"
    "                     images_per_s\n"
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
    int batch, size, threads, iterations;
    int prompt, steps, sequences; /* of a language model */
    bool json, profile;
};

struct bench_result {
    const char *name, *precision;
    int threads;
    double load_ms, min_ms, median_ms, p99_ms;
    struct plan_times times; /* with profile */
};

/* Repeatable noise around zero, in any float or 8-bit type. */
static void fill_noise(enum dtype dtype, void *data, int64_t count) {
    uint32_t state = 1;
    uint8_t *at = data;
    for (int64_t i = 0; i < count; i++, at += dtype_size(dtype)) {
        state = state * 1664525u + 1013904223u;
        float value = dtype_is_float(dtype) ? (float)(state >> 8) / (1 << 23) - 1 : (float)(state >> 25);
        elements_convert(DTYPE_F32, &value, dtype, at, 1);
    }
}

/* An input's shape with its free dimensions set. */
static bool set_input_shape(const struct engine_port *port, const struct bench_settings *settings,
                            struct shape *ret, struct error *error) {
    const struct shape *shape = &port->shape;
    if (shape->rank < 1)
        return error_set(error, ERROR_INVALID, "input '%s' has no shape to measure with", port->name);
    if (shape->dims[0] > 0 && shape->dims[0] != settings->batch)
        return error_set(error, ERROR_INVALID, "input '%s' takes batches of %lld only", port->name,
                         (long long)shape->dims[0]);

    *ret = cli_input_shape(port, settings->batch, settings->size);
    return true;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench {
    struct engine_context *context;
    struct tensor *inputs, *outputs;
    int input_count, output_count;
};

/* `times`: [runs] milliseconds; NULL: not wanted. */
static bool repeat_runs(const struct bench *bench, int runs, double *times, struct progress *progress,
                        struct error *error) {
    for (int i = 0; i < runs; i++) {
        double start = clock_ms();
        if (!engine_run(bench->context, bench->inputs, bench->input_count, bench->outputs,
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

static bool make_inputs(const struct engine *engine, const struct bench_settings *settings,
                        struct tensor *inputs, struct error *error) {
    for (int i = 0; i < engine_input_count(engine); i++) {
        const struct engine_port *port = engine_input(engine, i);
        inputs[i].dtype = port->dtype;
        if (!set_input_shape(port, settings, &inputs[i].shape, error))
            return false;
        size_t bytes = tensor_bytes(&inputs[i]);
        inputs[i].data = bytes ? aligned_alloc(64, size_align(bytes, 64)) : NULL;
        if (!inputs[i].data)
            return error_set(error, ERROR_MEMORY, "not enough memory for input '%s'", port->name);
        fill_noise(port->dtype, inputs[i].data, shape_elements(&inputs[i].shape));
    }

    return true;
}

static bool measure_engine(struct engine *engine, double started, const struct bench_settings *settings,
                           struct bench_result *result, struct error *error) {
    struct bench bench = {.input_count = engine_input_count(engine),
                          .output_count = engine_output_count(engine)};
    bool done = false;
    bench.inputs = calloc((size_t)bench.input_count + 1, sizeof *bench.inputs);
    bench.outputs = calloc((size_t)bench.output_count + 1, sizeof *bench.outputs);
    if (!bench.inputs || !bench.outputs) {
        error_set(error, ERROR_MEMORY, "not enough memory for the tensors");
        goto out;
    }

    bench.context = engine_context_create(engine, error);
    if (!bench.context || !make_inputs(engine, settings, bench.inputs, error) ||
        !engine_prepare(bench.context, bench.inputs, bench.input_count, error))
        goto out;

    result->load_ms = clock_ms() - started;
    result->precision = engine_precision_used(engine);
    result->threads = engine_threads(engine);
    done = measure_runs(&bench, settings, result, error);

out:
    for (int i = 0; bench.inputs && i < bench.input_count; i++)
        free(bench.inputs[i].data);
    free(bench.inputs);
    free(bench.outputs);
    engine_context_free(bench.context);

    return done;
}

static json_t *result_to_json(const struct bench_result *result, const struct bench_settings *settings,
                              double rate) {
    json_t *json =
        json_pack("{s:s, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o}", "model", result->name, "batch",
                  settings->batch, "threads", result->threads, "precision", result->precision, "load_ms",
                  cli_json_real(result->load_ms, 3), "min_ms", cli_json_real(result->min_ms, 6), "median_ms",
                  cli_json_real(result->median_ms, 6), "p99_ms", cli_json_real(result->p99_ms, 6),
                  "images_per_s", cli_json_real(rate, 2));
    if (settings->profile)
        json_object_set_new(json, "profile", plan_times_to_json(&result->times));

    return json;
}

static void print_result(const struct bench_result *result, const struct bench_settings *settings) {
    double rate = settings->batch * 1000.0 / result->median_ms;
    if (settings->json) {
        cli_print_json(result_to_json(result, settings, rate));
        return;
    }

    printf("%s, %s, batch %d, %d thread%s\n", result->name, result->precision, settings->batch,
           result->threads, result->threads == 1 ? "" : "s");
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
    bool done = measure_engine(model_engine(model), started, settings, result, error);
    if (done)
        print_result(result, settings);
    plan_times_release(&result->times);
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
    struct bench_settings settings = {.batch = 1, .size = 224, .prompt = 512, .steps = 64, .sequences = 1};
    struct model_files files;
    const struct option_spec options[] = {
        {.name = "batch", .kind = OPTION_INT, .value = &settings.batch, .minimum = 1, .maximum = 4096},
        {.name = "size", .kind = OPTION_INT, .value = &settings.size, .minimum = 1, .maximum = 4096},
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
    return bench_model(argv[1], &engine_options, &settings, &result, &error) ? EXIT_DONE : cli_fail(&error);
}
