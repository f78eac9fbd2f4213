#include "teach/ridge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "teach/triangular.h"

/* Penalties that are tried, as shares of the mean squared length of the (centred) features. */
static const double penalties[] = {0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10};
#define TEMPERATURE_LEAST 1e-3
#define TEMPERATURE_MOST 10.0

/* The system that is solved is as large as the smaller of photos and features: with fewer photos than
 * features the products of photos (dual), else those of features. */
struct ridge_work {
    const struct ridge_samples *samples;
    int threads;
    bool dual;
    int64_t order, depth;
    double *matrix;      /* [order, depth] centred features; dual: a row a photo, else a row a feature */
    double *mean;        /* [width] */
    double *target_mean; /* [class_count] */
    double *gram;        /* [order, order] */
    double *factor;      /* [order, order] */
    double *solution;    /* [order, class_count] */
    double *leverage;    /* [count] */
    double *weights;     /* [width, class_count] */
    double *left_out;    /* [count, class_count] scores */
    double square;       /* mean squared length of the centred features */
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to fit the classes");
}

static void release_work(struct ridge_work *work) {
    free(work->matrix);
    free(work->mean);
    free(work->target_mean);
    free(work->gram);
    free(work->factor);
    free(work->solution);
    free(work->leverage);
    free(work->weights);
    free(work->left_out);
}

static double *allocate(int64_t rows, int64_t columns) {
    size_t count;
    return size_multiply((size_t)rows, (size_t)columns, &count) ? calloc(count + 1, sizeof(double)) : NULL;
}

static bool create_work(const struct ridge_samples *samples, int threads, struct ridge_work *ret) {
    int64_t count = samples->count, width = samples->width, classes = samples->class_count;
    *ret = (struct ridge_work){.samples = samples, .threads = threads, .dual = count <= width};
    ret->order = ret->dual ? count : width;
    ret->depth = ret->dual ? width : count;
    ret->matrix = allocate(ret->order, ret->depth);
    ret->mean = allocate(width, 1);
    ret->target_mean = allocate(classes, 1);
    ret->gram = allocate(ret->order, ret->order);
    ret->factor = allocate(ret->order, ret->order);
    ret->solution = allocate(ret->order, classes);
    ret->leverage = allocate(count, 1);
    ret->weights = allocate(width, classes);
    ret->left_out = allocate(count, classes);
    return ret->matrix && ret->mean && ret->target_mean && ret->gram && ret->factor && ret->solution &&
           ret->leverage && ret->weights && ret->left_out;
}

/* False: a feature is no number. */
static bool center(struct ridge_work *work) {
    const struct ridge_samples *samples = work->samples;
    int64_t count = samples->count, width = samples->width;
    double sum = 0;

    for (int64_t i = 0; i < count; i++) {
        work->target_mean[samples->classes[i]] += 1.0 / (double)count;
        for (int64_t j = 0; j < width; j++)
            work->mean[j] += samples->features[i * width + j] / (double)count;
    }

    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++) {
            double value = samples->features[i * width + j] - work->mean[j];
            work->matrix[work->dual ? i * width + j : j * count + i] = value;
            sum += value * value;
        }

    work->square = sum / (double)count;
    return isfinite(sum);
}

/* What a photo of a class should score. */
static double target(const struct ridge_work *work, int64_t photo, int64_t index) {
    return (work->samples->classes[photo] == index) - work->target_mean[index];
}

static void set_right_side(struct ridge_work *work) {
    int64_t classes = work->samples->class_count;
    for (int64_t i = 0; i < work->order; i++)
        for (int64_t c = 0; c < classes; c++) {
            double sum = 0;
            if (work->dual)
                sum = target(work, i, c);
            for (int64_t j = 0; !work->dual && j < work->depth; j++)
                sum += work->matrix[i * work->depth + j] * target(work, j, c);
            work->solution[i * classes + c] = sum;
        }
}

/* right [order, classes] = matrix·left or ret [depth, classes] = matrix'·left */
static void multiply_transposed(const struct ridge_work *work, const double *left, double *ret) {
    int64_t classes = work->samples->class_count;
    memset(ret, 0, (size_t)(work->depth * classes) * sizeof *ret);
#pragma omp parallel for num_threads(work->threads)
    for (int64_t c = 0; c < classes; c++)
        for (int64_t i = 0; i < work->order; i++) {
            double factor = left[i * classes + c];
            for (int64_t j = 0; j < work->depth; j++)
                ret[j * classes + c] += work->matrix[i * work->depth + j] * factor;
        }
}

/* Solve for one penalty: weights, and the scores of every photo by a head without it. */
static bool solve(struct ridge_work *work, double penalty, struct error *error) {
    const struct ridge_samples *samples = work->samples;
    int64_t count = samples->count, classes = samples->class_count;
    bool definite;

    memcpy(work->factor, work->gram, (size_t)(work->order * work->order) * sizeof *work->factor);
    for (int64_t i = 0; i < work->order; i++)
        work->factor[i * work->order + i] += penalty;
    if (!cholesky_factor(work->factor, work->order, work->threads, &definite))
        return no_memory(error);
    if (!definite)
        return error_set(error, ERROR_INVALID,
                         "all photos give the same features: check that they differ, or take another --from");

    if (!cholesky_squares(work->factor, work->order, work->dual ? NULL : work->matrix, count, work->threads,
                          work->leverage))
        return no_memory(error);

    set_right_side(work);
    cholesky_solve(work->factor, work->order, work->solution, classes);
    if (work->dual) {
        multiply_transposed(work, work->solution, work->weights);
    } else {
        memcpy(work->weights, work->solution, (size_t)(work->order * classes) * sizeof *work->weights);
        multiply_transposed(work, work->solution, work->left_out);
    }

    for (int64_t i = 0; i < count; i++) {
        double own = work->dual ? 1 - penalty * work->leverage[i] : work->leverage[i];
        double rest = 1 - own - 1 / (double)count;
        for (int64_t c = 0; c < classes; c++) {
            double wanted = target(work, i, c), *score = &work->left_out[i * classes + c];
            double residual = work->dual ? penalty * work->solution[i * classes + c] : wanted - *score;
            *score = wanted - residual / fmax(rest, 1e-9) + work->target_mean[c];
        }
    }

    return true;
}

