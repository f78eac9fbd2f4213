#include "quant/language_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/team.h"
#include "llm/memory.h"
#include "quant/language_continue.h"
#include "quant/processor.h"

/* What is counted. */
struct counting {
    struct language_comparison *comparison;
    const struct language_text *judges;
    struct llm_context *contexts[2];
    size_t vocabulary, counted;                /* tokens of a window that count */
    float *expected;                           /* [counted, vocabulary] of the first model */
    float *divergences;                        /* [windows, counted] */
    double *losses[2], *same, *means, *ratios; /* [windows] means of each window */
};

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to compare the models");
}

static double log_sum(const float *logits, size_t count) {
    float most = logits[0];
    double sum = 0;
    for (size_t i = 1; i < count; i++)
        most = fmaxf(most, logits[i]);
    for (size_t i = 0; i < count; i++)
        sum += (double)expf(logits[i] - most);
    return (double)most + log(sum);
}

static size_t likeliest(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* The second model's logits at a token, against the first's. */
static void count_token(struct counting *counting, int window, size_t at, const float *logits) {
    size_t vocabulary = counting->vocabulary;
    const float *expected = counting->expected + at * vocabulary;
    int32_t token = counting->judges->tokens[(size_t)window * (size_t)counting->judges->window +
                                             (size_t)counting->judges->window - counting->counted + at];
    double own = log_sum(logits, vocabulary), others = log_sum(expected, vocabulary), divergence = 0;

    for (size_t i = 0; i < vocabulary; i++) {
        double log_p = (double)expected[i] - others;
        divergence += (double)expf((float)log_p) * (log_p - ((double)logits[i] - own));
    }
    divergence = fmax(divergence, 0);
    counting->divergences[(size_t)window * counting->counted + at] = (float)divergence;
    double part = 1 / (double)counting->counted;
    counting->means[window] += divergence * part;
    counting->losses[0][window] += (others - (double)expected[token]) * part;
    counting->losses[1][window] += (own - (double)logits[token]) * part;
    counting->same[window] += part * (likeliest(logits, vocabulary) == likeliest(expected, vocabulary));
}

/* Rows whose logits are wanted come few at a time: of a large vocabulary they are large. */
static bool run_window(struct counting *counting, int side, int window, struct error *error) {
    enum { ROWS = 256 };
    struct llm_row rows[ROWS];
    struct llm_sequence sequence = {0};
    const int32_t *tokens = counting->judges->tokens + (size_t)window * (size_t)counting->judges->window;
    size_t last = (size_t)counting->judges->window - 1, first = last - counting->counted;
    bool done = true;

    for (size_t start = 0, batch; done && start < last; start += batch) {
        size_t end = start < first ? first : last, most = start < first ? ROWS : 64;
        float *logits = NULL;
        batch = end - start < most ? end - start : most;
        for (size_t i = 0; i < batch; i++)
            rows[i] = (struct llm_row){&sequence, tokens[start + i], start >= first, .is_prompt = true};
        done = llm_context_run(counting->contexts[side], rows, (int)batch, &logits, error);
        if (!done || start < first)
            continue;
        if (side == 0)
            memcpy(counting->expected + (start - first) * counting->vocabulary, logits,
                   batch * counting->vocabulary * sizeof *logits);
#pragma omp parallel for schedule(static) if (side == 1)
        for (size_t i = 0; i < (side == 1 ? batch : 0); i++)
            count_token(counting, window, start - first + i, logits + i * counting->vocabulary);
    }
    llm_sequence_release(counting->contexts[side], &sequence);
    return done;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(float *values, size_t count, double share) {
    qsort(values, count, sizeof *values, ascending);
    return (double)values[(size_t)((double)(count - 1) * share)];
}

/* The 99 % of the divergences, and its interval by drawing windows again (Efron's bootstrap). */
static bool find_percentile(struct counting *counting, struct error *error) {
    enum { DRAWS = 200 };
    size_t windows = (size_t)counting->judges->windows, counted = counting->counted;
    cleanup(freep) float *drawn = calloc(windows * counted, sizeof *drawn);
    double draws[DRAWS];
    uint64_t state = 88172645463325252u;
    if (!drawn)
        return out_of_memory(error);

    for (int draw = 0; draw < DRAWS; draw++) {
        for (size_t i = 0; i < windows; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memcpy(drawn + i * counted, counting->divergences + state % windows * counted,
                   counted * sizeof *drawn);
        }
        draws[draw] = percentile(drawn, windows * counted, 0.99);
    }
    estimate_median(draws, DRAWS); /* sorts */
    struct language_comparison *comparison = counting->comparison;
    double value = percentile(counting->divergences, windows * counted, 0.99);
    comparison->divergence_99 =
        (struct estimate){value, fmin(value, draws[DRAWS / 40]), fmax(value, draws[DRAWS - 1 - DRAWS / 40])};
    comparison->divergence_most = estimate_exact((double)counting->divergences[windows * counted - 1]);
    return true;
}

static struct estimate exponential(struct estimate loss) {
    return (struct estimate){exp(loss.value), exp(loss.low), exp(loss.high)};
}

static struct estimate within(struct estimate estimate, double least, double most) {
    return (struct estimate){estimate.value, fmax(estimate.low, least), fmin(estimate.high, most)};
}

static bool finish_counting(struct counting *counting, struct error *error) {
    struct language_comparison *comparison = counting->comparison;
    size_t windows = (size_t)counting->judges->windows;

    for (int side = 0; side < 2; side++)
        comparison->sides[side].perplexity = exponential(estimate_mean(counting->losses[side], windows));
    for (size_t i = 0; i < windows; i++)
        counting->ratios[i] = counting->losses[1][i] - counting->losses[0][i];
    comparison->ratio = exponential(estimate_mean(counting->ratios, windows));
    comparison->divergence = within(estimate_mean(counting->means, windows), 0, INFINITY);
    struct estimate same = estimate_mean(counting->same, windows),
                    few = estimate_share(same.value, (double)(windows * counting->counted));
    comparison->same_first =
        (struct estimate){same.value, fmin(fmax(same.low, 0), few.low), fmax(fmin(same.high, 1), few.high)};
    comparison->tokens = windows * counting->counted;
    comparison->windows = (int)windows;
    return find_percentile(counting, error);
}

static bool count_all(struct counting *counting, progress_report progress, void *context,
                      struct error *error) {
    size_t windows = (size_t)counting->judges->windows;
    counting->counted = (size_t)counting->judges->window / 2;
    counting->expected = calloc(counting->counted, counting->vocabulary * sizeof(float));
    counting->divergences = calloc(windows, counting->counted * sizeof(float));
    double **all[] = {&counting->losses[0], &counting->losses[1], &counting->same, &counting->means,
                      &counting->ratios};
    bool done = counting->expected && counting->divergences;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *all[i] = calloc(windows + 1, sizeof(double));
        done = done && *all[i];
    }
    if (!done)
        return out_of_memory(error);

    for (size_t i = 0; i < windows; i++) {
        if (!progress(context, "judging by a text", i, windows))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted");
        if (!run_window(counting, 0, (int)i, error) || !run_window(counting, 1, (int)i, error))
            return false;
    }
    return finish_counting(counting, error);
}

static void release_counting(struct counting *counting) {
    free(counting->expected);
    free(counting->divergences);
    free(counting->losses[0]);
    free(counting->losses[1]);
    free(counting->same);
    free(counting->means);
    free(counting->ratios);
}

/* --- Speed ---------------------------------------------------------------------------------------------- */

enum { SPEED_PROMPT = 128, SPEED_STEPS = 24, SPEED_ROUNDS = 7 };

/* One prompt, then steps: tokens per second of both. */
static bool time_once(struct llm_context *context, double *ret_prompt, double *ret_steps,
                      struct error *error) {
    struct llm_row rows[SPEED_PROMPT];
    struct llm_sequence sequence = {0};
    int32_t vocabulary = llm_context_vocabulary(context);
    float *logits;
    double started = clock_ms();

    for (int i = 0; i < SPEED_PROMPT; i++)
        rows[i] = (struct llm_row){&sequence, (300 + i * 37) % vocabulary, i + 1 == SPEED_PROMPT, true};
    bool done = llm_context_run(context, rows, SPEED_PROMPT, &logits, error);
    double middle = clock_ms();
    for (int i = 0; done && i < SPEED_STEPS; i++) {
        rows[0] = (struct llm_row){&sequence, (300 + i * 37) % vocabulary, true, false};
        done = llm_context_run(context, rows, 1, &logits, error);
    }
    *ret_prompt = SPEED_PROMPT * 1000 / (middle - started);
    *ret_steps = SPEED_STEPS * 1000 / (clock_ms() - middle);
    llm_sequence_release(context, &sequence);
    return done;
}

/* In turns, so that other load on the machine affects both alike. */
static bool time_both(struct counting *counting, progress_report progress, void *context,
                      struct error *error) {
    struct language_comparison *comparison = counting->comparison;
    double prompts[2][SPEED_ROUNDS], steps[2][SPEED_ROUNDS], ratios[2][SPEED_ROUNDS];

    for (int round = -1; round < SPEED_ROUNDS; round++) { /* the first warms up */
        int at = round < 0 ? 0 : round;
        if (!progress(context, "measuring the speed", (uint64_t)at, SPEED_ROUNDS))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted");
        for (int side = 0; side < 2; side++)
            if (!time_once(counting->contexts[side], &prompts[side][at], &steps[side][at], error))
                return false;
        ratios[0][at] = prompts[1][at] / prompts[0][at];
        ratios[1][at] = steps[1][at] / steps[0][at];
    }
    comparison->prompt_speedup = estimate_median(ratios[0], SPEED_ROUNDS);
    comparison->step_speedup = estimate_median(ratios[1], SPEED_ROUNDS);
    for (int side = 0; side < 2; side++) {
        comparison->sides[side].prompt_rate = estimate_median(prompts[side], SPEED_ROUNDS);
        comparison->sides[side].step_rate = estimate_median(steps[side], SPEED_ROUNDS);
    }
    return true;
}

/* --- Both ----------------------------------------------------------------------------------------------- */

static bool open_side(struct counting *counting, int side, const char *path, int threads,
                      struct error *error) {
    struct language_side *own = &counting->comparison->sides[side];
    const char *slash = strrchr(path, '/');
    struct llm_sizes sizes = {.parallel = 1};

    own->name = strdup(slash ? slash + 1 : path);
    own->model = llm_model_load(path, error);
    if (!own->model)
        return false;
    if (!own->name)
        return out_of_memory(error);
    if (!llm_sizes_complete(&sizes, llm_model_config(own->model), error))
        return false;
    struct llm_memory memory =
        llm_memory_of(llm_model_gguf(own->model), llm_model_config(own->model), &sizes);
    own->bytes = memory.weights;
    own->memory = memory.weights + memory.cache;

    int64_t positions = counting->judges->window > SPEED_PROMPT + SPEED_STEPS + 64
                            ? counting->judges->window
                            : SPEED_PROMPT + SPEED_STEPS + 64;
    const struct llm_context_options options = {.rows = 256, .positions = positions + 32, .threads = threads};
    counting->contexts[side] = llm_context_create(own->model, &options, error);
    return counting->contexts[side];
}

static bool compare(struct counting *counting, const char *const paths[2], int threads,
                    progress_report progress, void *context, struct error *error) {
    struct language_comparison *comparison = counting->comparison;
    if (!open_side(counting, 0, paths[0], threads, error) ||
        !open_side(counting, 1, paths[1], threads, error))
        return false;

    int32_t others = llm_model_vocabulary(comparison->sides[1].model);
    counting->vocabulary = (size_t)llm_model_vocabulary(comparison->sides[0].model);
    if ((size_t)others != counting->vocabulary)
        return error_set(error, ERROR_INVALID, "the models have %zu and %d tokens: they cannot be compared",
                         counting->vocabulary, others);
    return count_all(counting, progress, context, error) && time_both(counting, progress, context, error) &&
           language_continue(comparison, counting->contexts, counting->judges, error);
}

bool language_compare(const char *const paths[2], const struct language_text *judges, int threads,
                      progress_report progress, void *context, struct language_comparison *ret,
                      struct error *error) {
    *ret = (struct language_comparison){.threads = threads > 0 ? threads : team_default_size(),
                                        .is_sampled = judges->is_sampled};
    struct counting counting = {.comparison = ret, .judges = judges};
    processor_name(ret->processor, sizeof ret->processor);
    bool done = compare(&counting, paths, threads, progress, context, error);

    release_counting(&counting);
    llm_context_free(counting.contexts[0]);
    llm_context_free(counting.contexts[1]);
    return done;
}

void language_comparison_release(struct language_comparison *comparison) {
    for (int side = 0; side < 2; side++) {
        free(comparison->sides[side].name);
        llm_model_free(comparison->sides[side].model);
        for (int i = 0; i < LANGUAGE_CONTINUATIONS; i++)
            free(comparison->continuations[i].texts[side]);
    }
    for (int i = 0; i < LANGUAGE_CONTINUATIONS; i++)
        free(comparison->continuations[i].beginning);
    *comparison = (struct language_comparison){0};
}
