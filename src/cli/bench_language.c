#include "cli/bench_language.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"
#include "cli/language.h"
#include "linear/linear.h"

struct result {
    double load_ms, prompt_rate, step_rate, together_rate; /* tokens per second */
    double bandwidth; /* of reading the file with all threads, bytes per second */
    double prompt_parts[LLM_PARTS], step_parts[LLM_PARTS]; /* seconds a token */
};

struct language_bench {
    const struct bench_language_options *options;
    struct llm_context *context;
    struct llm_sequence *sequences; /* [options->sequences] */
    int vocabulary;
};

/* With one thread its processor's time: other processes do not count. */
static double now_ms(const struct language_bench *bench) {
    struct timespec used;
    if (bench->options->threads != 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) < 0)
        return clock_ms();
    return (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
}

static void clear(struct language_bench *bench) {
    for (int i = 0; i < bench->options->sequences; i++)
        llm_sequence_release(bench->context, &bench->sequences[i]);
}

/* Which token does not matter: the arithmetic is the same. */
static int32_t some_token(const struct language_bench *bench, int i) {
    return (int32_t)((300 + (int64_t)i * 37) % bench->vocabulary);
}

static bool run_prompt(struct language_bench *bench, int count, struct error *error) {
    struct llm_row rows[LANGUAGE_ROWS];
    float *logits;

    for (int start = 0, batch; start < count; start += batch) {
        batch = count - start < LANGUAGE_ROWS ? count - start : LANGUAGE_ROWS;
        for (int i = 0; i < batch; i++)
            rows[i] = (struct llm_row){bench->sequences, some_token(bench, start + i),
                                       .wants_logits = start + i + 1 == count, .is_prompt = true};
        if (!llm_context_run(bench->context, rows, batch, &logits, error))
            return false;
    }
    return true;
}

/* A step of each of `count` sequences, so many times. */
static bool run_steps(struct language_bench *bench, int count, int steps, struct error *error) {
    struct llm_row rows[LANGUAGE_ROWS];
    float *logits;

    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < count; i++)
            rows[i] =
                (struct llm_row){&bench->sequences[i], some_token(bench, step + i), .wants_logits = true};
        if (!llm_context_run(bench->context, rows, count, &logits, error))
            return false;
    }
    return true;
}

/* Keep the fastest round: its rate, and where its time went. */
static void keep(const struct language_bench *bench, int tokens, double started, const double *before,
                 double *rate, double *parts) {
    double now = tokens * 1000.0 / (now_ms(bench) - started);
    if (now <= *rate)
        return;

    *rate = now;
    for (int i = 0; parts && i < LLM_PARTS; i++)
        parts[i] = (llm_context_times(bench->context)[i] - before[i]) / tokens;
}

static bool run_round(struct language_bench *bench, struct result *result, struct error *error) {
    const struct bench_language_options *options = bench->options;
    double before[LLM_PARTS], started = now_ms(bench);

    memcpy(before, llm_context_times(bench->context), sizeof before);
    if (!run_prompt(bench, options->prompt, error))
        return false;
    keep(bench, options->prompt, started, before, &result->prompt_rate, result->prompt_parts);

    memcpy(before, llm_context_times(bench->context), sizeof before);
    started = now_ms(bench);
    if (!run_steps(bench, 1, options->steps, error))
        return false;
    keep(bench, options->steps, started, before, &result->step_rate, result->step_parts);
    clear(bench);

    if (options->sequences > 1) {
        if (!run_steps(bench, options->sequences, 8, error))
            return false;
        started = now_ms(bench);
        if (!run_steps(bench, options->sequences, options->steps, error))
            return false;
        keep(bench, options->steps * options->sequences, started, before, &result->together_rate, NULL);
        clear(bench);
    }
    return true;
}

/* Bytes per second at which all threads read the mapped file; 0: it cannot be mapped. */
static double read_file(const char *path, int threads) {
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    void *map = file >= 0 && fstat(file, &status) == 0 && status.st_size > 0
                    ? mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0)
                    : MAP_FAILED;
    if (file >= 0)
        close(file);
    if (map == MAP_FAILED)
        return 0;

    int64_t words = status.st_size / 8;
    const uint64_t *from = map;
    double best = 0;
    volatile uint64_t sink;
    for (int round = 0; round < 3; round++) {
        double started = clock_ms();
        uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : sum)
        for (int64_t i = 0; i < words; i++)
            sum += from[i];
        sink = sum;
        double rate = (double)words * 8000 / (clock_ms() - started);
        best = rate > best ? rate : best;
    }
    (void)sink;
    munmap(map, (size_t)status.st_size);
    return best;
}

