/* teach/: the closed form against plain refits, classes from folders, and a model taught from coloured
 * photos. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "teach/teach.h"
#include "teach/triangular.h"

/* The same numbers every time, in [-1, 1]. */
static double number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (1 << 23) - 1;
}

/* ---- Systems ---- */

static void solutions_solve_the_system(void **state) {
    enum { ORDER = 77, DEPTH = 90, COLUMNS = 3 };
    static double a[ORDER * DEPTH], gram[ORDER * ORDER], factor[ORDER * ORDER], right[ORDER * COLUMNS],
        solution[ORDER * COLUMNS], squares[ORDER];
    uint32_t seed = 1;
    bool definite;

    for (int i = 0; i < ORDER * DEPTH; i++)
        a[i] = number(&seed);
    for (int i = 0; i < ORDER * COLUMNS; i++)
        solution[i] = right[i] = number(&seed);
    assert_true(gram_compute(a, ORDER, DEPTH, 1, gram));
    memcpy(factor, gram, sizeof factor);
    assert_true(cholesky_factor(factor, ORDER, 1, &definite) && definite);
    cholesky_solve(factor, ORDER, solution, COLUMNS);

    for (int i = 0; i < ORDER; i++)
        for (int c = 0; c < COLUMNS; c++) {
            double sum = 0;
            for (int j = 0; j < ORDER; j++)
                sum += gram[i > j ? i * ORDER + j : j * ORDER + i] * solution[j * COLUMNS + c];
            assert_float_equal(sum, right[i * COLUMNS + c], 1e-8);
        }

    /* Against the diagonal of the inverse, column by column. */
    assert_true(cholesky_squares(factor, ORDER, NULL, ORDER, 1, squares));
    for (int i = 0; i < ORDER; i++) {
        double one[ORDER] = {0};
        one[i] = 1;
        cholesky_solve(factor, ORDER, one, 1);
        assert_float_equal(squares[i], one[i], 1e-8 * fabs(one[i]) + 1e-10);
    }
}

static void what_is_not_definite_is_told(void **state) {
    double matrix[] = {1, 0, 2, 1};
    bool definite = true;
    assert_true(cholesky_factor(matrix, 2, 1, &definite));
    assert_false(definite);
}

/* ---- Leaving one out ---- */

enum { MOST = 40, CLASSES = 3 };

/* Ridge regression of all samples but `left`, by Gaussian elimination; the scores of `left`. */
static void refit(const struct ridge_samples *samples, int left, double penalty, double *ret) {
    static double matrix[MOST][MOST + CLASSES], mean[MOST];
    double target_mean[CLASSES] = {0};
    int width = samples->width, count = samples->count - 1;
    memset(matrix, 0, sizeof matrix);
    memset(mean, 0, sizeof mean);

    for (int i = 0; i < samples->count; i++)
        for (int j = 0; i != left && j < width; j++)
            mean[j] += samples->features[i * width + j] / (double)count;
    for (int i = 0; i < samples->count; i++)
        if (i != left)
            target_mean[samples->classes[i]] += 1.0 / count;
    for (int i = 0; i < samples->count; i++)
        for (int j = 0; i != left && j < width; j++) {
            double value = samples->features[i * width + j] - mean[j];
            for (int k = 0; k < width; k++)
                matrix[j][k] += value * (samples->features[i * width + k] - mean[k]);
            for (int c = 0; c < CLASSES; c++)
                matrix[j][width + c] += value * ((samples->classes[i] == c) - target_mean[c]);
        }

    for (int j = 0; j < width; j++)
        matrix[j][j] += penalty;
    for (int j = 0; j < width; j++)
        for (int row = 0; row < width; row++) {
            double factor = matrix[row][j] / matrix[j][j];
            for (int k = j; row != j && k < width + CLASSES; k++)
                matrix[row][k] -= factor * matrix[j][k];
        }

    for (int c = 0; c < CLASSES; c++) {
        ret[c] = target_mean[c];
        for (int j = 0; j < width; j++)
            ret[c] += matrix[j][width + c] / matrix[j][j] * (samples->features[left * width + j] - mean[j]);
    }
}

