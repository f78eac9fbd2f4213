/* guichet perplexity: how well a language model foretells a text, and how far it is from another. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/language.h"
#include "cli/verbs.h"

static const char help[] =
    "Measure how well a language model foretells a text.\n"
    "\n"
    "Usage: guichet perplexity MODEL TEXT [OPTION…]\n"
    "\n"
    "The text's tokens are cut into windows side by side, each with BOS in front; in each the second half\n"
    "is counted. Prints exp of the mean of -log(probability), and its standard error. Lower is better.\n"
    "\n"
    "  --context N        tokens of a window (512, or the model's context where that is less)\n"
    "  --against MODEL    also the distance from this model (the exact one): mean, 99 % and largest\n"
    "                     Kullback-Leibler divergence, and how often both find the same token likeliest\n"
    "  --precision P      of MODEL: auto; f32: exactly, several times slower (auto). The model that it is\n"
    "                     compared with always computes in f32\n"
    "  --threads N        threads (all processors)\n"
    "  --json             one line of JSON\n"
    "\n"
    "Example:\n"
    "  guichet perplexity smollm2-Q4_0.gguf wiki.txt --against smollm2-F16.gguf\n";

static const struct command self = {"perplexity", help};

/* What is counted of one model. */
struct sums {
    double loss, squares;
};

struct measure {
    const struct token_list *tokens;
    size_t start; /* of the window, in tokens */
    size_t vocabulary;
    struct sums model, other;
    size_t count;       /* tokens counted */
    float *expected;    /* [window / 2, vocabulary] logits of the other model; NULL: there is none */
    size_t first;       /* index within the window of the first counted one */
    float *divergences; /* [all counted tokens] */
    size_t same;        /* tokens that both find likeliest */
};

