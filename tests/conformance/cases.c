#include "cases.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "onnx/onnx.h"

static const char *const folders[] = {"node", "pytorch-converted", "pytorch-operator", "simple"};

static char *format_text(const char *format, const char *a, const char *b, const char *c) {
    char *text = NULL;
    return asprintf(&text, format, a, b, c) < 0 ? NULL : text;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct test_case *)a)->name, ((const struct test_case *)b)->name);
}

static struct test_case *find_in(const char *root, const char *folder, struct test_case *cases, int *count) {
    char *path = format_text("%s/%s%s", root, folder, "");
    DIR *directory = opendir(path);
    free(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, "test_", 5) != 0)
            continue;
        char *model = format_text("%s/%s/%s/model.onnx", root, folder, entry->d_name);
        if (access(model, R_OK) == 0) {
            cases = realloc(cases, (size_t)(*count + 1) * sizeof *cases);
            cases[*count].name = format_text("%s/%s%s", folder, entry->d_name, "");
            cases[*count].path = format_text("%s/%s/%s", root, folder, entry->d_name);
            ++*count;
        }
        free(model);
    }
    if (directory)
        closedir(directory);
    return cases;
}

struct test_case *cases_find(const char *root, int *ret_count) {
    struct test_case *cases = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        cases = find_in(root, folders[i], cases, ret_count);
    if (cases)
        qsort(cases, (size_t)*ret_count, sizeof *cases, by_name);
    return cases;
}

void cases_free(struct test_case *cases, int count) {
    for (int i = 0; i < count; i++) {
        free(cases[i].name);
        free(cases[i].path);
    }
    free(cases);
}

static void tensors_free(struct tensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        free(tensors[i].data);
}

/* FOLDER/test_data_set_SET/KIND_I.pb for I from 0 on; how many there are, -1 where one does not read. */
static int read_tensors(const char *folder, int set, const char *kind, struct tensor *ret,
                        struct error *error) {
    for (int i = 0; i < CASE_TENSORS; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/test_data_set_%d/%s_%d.pb", folder, set, kind, i);
        if (access(path, R_OK) != 0)
            return i;
        if (!onnx_tensor_read(path, &ret[i], error)) {
            tensors_free(ret, i);
            return -1;
        }
    }
    return CASE_TENSORS;
}

/* What an element may be away where the right value is zero. Debian 13's data of the Fourier transforms were
 * computed in float32: where sums cancel they hold what rounding left, 1.5e-6 beside values up to 50. */
static double absolute_tolerance(const struct test_case *test_case, const struct tensor *expected) {
    double largest = 1;
    if (strncmp(test_case->name, "node/test_dft", strlen("node/test_dft")) == 0)
        for (int64_t i = 0; i < shape_elements(&expected->shape); i++)
            largest = fmax(largest, fabs(tensor_get_f64(expected, i)));
    return 1e-7 * largest;
}

static bool elements_close(const struct tensor *actual, const struct tensor *expected, double absolute,
                           int64_t i) {
    if (!dtype_is_float(expected->dtype))
        return tensor_get_i64(actual, i) == tensor_get_i64(expected, i);
    double a = tensor_get_f64(actual, i), b = tensor_get_f64(expected, i);
    if (isnan(b) || isinf(b))
        return isnan(b) ? isnan(a) : a == b;
    return fabs(a - b) <= absolute + 1e-3 * fabs(b);
}

static bool compare(int index, const struct tensor *actual, const struct tensor *expected, double absolute,
                    struct error *error) {
    char text[2][SHAPE_TEXT];
    if (actual->dtype != expected->dtype || !shape_equal(&actual->shape, &expected->shape))
        return error_set(error, ERROR_INTERNAL, "output %d is %s %s, should be %s %s", index,
                         dtype_name(actual->dtype), shape_format(&actual->shape, text[0], SHAPE_TEXT),
                         dtype_name(expected->dtype), shape_format(&expected->shape, text[1], SHAPE_TEXT));
    int64_t count = shape_elements(&expected->shape), wrong = 0;
    for (int64_t i = count - 1; i >= 0; i--)
        if (!elements_close(actual, expected, absolute, i)) {
            wrong++;
            error_set(error, ERROR_INTERNAL,
                      "output %d: element %lld is %.9g, should be %.9g (%lld of %lld differ)", index,
                      (long long)i, tensor_get_f64(actual, i), tensor_get_f64(expected, i), (long long)wrong,
                      (long long)count);
        }
    return wrong == 0;
}