static const char *const part_names[LLM_PARTS] = {
    [LLM_PRODUCTS] = "products", [LLM_ATTENTION] = "attention", [LLM_ROWS] = "rows", [LLM_LOGITS] = "logits"};

static json_t *parts_to_json(const double *parts) {
    json_t *json = json_object();
    for (int i = 0; i < LLM_PARTS; i++)
        json_object_set_new(json, part_names[i], cli_json_real(parts[i] * 1e6, 2));
    return json;
}

static int threads_of(const struct bench_language_options *options) {
    return options->threads > 0 ? options->threads : team_default_size();
}

static double peak_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss * 1024 : 0;
}

static bool print_json(const char *name, const struct bench_language_options *options,
                       const struct result *result) {
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:o, s:i, s:o, s:i, s:o, s:o, s:o}", "model", name, "precision",
        options->precision == LLM_F32 ? "f32" : "auto", "instructions", linear_instructions(), "threads",
        threads_of(options), "load_ms", cli_json_real(result->load_ms, 3), "prompt_tokens", options->prompt,
        "prompt_per_s", cli_json_real(result->prompt_rate, 2), "step_tokens", options->steps, "steps_per_s",
        cli_json_real(result->step_rate, 2), "file_bytes_per_s", cli_json_real(result->bandwidth, 0),
        "peak_bytes", cli_json_real(peak_bytes(), 0));
    if (json && options->sequences > 1) {
        json_object_set_new(json, "sequences", json_integer(options->sequences));
        json_object_set_new(json, "together_per_s", cli_json_real(result->together_rate, 2));
    }
    if (json && options->profile) {
        json_object_set_new(json, "prompt_us", parts_to_json(result->prompt_parts));
        json_object_set_new(json, "step_us", parts_to_json(result->step_parts));
    }
    return cli_print_json(json);
}

static void print_table(const char *name, const struct bench_language_options *options,
                        const struct result *result) {
    int threads = threads_of(options);

    printf("%s, %s, %s, %d thread%s\n", name, options->precision == LLM_F32 ? "f32" : "auto",
           linear_instructions(), threads, threads == 1 ? "" : "s");
    printf("  ready after   %9.1f ms\n  prompt of %-4d%9.1f tokens/s\n  then          %9.1f tokens/s\n",
           result->load_ms, options->prompt, result->prompt_rate, result->step_rate);
    if (options->sequences > 1)
        printf("  %3d at once   %9.1f tokens/s together\n", options->sequences, result->together_rate);
    printf("  the file      %9.1f GB/s read by all threads\n", result->bandwidth / 1e9);
    if (!options->profile)
        return;

    printf("\n  µs of a token     prompt      step\n");
    for (int i = 0; i < LLM_PARTS; i++)
        printf("  %-12s  %10.1f%10.1f\n", part_names[i], result->prompt_parts[i] * 1e6,
               result->step_parts[i] * 1e6);
}

static bool measure(struct language_bench *bench, struct result *result, struct error *error) {
    bool done = run_prompt(bench, 16, error) && run_steps(bench, 1, 2, error); /* the file's pages come in */
    clear(bench);
    for (int i = 0; done && i < bench->options->rounds; i++)
        done = run_round(bench, result, error);
    return done;
}

bool bench_language(const struct model_files *files, const struct bench_language_options *options,
                    double started, struct error *error) {
    cleanup(llm_model_freep) struct llm_model *model = llm_model_load(files->network, error);
    cleanup(llm_context_freep) struct llm_context *context = NULL;
    struct result result = {0};
    if (!model)
        return false;

    int64_t longest = options->prompt + options->steps + 64;
    const struct llm_context_options wanted = {.rows = LANGUAGE_ROWS,
                                               .positions = longest * options->sequences,
                                               .threads = options->threads,
                                               .precision = options->precision};
    context = llm_context_create(model, &wanted, error);
    if (!context)
        return false;
    result.load_ms = clock_ms() - started;

    cleanup(freep) struct llm_sequence *sequences = calloc((size_t)options->sequences, sizeof *sequences);
    if (!sequences)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d sequences", options->sequences);
    struct language_bench bench = {options, context, sequences, llm_model_vocabulary(model)};
    bool done = measure(&bench, &result, error);
    clear(&bench);
    if (!done)
        return false;

    result.bandwidth = read_file(files->network, threads_of(options));
    if (options->json)
        return print_json(files->name, options, &result);
    print_table(files->name, options, &result);
    return true;
}