/* -log of the mean likelihood of the photos left out. */
static double log_loss(const struct ridge_work *work, double temperature) {
    const struct ridge_samples *samples = work->samples;
    int64_t classes = samples->class_count;
    double loss = 0;

    for (int64_t i = 0; i < samples->count; i++) {
        const double *scores = work->left_out + i * classes;
        double best = scores[0], sum = 0;
        for (int64_t c = 1; c < classes; c++)
            best = fmax(best, scores[c]);
        for (int64_t c = 0; c < classes; c++)
            sum += exp((scores[c] - best) / temperature);
        loss += log(sum) - (scores[samples->classes[i]] - best) / temperature;
    }

    return loss / samples->count;
}

/* Golden section over the logarithm: the loss has one minimum in 1 / temperature. */
static double find_temperature(const struct ridge_work *work, double *ret_loss) {
    const double ratio = 0.6180339887498949;
    double low = log(TEMPERATURE_LEAST), high = log(TEMPERATURE_MOST);
    double left = high - ratio * (high - low), right = low + ratio * (high - low);
    double left_loss = log_loss(work, exp(left)), right_loss = log_loss(work, exp(right));

    for (int step = 0; step < 24; step++) {
        if (left_loss < right_loss) {
            high = right;
            right = left;
            right_loss = left_loss;
            left = high - ratio * (high - low);
            left_loss = log_loss(work, exp(left));
        } else {
            low = left;
            left = right;
            left_loss = right_loss;
            right = low + ratio * (high - low);
            right_loss = log_loss(work, exp(right));
        }
    }

    double temperature = exp((low + high) / 2);
    *ret_loss = log_loss(work, temperature);
    return temperature;
}

static void keep_probabilities(const struct ridge_work *work, double temperature, float *ret) {
    int64_t classes = work->samples->class_count;
    for (int64_t i = 0; i < work->samples->count; i++) {
        const double *scores = work->left_out + i * classes;
        double best = scores[0], sum = 0;
        for (int64_t c = 1; c < classes; c++)
            best = fmax(best, scores[c]);
        for (int64_t c = 0; c < classes; c++)
            sum += exp((scores[c] - best) / temperature);
        for (int64_t c = 0; c < classes; c++)
            ret[i * classes + c] = (float)(exp((scores[c] - best) / temperature) / sum);
    }
}

/* The solution as a layer: the features are not centred there, and the scores are divided. */
static void keep_layer(const struct ridge_work *work, struct ridge_head *head) {
    int64_t width = work->samples->width, classes = work->samples->class_count;
    for (int64_t c = 0; c < classes; c++) {
        double bias = work->target_mean[c];
        for (int64_t j = 0; j < width; j++) {
            double weight = work->weights[j * classes + c];
            bias -= work->mean[j] * weight;
            head->weights[j * classes + c] = (float)(weight / head->temperature);
        }
        head->bias[c] = (float)(bias / head->temperature);
    }
}

static bool choose(struct ridge_work *work, struct ridge_head *head, struct error *error) {
    double best = INFINITY;
    for (size_t i = 0; i < sizeof penalties / sizeof *penalties; i++) {
        double loss;
        if (!solve(work, penalties[i] * work->square, error))
            return false;
        double temperature = find_temperature(work, &loss);
        if (loss >= best)
            continue;

        best = loss;
        head->penalty = penalties[i];
        head->temperature = temperature;
        keep_layer(work, head);
        keep_probabilities(work, temperature, head->left_out);
    }
    return true;
}

bool ridge_fit(const struct ridge_samples *samples, int threads, struct ridge_head *ret,
               struct error *error) {
    size_t width = (size_t)samples->width, classes = (size_t)samples->class_count;
    struct ridge_work work;
    struct ridge_head head = {.weights = calloc(width * classes + 1, sizeof(float)),
                              .bias = calloc(classes + 1, sizeof(float)),
                              .left_out = calloc((size_t)samples->count * classes + 1, sizeof(float))};
    bool done = create_work(samples, threads, &work) && head.weights && head.bias && head.left_out;
    if (!done)
        no_memory(error);
    else if (!center(&work))
        done = error_set(error, ERROR_INVALID, "the network's features are no numbers (NaN or infinity)");
    else if (!(work.square > 0))
        done = error_set(error, ERROR_INVALID, "the network sees no difference between the photos");
    else if (!gram_compute(work.matrix, work.order, work.depth, threads, work.gram))
        done = no_memory(error);
    else
        done = choose(&work, &head, error);

    release_work(&work);
    if (done)
        *ret = head;
    else
        ridge_head_release(&head);
    return done;
}

void ridge_head_release(struct ridge_head *head) {
    free(head->weights);
    free(head->bias);
    free(head->left_out);
    *head = (struct ridge_head){0};
}