static double mean_square(const struct ridge_samples *samples) {
    double sum = 0;
    for (int j = 0; j < samples->width; j++) {
        double mean = 0;
        for (int i = 0; i < samples->count; i++)
            mean += samples->features[i * samples->width + j] / (double)samples->count;
        for (int i = 0; i < samples->count; i++)
            sum += pow(samples->features[i * samples->width + j] - mean, 2);
    }
    return sum / samples->count;
}

static void check_left_out(int count, int width) {
    float features[MOST * MOST];
    int classes[MOST];
    uint32_t seed = 7;
    for (int i = 0; i < count; i++) {
        classes[i] = i % CLASSES;
        for (int j = 0; j < width; j++)
            features[i * width + j] = (float)(number(&seed) + (j % CLASSES == classes[i]));
    }

    const struct ridge_samples samples = {features, classes, count, width, CLASSES};
    struct ridge_head head;
    struct error error;
    assert_true(ridge_fit(&samples, 1, &head, &error));

    for (int i = 0; i < count; i++) {
        double scores[CLASSES], sum = 0;
        refit(&samples, i, head.penalty * mean_square(&samples), scores);
        for (int c = 0; c < CLASSES; c++)
            sum += exp(scores[c] / head.temperature);
        for (int c = 0; c < CLASSES; c++)
            assert_float_equal(head.left_out[i * CLASSES + c], exp(scores[c] / head.temperature) / sum, 1e-5);
    }
    ridge_head_release(&head);
}

static void left_out_is_what_a_refit_without_it_says(void **state) {
    check_left_out(12, 30); /* fewer photos than features */
    check_left_out(40, 9);
}