static double log_sum(const float *logits, size_t count) {
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, (double)logits[i]);
    for (size_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

static void add_loss(const struct measure *measure, struct sums *sums, size_t index, const float *logits) {
    int32_t token = measure->tokens->ids[measure->start + index + 1];
    double loss = log_sum(logits, measure->vocabulary) - (double)logits[token];

    sums->loss += loss;
    sums->squares += loss * loss;
}

static size_t likeliest(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Of the other model: its logits are kept until the model's own come. */
static void keep(void *data, size_t index, float *logits) {
    struct measure *measure = data;

    add_loss(measure, &measure->other, index, logits);
    memcpy(measure->expected + (index - measure->first) * measure->vocabulary, logits,
           measure->vocabulary * sizeof *logits);
}

static void count(void *data, size_t index, float *logits) {
    struct measure *measure = data;
    size_t vocabulary = measure->vocabulary;

    add_loss(measure, &measure->model, index, logits);
    if (measure->expected) {
        const float *expected = measure->expected + (index - measure->first) * vocabulary;
        double own = log_sum(logits, vocabulary), others = log_sum(expected, vocabulary), divergence = 0;
        for (size_t i = 0; i < vocabulary; i++) {
            double log_p = (double)expected[i] - others;
            divergence += exp(log_p) * (log_p - ((double)logits[i] - own));
        }
        measure->divergences[measure->count] = (float)divergence;
        measure->same += likeliest(logits, vocabulary) == likeliest(expected, vocabulary);
    }
    measure->count++;
}

/* A model, ready to run windows. */
struct subject {
    struct llm_model *model;
    struct llm_context *context;
};

static bool subject_open(struct subject *subject, const char *path, size_t window, int threads,
                         enum llm_precision precision, struct error *error) {
    const struct llm_context_options options = {
        .rows = LANGUAGE_ROWS, .positions = (int64_t)window, .threads = threads, .precision = precision};
    subject->model = language_load(path, error);
    subject->context = subject->model ? llm_context_create(subject->model, &options, error) : NULL;
    return subject->context;
}

static void subject_close(struct subject *subject) {
    llm_context_free(subject->context);
    llm_model_free(subject->model);
}

/* One window, with BOS for its first token where there is one. Its last token is only foretold. */
static bool run_window(struct subject *subject, struct measure *measure, size_t window, language_each each,
                       struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(subject->model);
    int32_t *tokens = measure->tokens->ids + measure->start, first = tokens[0];
    struct llm_sequence sequence = {0};

    if (tokenizer_adds_bos(tokenizer))
        tokens[0] = tokenizer_bos(tokenizer);
    bool done = language_run(subject->context, &sequence, tokens, window - 1, true, measure->first, each,
                             measure, error);
    tokens[0] = first;
    llm_sequence_release(subject->context, &sequence);
    return done;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct perplexity_arguments {
    const char *against;
    int context, threads;
    bool json;
    const char *precision_text;
    enum llm_precision precision;
};

/* Perplexity and its standard error. */
static void finish(const struct sums *sums, size_t count, double *ret_perplexity, double *ret_error) {
    double mean = sums->loss / (double)count, variance = sums->squares / (double)count - mean * mean;
    *ret_perplexity = exp(mean);
    *ret_error = count > 1 ? *ret_perplexity * sqrt(fmax(variance, 0) / (double)(count - 1)) : 0;
}

static bool print(const struct measure *measure, bool json) {
    double perplexity, deviation, other, other_deviation, mean = 0;
    size_t n = measure->count;
    finish(&measure->model, n, &perplexity, &deviation);
    finish(&measure->other, n, &other, &other_deviation);

    if (measure->expected) {
        for (size_t i = 0; i < n; i++)
            mean += (double)measure->divergences[i] / (double)n;
        qsort(measure->divergences, n, sizeof *measure->divergences, ascending);
    }
    double most = measure->expected ? (double)measure->divergences[n - 1] : 0,
           percentile =
               measure->expected ? (double)measure->divergences[(size_t)((double)(n - 1) * 0.99)] : 0,
           same = (double)measure->same / (double)n;

    if (json) {
        json_t *value = json_pack("{s:o, s:o, s:I}", "perplexity", cli_json_real(perplexity, 5), "error",
                                  cli_json_real(deviation, 5), "tokens", (json_int_t)n);
        if (value && measure->expected)
            json_object_set_new(value, "against",
                                json_pack("{s:o, s:o, s:o, s:o, s:o}", "perplexity", cli_json_real(other, 5),
                                          "kl_mean", cli_json_real(mean, 7), "kl_99",
                                          cli_json_real(percentile, 7), "kl_largest", cli_json_real(most, 7),
                                          "same_first_token", cli_json_real(same, 5)));
        return cli_print_json(value);
    }

    printf("perplexity  %.4f ± %.4f over %zu tokens\n", perplexity, deviation, n);
    if (measure->expected) {
        printf("against     %.4f ± %.4f\n", other, other_deviation);
        printf("divergence  mean %.6f, 99 %% %.5f, largest %.4f; same likeliest token %.2f %%\n", mean,
               percentile, most, 100 * same);
    }
    return true;
}

static bool prepare(struct measure *measure, const struct subject *model, const struct subject *other,
                    size_t window, size_t windows, struct error *error) {
    measure->vocabulary = (size_t)llm_model_vocabulary(model->model);
    measure->first = window / 2;
    if (!other->model)
        return true;
    if ((size_t)llm_model_vocabulary(other->model) != measure->vocabulary)
        return error_set(error, ERROR_INVALID, "the models have %zu and %d tokens: they cannot be compared",
                         measure->vocabulary, llm_model_vocabulary(other->model));

    size_t counted = window - 1 - measure->first;
    measure->expected = calloc(counted, measure->vocabulary * sizeof *measure->expected);
    measure->divergences = calloc(windows, counted * sizeof *measure->divergences);
    return (measure->expected && measure->divergences) ||
           error_set(error, ERROR_MEMORY, "not enough memory for the logits of %zu tokens", counted);
}

static bool measure_all(struct measure *measure, struct subject *model, struct subject *other, size_t window,
                        size_t windows, struct error *error) {
    for (size_t i = 0; i < windows; i++) {
        measure->start = i * window;
        if ((other->model && !run_window(other, measure, window, keep, error)) ||
            !run_window(model, measure, window, count, error))
            return false;
    }
    return true;
}

static bool run(const char *path, const char *text_path, const struct perplexity_arguments *arguments,
                struct error *error) {
    struct token_list tokens = {0};
    struct subject model = {0}, other = {0};
    struct measure measure = {.tokens = &tokens};
    size_t size, window = (size_t)arguments->context;
    cleanup(freep) char *text = file_read(text_path, LIMIT_TOKENIZED_BYTES, &size, error);
    bool done = text && subject_open(&model, path, window, arguments->threads, arguments->precision, error) &&
                (!arguments->against ||
                 subject_open(&other, arguments->against, window, arguments->threads, LLM_F32, error)) &&
                language_encode(model.model, text, size, &tokens, error);

    size_t windows = tokens.count / window;
    if (done && windows == 0)
        done = error_set(error, ERROR_INVALID, "%s has %zu tokens, and a window has %zu (--context)",
                         text_path, tokens.count, window);
    done = done && prepare(&measure, &model, &other, window, windows, error) &&
           measure_all(&measure, &model, &other, window, windows, error) && print(&measure, arguments->json);

    free(measure.expected);
    free(measure.divergences);
    token_list_release(&tokens);
    subject_close(&model);
    subject_close(&other);
    return done;
}

int verb_perplexity(int argc, char **argv) {
    struct perplexity_arguments arguments = {.context = 512};
    const struct option_spec options[] = {
        {.name = "context",
         .kind = OPTION_INT,
         .value = &arguments.context,
         .minimum = 4,
         .maximum = 1 << 20},
        {.name = "against", .kind = OPTION_TEXT, .value = &arguments.against},
        {.name = "precision", .kind = OPTION_TEXT, .value = &arguments.precision_text},
        {.name = "threads", .kind = OPTION_INT, .value = &arguments.threads, .minimum = 1, .maximum = 1024},
        {.name = "json", .kind = OPTION_FLAG, .value = &arguments.json},
        {0},
    };
    struct error error;
    int words, code;

    if (!options_parse(&self, argc, argv, options, 2, 2, &words, &code) ||
        !language_precision(&self, arguments.precision_text, &arguments.precision, &code))
        return code;
    return run(argv[1], argv[2], &arguments, &error) ? EXIT_DONE : cli_fail(&error);
}
