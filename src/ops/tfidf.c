/* TfIdfVectorizer over integers: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html. n-grams of a
 * pool, counted in each row, with up to max_skip_count elements left out between their parts. */
#include <stdlib.h>
#include <string.h>

#include "ops/family.h"

struct tfidf {
    const int64_t *pool, *counts, *places; /* pool: 1-grams, 2-grams, …; counts: where each length begins */
    size_t pool_count, count_count, place_count;
    const struct attribute *weights;
    int64_t least, most, skips, columns;
    enum { TFIDF_TF, TFIDF_IDF, TFIDF_BOTH } mode;
};

static bool tfidf_read(const struct node *node, struct tfidf *ret, struct error *error) {
    static const char *const modes[] = {"TF", "IDF", "TFIDF"};
    const char *mode = node_string(node, "mode", "");
    bool known = false;
    *ret = (struct tfidf){.least = node_int(node, "min_gram_length", 0),
                          .most = node_int(node, "max_gram_length", 0),
                          .skips = node_int(node, "max_skip_count", 0),
                          .weights = node_attribute(node, "weights")};
    ret->pool_count = node_ints(node, "pool_int64s", &ret->pool);
    ret->count_count = node_ints(node, "ngram_counts", &ret->counts);
    ret->place_count = node_ints(node, "ngram_indexes", &ret->places);

    for (int i = 0; i < 3; i++)
        if (strcmp(modes[i], mode) == 0) {
            ret->mode = i;
            known = true;
        }
    if (!known || node_attribute(node, "pool_strings"))
        return node_error(node, error, known ? "strings are not supported" : "its mode is not supported");
    if (ret->least < 1 || ret->most < ret->least || ret->most > 64 || ret->skips < 0 || ret->skips > 1024 ||
        ret->count_count < (size_t)ret->most || !ret->place_count)
        return node_error(node, error, "its lengths of n-grams do not fit");
    if (ret->weights && (ret->weights->kind != ATTRIBUTE_FLOATS || ret->weights->count != ret->place_count))
        return node_error(node, error, "its weights do not fit");

    for (size_t i = 0; i < ret->place_count; i++) {
        if (ret->places[i] < 0 || ret->places[i] >= LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "ngram_indexes holds %lld", (long long)ret->places[i]);
        ret->columns = ret->places[i] >= ret->columns ? ret->places[i] + 1 : ret->columns;
    }
    return true;
}

/* The n-grams of a length in the pool: how many, from where on, and the number of the first. */
static bool grams_of(const struct node *node, const struct tfidf *t, int64_t length, const int64_t **ret,
                     int64_t *ret_count, int64_t *ret_first, struct error *error) {
    int64_t number = 0;
    for (int64_t n = 1; n <= length; n++) {
        int64_t begin = t->counts[n - 1];
        int64_t end = (size_t)n < t->count_count ? t->counts[n] : (int64_t)t->pool_count;
        if (begin < 0 || end < begin || end > (int64_t)t->pool_count || (end - begin) % n)
            return node_error(node, error, "ngram_counts does not fit the pool");
        *ret = t->pool + begin;
        *ret_count = (end - begin) / n;
        *ret_first = number;
        number += *ret_count;
    }
    return number <= (int64_t)t->place_count || node_error(node, error, "ngram_indexes is too short");
}

static bool tfidf_check(const struct node *node, struct error *error) {
    struct tfidf t;
    const int64_t *pool;
    int64_t count, first;
    return tfidf_read(node, &t, error) && grams_of(node, &t, t.most, &pool, &count, &first, error);
}

static bool tfidf_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    struct tfidf t;
    if (!node_want_types(node, 0, TYPES_INDEX, error) || !node_want_rank(node, 0, 1, 2, error) ||
        !tfidf_read(node, &t, error))
        return false;

    struct shape shape =
        x->rank == 2 ? (struct shape){2, {x->dims[0], t.columns}} : (struct shape){1, {t.columns}};
    return infer_output(node, 0, DTYPE_F32, &shape, error);
}

/* Which of the pool's n-grams the row holds from `at` on, elements `step` apart; -1: none. */
static int64_t gram_find(const struct tensor *x, int64_t at, int64_t step, int64_t length,
                         const int64_t *pool, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        bool same = true;
        for (int64_t k = 0; k < length && same; k++)
            same = tensor_get_i64(x, at + k * step) == pool[i * length + k];
        if (same)
            return i;
    }
    return -1;
}

static bool tfidf_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct tensor *x = &inputs[0];
    int64_t columns = x->shape.dims[x->shape.rank - 1], rows = x->shape.rank == 2 ? x->shape.dims[0] : 1;
    float *y = outputs[0].data;
    struct tfidf t;
    if (!tfidf_read(node, &t, error))
        return false;

    memset(y, 0, tensor_bytes(&outputs[0]));
    for (int64_t length = t.least; length <= t.most; length++) {
        const int64_t *pool = NULL;
        int64_t count = 0, first = 0;
        if (!grams_of(node, &t, length, &pool, &count, &first, error))
            return false;
        for (int64_t step = 1; step <= (length == 1 ? 1 : t.skips + 1); step++)
            for (int64_t i = 0; i < rows * columns; i++) {
                if (i % columns + (length - 1) * step >= columns)
                    continue;
                int64_t found = gram_find(x, i, step, length, pool, count);
                if (found >= 0)
                    y[i / columns * t.columns + t.places[first + found]] += 1;
            }
    }

    for (size_t i = 0; i < t.place_count && t.mode != TFIDF_TF; i++) {
        float weight = t.weights ? t.weights->floats[i] : 1;
        for (int64_t row = 0; row < rows; row++) {
            float *cell = &y[row * t.columns + t.places[i]];
            *cell = t.mode == TFIDF_IDF ? (*cell > 0 ? weight : 0) : *cell * weight;
        }
    }
    return true;
}

const struct op_def tfidf_operators[] = {
    {.op_type = "TfIdfVectorizer",
     .since = 9,
     .inputs = {1, 1},
     .types = "int32, int64",
     .check = tfidf_check,
     FUNCTIONS(tfidf)},
    {0},
};