static void features_without_a_difference_are_refused(void **state) {
    const float same[8] = {1, 2, 1, 2, 1, 2, 1, 2}, nan[8] = {NAN};
    const int classes[4] = {0, 0, 1, 1};
    struct ridge_samples samples = {same, classes, 4, 2, 2};
    struct ridge_head head;
    struct error error;
    assert_false(ridge_fit(&samples, 1, &head, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    samples.features = nan;
    assert_false(ridge_fit(&samples, 1, &head, &error));
    assert_int_equal(error.code, ERROR_INVALID);
}

/* ---- Folders ---- */

static char folder[64];

static int make_folder(void **state) {
    strcpy(folder, "/tmp/guichet-teach-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void make_group(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

/* A photo of one colour, as BMP in a file that is called .png: what it is, is seen by its bytes. */
static void write_photo(const char *name, int red, int green, int blue) {
    enum { SIDE = 8, HEAD = 54 };
    uint8_t bytes[HEAD + SIDE * SIDE * 3] = {'B', 'M'};
    const uint8_t head[] = {54, 0, 0, 0, 40, 0, 0, 0, SIDE, 0, 0, 0, SIDE, 0, 0, 0, 1, 0, 24};
    char path[256];
    struct error error;
    memcpy(bytes + 10, head, sizeof head);
    for (int i = 0; i < SIDE * SIDE; i++) {
        bytes[HEAD + i * 3] = (uint8_t)blue;
        bytes[HEAD + i * 3 + 1] = (uint8_t)green;
        bytes[HEAD + i * 3 + 2] = (uint8_t)red;
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(file_write(path, bytes, sizeof bytes, &error));
}

static void write_photos(const char *group, int count, int red, int green, int blue) {
    make_group(group);
    for (int i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/%d.png", group, i);
        write_photo(name, red ? red - 9 * i : i, green ? green - 9 * i : 2 * i, blue ? blue - 9 * i : 0);
    }
}

static void folders_are_classes(void **state) {
    struct photo_list list;
    struct teach_classes classes;
    struct error error;
    write_photos("one class", 2, 250, 0, 0);
    write_photo("loose.png", 0, 0, 0);
    assert_false(teach_classes_read(folder, &list, &classes, &error));
    assert_non_null(strstr(error.message, "one class alone"));

    write_photos("one", 3, 0, 250, 0);
    assert_true(teach_classes_read(folder, &list, &classes, &error));
    assert_int_equal(classes.count, 2);
    assert_string_equal(classes.names[0], "one class");
    assert_string_equal(classes.names[1], "one");
    assert_int_equal(classes.photos[0], 2);
    assert_int_equal(classes.photos[1], 3);
    assert_int_equal(classes.outside, 1);
    assert_int_equal(list.count, 5);
    assert_int_equal(list.files[4].class_index, 1);
    photo_list_release(&list);
    teach_classes_release(&classes);

    make_group("lonely");
    write_photo("lonely/1.png", 0, 0, 250);
    assert_false(teach_classes_read(folder, &list, &classes, &error));
    assert_non_null(strstr(error.message, "lonely: one photo is too few"));
}

static bool stop(void *context, const char *stage, uint64_t done, uint64_t total) {
    return false;
}

/* How many names there are in the folder, hidden ones, too. */
static int count_names(void) {
    char command[128];
    int count = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    pclose(pipe);
    return count;
}

static void a_taught_model_tells_its_classes_apart(void **state) {
    const struct model_options model_options = {.engine = {.precision = PRECISION_F32, .threads = 1}};
    struct error error;
    struct model *animals = model_load("models/animals", &model_options, &error);
    assert_non_null(animals);
    write_photos("red", 4, 250, 0, 0);
    write_photos("sky blue", 4, 0, 0, 250);

    char output[96], path[128];
    snprintf(output, sizeof output, "%s/taught", folder);
    struct teach_options options = {.photos = folder, .output = output, .threads = 1, .report = stop};
    struct teach_result result;
    assert_false(teach_run(animals, &options, &result, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_int_equal(count_names(), 2); /* nothing is left of it */

    options.report = NULL;
    assert_true(teach_run(animals, &options, &result, &error));
    assert_int_equal(result.score.right, 8);
    assert_true(result.score.low > 0.5 && result.score.high > 0.999);
    teach_result_release(&result);
    assert_int_equal(count_names(), 3);

    struct model *taught = model_load(output, &model_options, &error);
    assert_non_null(taught);
    assert_string_equal(model_label(taught, 1, NULL), "sky blue");
    assert_true(photo_input_equal(model_input(taught), model_input(animals)));

    struct model_classifier *classifier = model_classifier_create(taught, &error);
    struct prediction best = {0};
    struct timing timing = {0};
    int count = 0;
    size_t size;
    write_photo("blue.png", 5, 5, 235);
    snprintf(path, sizeof path, "%s/blue.png", folder);
    cleanup(freep) char *bytes = file_read(path, 1 << 20, &size, &error);
    assert_true(classifier && bytes &&
                model_classify(classifier, (const uint8_t *)bytes, size, 1, &best, &count, &timing, &error));
    assert_int_equal(count, 1);
    assert_string_equal(best.label ? best.label : "", "sky blue");
    assert_true(best.probability > 0.5);
    model_classifier_free(classifier);
    model_free(taught);

    /* What is there is kept, unless it was taught and may be replaced. */
    assert_false(teach_run(animals, &options, &result, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    options.replace = true;
    unlink(path);
    assert_true(teach_run(animals, &options, &result, &error));
    teach_result_release(&result);
    assert_int_equal(count_names(), 3);
    snprintf(path, sizeof path, "%s/taught.json", output);
    assert_int_equal(unlink(path), 0);
    assert_false(teach_run(animals, &options, &result, &error));
    model_free(animals);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solutions_solve_the_system),
        cmocka_unit_test(what_is_not_definite_is_told),
        cmocka_unit_test(left_out_is_what_a_refit_without_it_says),
        cmocka_unit_test(features_without_a_difference_are_refused),
        cmocka_unit_test_setup_teardown(folders_are_classes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_taught_model_tells_its_classes_apart, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
