#include "llm/sampler.h"

#include <math.h>
#include <stdlib.h>

struct sampler_candidate {
    float logit; /* later its probability, as a part of the likeliest one's */
    int32_t token;
};

struct sampler {
    struct sampler_options options;
    int32_t vocabulary;
    uint64_t state;                       /* of the random numbers */
    uint32_t *counts;                     /* [vocabulary]: how often a token was seen; NULL: no penalties */
    struct sampler_candidate *candidates; /* [vocabulary] */
};

/* SplitMix64 (Steele, Lea and Flood 2014), as a number in [0, 1). */
static double random_number(struct sampler *sampler) {
    uint64_t z = sampler->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static bool check(const struct sampler_options *options, struct error *error) {
    const struct {
        const char *name;
        double value, least, most;
    } ranges[] = {
        {"temperature", options->temperature, 0, 100},
        {"top_p", options->top_p, 0, 1},
        {"min_p", options->min_p, 0, 1},
        {"top_k", options->top_k, 0, INT32_MAX},
        {"repeat_penalty", options->repeat_penalty, 0.01, 100},
        {"presence_penalty", options->presence_penalty, -100, 100},
        {"frequency_penalty", options->frequency_penalty, -100, 100},
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return error_set(error, ERROR_INVALID, "%s is %g, which is not within %g and %g", ranges[i].name,
                             ranges[i].value, ranges[i].least, ranges[i].most);
    return true;
}

struct sampler *sampler_create(const struct sampler_options *options, int32_t vocabulary,
                               struct error *error) {
    if (!check(options, error))
        return NULL;

    struct sampler *sampler = calloc(1, sizeof *sampler);
    bool penalties =
        options->repeat_penalty != 1 || options->presence_penalty != 0 || options->frequency_penalty != 0;
    if (sampler) {
        *sampler = (struct sampler){.options = *options, .vocabulary = vocabulary, .state = options->seed};
        sampler->candidates = calloc((size_t)vocabulary, sizeof *sampler->candidates);
        sampler->counts = penalties ? calloc((size_t)vocabulary, sizeof *sampler->counts) : NULL;
    }
    if (sampler && sampler->candidates && (sampler->counts || !penalties))
        return sampler;

    sampler_free(sampler);
    error_set(error, ERROR_MEMORY, "not enough memory to choose among %d tokens", vocabulary);
    return NULL;
}

void sampler_free(struct sampler *sampler) {
    if (!sampler)
        return;

    free(sampler->candidates);
    free(sampler->counts);
    free(sampler);
}

void sampler_note(struct sampler *sampler, int32_t token) {
    if (sampler->counts && token >= 0 && token < sampler->vocabulary && sampler->counts[token] < UINT32_MAX)
        sampler->counts[token]++;
}

static void punish(const struct sampler *sampler, float *logits) {
    float repeat = (float)sampler->options.repeat_penalty,
          presence = (float)sampler->options.presence_penalty,
          frequency = (float)sampler->options.frequency_penalty;

    for (int32_t i = 0; sampler->counts && i < sampler->vocabulary; i++) {
        if (!sampler->counts[i])
            continue;
        logits[i] = logits[i] > 0 ? logits[i] / repeat : logits[i] * repeat;
        logits[i] -= presence + frequency * (float)sampler->counts[i];
    }
}

static int32_t likeliest(const float *logits, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best] || isnan(logits[best]))
            best = i;
    return best;
}

/* --- A heap of candidates, the likeliest first; of equal ones that with the lower number ------------------
 */

static bool before(const struct sampler_candidate *a, const struct sampler_candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static void sift_down(struct sampler_candidate *heap, int32_t count, int32_t at) {
    struct sampler_candidate moved = heap[at];

    for (int32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Move the likeliest to the end of heap[0, count). */
static struct sampler_candidate take_likeliest(struct sampler_candidate *heap, int32_t count) {
    struct sampler_candidate first = heap[0];
    heap[0] = heap[count - 1];
    heap[count - 1] = first;
    sift_down(heap, count - 1, 0);
    return first;
}

/* --- Sampling ------------------------------------------------------------------------------------------- */

/* Candidates with their probabilities, as parts of the likeliest one's; returns how many. */
static int32_t weigh(struct sampler *sampler, const float *logits, float most) {
    double temperature = sampler->options.temperature;
    int32_t count = 0;

    for (int32_t i = 0; i < sampler->vocabulary; i++) {
        float weight = (float)exp(((double)logits[i] - (double)most) / temperature);
        if (weight > 0 && (double)weight >= sampler->options.min_p)
            sampler->candidates[count++] = (struct sampler_candidate){weight, i};
    }
    return count;
}

/* One of candidates[0, count) by its weight. */
static int32_t draw(struct sampler *sampler, const struct sampler_candidate *candidates, int32_t count,
                    double sum) {
    double left = random_number(sampler) * sum;

    for (int32_t i = 0; i < count; i++) {
        left -= (double)candidates[i].logit;
        if (left < 0)
            return candidates[i].token;
    }
    return candidates[count - 1].token; /* what rounding left over */
}

/* The likeliest candidates that top_k and top_p leave: at the end of the array; *ret_sum: their weights. */
static int32_t keep_likeliest(struct sampler *sampler, int32_t count, double *ret_sum) {
    struct sampler_candidate *candidates = sampler->candidates;
    int32_t most =
        sampler->options.top_k > 0 && sampler->options.top_k < count ? sampler->options.top_k : count;
    double total = 0, sum = 0;
    int32_t kept = 0;

    for (int32_t i = 0; i < count; i++)
        total += (double)candidates[i].logit;
    for (int32_t i = count / 2 - 1; i >= 0; i--)
        sift_down(candidates, count, i);
    while (kept < most && (kept == 0 || sum < sampler->options.top_p * total)) {
        sum += (double)take_likeliest(candidates, count - kept).logit;
        kept++;
    }

    *ret_sum = sum;
    return kept;
}

int32_t sampler_pick(struct sampler *sampler, float *logits) {
    punish(sampler, logits);

    int32_t best = likeliest(logits, sampler->vocabulary);
    float most = logits[best];
    if (sampler->options.temperature == 0 || !isfinite(most))
        return best;

    int32_t count = weigh(sampler, logits, most);
    double sum = 0;
    if (sampler->options.top_p < 1 || (sampler->options.top_k > 0 && sampler->options.top_k < count)) {
        int32_t kept = keep_likeliest(sampler, count, &sum);
        return draw(sampler, sampler->candidates + count - kept, kept, sum);
    }

    for (int32_t i = 0; i < count; i++)
        sum += (double)sampler->candidates[i].logit;
    return draw(sampler, sampler->candidates, count, sum);
}