/* The data files hold bfloat16 as the bits of uint16. */
static void restore_bfloat16(enum dtype wanted, struct tensor *tensor) {
    if (wanted == DTYPE_BF16 && tensor->dtype == DTYPE_U16)
        tensor->dtype = DTYPE_BF16;
}

const char *case_fault(const struct test_case *test_case) {
    static const struct {
        const char *prefix, *reason;
    } faults[] = {
        {"node/test_cast_FLOAT_to_BFLOAT16", "its data was cut to bfloat16, later versions of ONNX round"},
        {"node/test_castlike_FLOAT_to_BFLOAT16",
         "its model says that 'like' is 3x4, its data is one element"},
        {"node/test_castlike_BFLOAT16_to_FLOAT",
         "its model says that 'like' is 3x4, its data is one element"},
        {"node/test_adam_multiple", "its data was made with an epsilon that its model does not say"},
        {"node/test_bernoulli", "its data is random"},
        /* of newer versions of the data, as Debian 13 has them */
        {"node/test_qlinearmatmul_2D_int8_", "its data wrapped around where the operator saturates"},
        {"node/test_qlinearmatmul_3D_int8_", "its data wrapped around where the operator saturates"},
        {"node/test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
         "its data counts what lies behind the padding, which the 2-d cases do not"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strncmp(test_case->name, faults[i].prefix, strlen(faults[i].prefix)) == 0)
            return faults[i].reason;
    return NULL;
}

static bool compare_all(const struct test_case *test_case, const struct runner *runner, void *model,
                        struct tensor *inputs, int input_count, struct tensor *expected, int expected_count,
                        struct error *error) {
    struct tensor actual[CASE_TENSORS] = {0};
    int count = runner->output_count(model);
    if (input_count != runner->input_count(model) || expected_count != count || count > CASE_TENSORS)
        return error_set(error, ERROR_INTERNAL, "%d inputs and %d outputs, the model has %d and %d",
                         input_count, expected_count, runner->input_count(model), count);
    for (int i = 0; i < input_count; i++)
        restore_bfloat16(runner->input_dtype(model, i), &inputs[i]);
    bool same = runner->run(model, inputs, input_count, actual, count, error);
    for (int i = 0; same && i < count; i++) {
        restore_bfloat16(actual[i].dtype, &expected[i]);
        same = compare(i, &actual[i], &expected[i], absolute_tolerance(test_case, &expected[i]), error);
    }
    tensors_free(actual, count);
    return same;
}

/* One data set: 1 where it agrees, 0 where not, -1 where there is none with that number. */
static int run_set(const struct test_case *test_case, const struct runner *runner, void *model, int set,
                   struct error *error) {
    struct tensor inputs[CASE_TENSORS] = {0}, expected[CASE_TENSORS] = {0};
    int input_count = read_tensors(test_case->path, set, "input", inputs, error);
    if (input_count < 0)
        return 0;
    int expected_count = read_tensors(test_case->path, set, "output", expected, error);
    int result = expected_count > 0 ? compare_all(test_case, runner, model, inputs, input_count, expected,
                                                  expected_count, error)
                                    : expected_count;
    tensors_free(inputs, input_count);
    tensors_free(expected, expected_count > 0 ? expected_count : 0);
    return expected_count == 0 ? -1 : expected_count < 0 ? 0 : result;
}

enum outcome case_run(const struct test_case *test_case, const struct runner *runner, struct error *error) {
    char *path = format_text("%s/%s%s", test_case->path, "model.onnx", "");
    void *model = runner->load(path, error);
    free(path);
    if (!model)
        return REFUSED;
    int set = 0, result = 1;
    while (result == 1)
        result = run_set(test_case, runner, model, set++, error);
    runner->unload(model);
    if (result == -1 && set > 1)
        return PASSED;
    if (result == -1)
        error_set(error, ERROR_INTERNAL, "no data");
    /* What depends on shapes and values of inputs is only seen when it runs: training, GridSample of volumes.
     */
    bool is_refused = strstr(error->message, "training mode is not supported") ||
                      strstr(error->message, "is not supported here: only running") ||
                      strstr(error->message, "is not supported, only images [n, c, h, w]");
    return is_refused ? REFUSED : FAILED;
}
