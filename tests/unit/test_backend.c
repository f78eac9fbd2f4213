/* What the backend is made of, without sockets or a model: the queue, the worker pool, number arrays,
 * metrics. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/backend/batcher.h"
#include "server/edge/metrics.h"
#include "server/backend/protocol/json_numbers.h"
#include "base/workers.h"

/* ---- The queue ---- */

struct scene {
    atomic_int run, done, failed, timed_out, batches, largest, prepared;
    atomic_bool hold, fail_start;
    int run_us;
};

/* Its batches cannot be prepared. */
#define UNPREPARED 5

struct thing {
    struct batcher_item item;
    bool unwanted;
};

static bool scene_start(void *context, struct error *error) {
    struct scene *scene = context;
    return !scene->fail_start || error_set(error, ERROR_MODEL, "no model");
}

static bool scene_run(void *context, struct batcher_item **items, int count, struct error *error) {
    struct scene *scene = context;
    while (scene->hold)
        usleep(500);
    usleep((unsigned)scene->run_us);
    scene->batches++;
    scene->run += count;

    if (count > scene->largest)
        scene->largest = count;

    for (int i = 1; i < count; i++)
        assert_int_equal(items[i]->key, items[0]->key);
    return items[0]->key != 13 || error_set(error, ERROR_INTERNAL, "unlucky");
}

static bool scene_prepare(void *context, int key, int rows) {
    ((struct scene *)context)->prepared = rows;
    return key != UNPREPARED;
}

static bool scene_is_wanted(void *context, struct batcher_item *item) {
    return !((struct thing *)item)->unwanted;
}

static void scene_done(void *context, struct batcher_item *item, const struct error *error) {
    struct scene *scene = context;
    scene->timed_out += error && error->code == ERROR_TIMEOUT;
    scene->failed += error && error->code == ERROR_INTERNAL;
    scene->done++;
}

static struct batcher *begin(struct scene *scene, int max_batch, int max_wait_us, bool prepare) {
    struct error error;
    struct batcher_options options = {.max_batch = max_batch,
                                      .max_wait_us = max_wait_us,
                                      .start = scene_start,
                                      .run = scene_run,
                                      .prepare = prepare ? scene_prepare : NULL,
                                      .is_wanted = scene_is_wanted,
                                      .done = scene_done,
                                      .context = scene};

    struct batcher *batcher = batcher_create(&options, &error);
    assert_non_null(batcher);
    return batcher;
}

static void submit(struct batcher *batcher, struct thing *thing, int key) {
    thing->item.key = key;
    if (!thing->item.deadline_ns)
        thing->item.deadline_ns = clock_ns() + 60000000000;
    batcher_expect(batcher, 1);
    batcher_submit(batcher, &thing->item);
}

static void wait_done(struct scene *scene, int count) {
    for (int i = 0; i < 5000 && scene->done < count; i++)
        usleep(1000);
    assert_int_equal(scene->done, count);
}

static void test_batches(void **state) {
    struct scene scene = {.hold = true};
    struct error error;
    struct thing things[24] = {0};
    struct batcher *batcher = begin(&scene, 8, 0, false);

    assert_true(batcher_wait_started(batcher, &error));
    submit(batcher, &things[0], 1);
    while (batcher_length(batcher))
        usleep(100);

    for (int i = 1; i < 24; i++)
        submit(batcher, &things[i], i == 20 ? 13 : i >= 22 ? -1 : 1 + i % 2);
    scene.hold = false;
    wait_done(&scene, 24);

    assert_int_equal(scene.largest, 8);
    assert_int_equal(scene.failed, 1);
    assert_int_equal(things[22].item.batch, 1);
    assert_int_equal(things[23].item.batch, 1);
    assert_true(scene.batches < 14);

    batcher_free(batcher);
}

static void test_prepared(void **state) {
    struct scene scene = {.run_us = 1000};
    struct thing *things = calloc(400, sizeof *things);
    struct batcher *batcher = begin(&scene, 4, 0, true);

    for (int i = 0; i < 400; i++)
        submit(batcher, &things[i], 1);
    wait_done(&scene, 400);

    assert_int_equal(scene.prepared, 4);
    assert_int_equal(scene.largest, 4);

    batcher_free(batcher);
    free(things);
}

/* Things that wait behind the first one, which is held until they are all there. */
static void run_behind(struct batcher *batcher, struct scene *scene, struct thing *things, const int *rows,
                       int count) {
    struct thing first = {0};
    int done = scene->done;

    scene->hold = true;
    submit(batcher, &first, -1);
    while (batcher_length(batcher))
        usleep(100);

    for (int i = 0; i < count; i++) {
        things[i] = (struct thing){.item.rows = rows[i]};
        submit(batcher, &things[i], 1);
    }
    scene->hold = false;
    wait_done(scene, done + count + 1);
}

/* A batch has a power of two rows, not of things. */
static void test_rows(void **state) {
    struct scene scene = {0};
    struct thing things[6];
    struct batcher *batcher = begin(&scene, 8, 0, false);

    run_behind(batcher, &scene, things, (const int[]){2, 2, 3, 4}, 4); /* 8 = 2 + 2 + 4, or 2 + 2 first */
    assert_int_equal(things[0].item.batch, things[1].item.batch);
    assert_true(things[0].item.batch >= 2);

    run_behind(batcher, &scene, things, (const int[]){20, 1, 1}, 3);
    assert_int_equal(things[0].item.batch, 1);
    assert_int_equal(things[1].item.batch, 2);
    assert_int_equal(things[2].item.batch, 2);

    run_behind(batcher, &scene, things, (const int[]){3, 3, 3}, 3); /* no power of two */
    for (int i = 0; i < 3; i++)
        assert_int_equal(things[i].item.batch, 1);

    run_behind(batcher, &scene, things, (const int[]){3, 5, 1, 1}, 4);
    assert_int_equal(things[0].item.batch, 2);
    assert_int_equal(things[3].item.batch, 2);

    batcher_free(batcher);
}

/* Of a kind that cannot be run together each runs alone, and other kinds are prepared all the same. */
static void test_prepared_by_kind(void **state) {
    struct scene scene = {.run_us = 500};
    struct thing *things = calloc(400, sizeof *things);
    struct batcher *batcher = begin(&scene, 4, 0, true);

    for (int i = 0; i < 400; i++)
        submit(batcher, &things[i], i % 2 ? UNPREPARED : 2);
    wait_done(&scene, 400);

    int largest = 0;
    for (int i = 0; i < 400; i++) {
        if (i % 2)
            assert_int_equal(things[i].item.batch, 1);
        largest = things[i].item.batch > largest ? things[i].item.batch : largest;
    }
    assert_int_equal(largest, 4);

    batcher_free(batcher);
    free(things);
}

static void test_lone(void **state) {
    struct scene scene = {0};
    struct thing thing = {0}, late = {0};
    struct batcher *batcher = begin(&scene, 8, 5000000, false);
    int64_t start = clock_ns();
    submit(batcher, &thing, 1);
    wait_done(&scene, 1);
    assert_true(clock_ns() - start < 2000000000);

    batcher_expect(batcher, 1); /* a request is announced, and then does not come */
    submit(batcher, &late, 1);
    usleep(50000);
    assert_int_equal(scene.done, 1);

    batcher_expect(batcher, -1);
    wait_done(&scene, 2);
    assert_true(clock_ns() - start < 4000000000);
    batcher_free(batcher);
}

static void test_expired(void **state) {
    struct scene scene = {.hold = true};
    struct thing things[4] = {0};
    struct batcher *batcher = begin(&scene, 8, 0, false);

    submit(batcher, &things[0], 1);
    while (batcher_length(batcher))
        usleep(100);

    things[1].item.deadline_ns = clock_ns() + 10000000;
    things[2].unwanted = true;
    for (int i = 1; i < 4; i++)
        submit(batcher, &things[i], 1);

    usleep(20000);
    scene.hold = false;
    wait_done(&scene, 4);

    assert_int_equal(scene.timed_out, 2);
    assert_int_equal(scene.run, 2);

    batcher_free(batcher);
}

static void test_start_failure(void **state) {
    struct scene scene = {.fail_start = true};
    struct error error = {0};
    struct batcher *batcher = begin(&scene, 8, 0, true);
    assert_false(batcher_wait_started(batcher, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    batcher_free(batcher);
}

/* ---- Workers ---- */

static atomic_int worked;

static bool start_without_something(void *context, struct error *error) {
    error_set(error, ERROR_NOT_FOUND, "an optional file is missing");
    return true;
}

static void test_start_with_an_error_that_did_not_matter(void **state) {
    struct error error = {0};
    struct batcher_options options = {.start = start_without_something};
    struct batcher *batcher = batcher_create(&options, &error);

    assert_non_null(batcher);
    assert_true(batcher_wait_started(batcher, &error));
    batcher_free(batcher);
}

static void work_once(struct work *work) {
    worked++;
}

static void test_workers(void **state) {
    struct error error;
    struct work works[200];
    struct workers *workers = workers_create(4, "test", &error);

    for (int i = 0; i < 200; i++) {
        works[i].run = work_once;
        workers_submit(workers, &works[i]);
    }

    workers_free(workers);
    assert_int_equal(worked, 200);
}

/* ---- Numbers ---- */

static bool read_f32(const char *text, float *values, size_t capacity, size_t *count, int64_t *dims,
                     int *rank) {
    struct error error;
    struct numbers_span span = {text, strlen(text)};
    return numbers_read_f32(&span, values, capacity, count, dims, rank, &error);
}

static void test_numbers(void **state) {
    float values[64];
    int64_t dims[LIMIT_TENSOR_RANK];
    size_t count;
    int rank;

    assert_true(read_f32("[[1, -2.5e-3,3E+2] ,[true,false,\n0.1]]", values, 64, &count, dims, &rank));
    assert_int_equal(rank, 2);
    assert_int_equal(dims[0], 2);
    assert_int_equal(dims[1], 3);
    assert_true(values[1] == -2.5e-3f && values[2] == 300 && values[3] == 1 && values[5] == 0.1f);

    static const char *const numbers[] = {"3.4028234663852886e38",
                                          "1.401298464324817e-45",
                                          "123456789012345678901234567890",
                                          "0.30000000000000004",
                                          "1e-400",
                                          "9007199254740993",
                                          "-0"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[64] = "[";
        strcat(strcat(text, numbers[i]), "]");
        double value;
        struct error error;
        struct numbers_span span = {text, strlen(text)};

        assert_true(numbers_read_f64(&span, &value, 1, &count, dims, &rank, &error));
        assert_true(value == strtod(numbers[i], NULL));
    }

    static const char *const bad[] = {
        "",        "[",    "[]",   "[1",   "[1,]", "[,1]", "[1 2]", "[[1],[1,2]]", "[[1],2]",
        "[1,[2]]", "[1]]", "[1.]", "[.5]", "[1e]", "[-]",  "[nan]", "[\"1\"]",     "[[[[[[[[[1]]]]]]]]]",
        "1",       "[[]]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(read_f32(bad[i], values, 64, &count, dims, &rank));

    assert_false(read_f32("[1,2,3]", values, 2, &count, dims, &rank));
}

static void test_extract(void **state) {
    const char json[] = "{\"a\": \"\\\"data\\\": [1]\", \"data\" : [1,2], \"b\": {\"data\": [\"x\"]}, \"c\": "
                        "{\"data\":[[3]]}, \"data\"";
    struct buffer rest = {0};
    struct numbers_span spans[NUMBERS_SPANS];
    struct error error;
    int count;

    assert_true(numbers_extract(json, strlen(json), "data", &rest, spans, &count, &error));
    assert_int_equal(count, 2);
    assert_string_equal(rest.bytes, "{\"a\": \"\\\"data\\\": [1]\", \"data\" : [0], \"b\": {\"data\": "
                                    "[\"x\"]}, \"c\": {\"data\":[1]}, \"data\"");
    assert_memory_equal(spans[1].text, "[[3]]", spans[1].size);
    buffer_release(&rest);

    const char any[] = "{\"x\": [4], \"y\": [{\"z\":[5,6]}, [7]], \"w\": [\"a\"]}";
    assert_true(numbers_extract(any, strlen(any), NULL, &rest, spans, &count, &error));
    assert_string_equal(rest.bytes, "{\"x\": [0], \"y\": [{\"z\":[1]}, [7]], \"w\": [\"a\"]}");
    buffer_release(&rest);
}

/* ---- Metrics ---- */

static void test_metrics(void **state) {
    struct metrics *metrics = metrics_create();
    char labels[64] = "";

    metrics_label(labels, sizeof labels, "model", "a\"b\\c\nd");
    struct metric *counter = metrics_get(metrics, METRIC_COUNTER, "requests_total", "Requests.", labels);
    metric_add(counter, 2);
    metric_add(metrics_get(metrics, METRIC_COUNTER, "requests_total", "Requests.", labels), 1);

    struct metric *seconds = metrics_get(metrics, METRIC_SECONDS, "time_seconds", "Time.", "");
    metric_observe(seconds, 0.002);
    metric_observe(seconds, 100);
    metric_add(NULL, 1);

    struct buffer text = {0};
    assert_true(metrics_write(metrics, &text));
    assert_non_null(
        strstr(text.bytes, "# TYPE requests_total counter\nrequests_total{model=\"a\\\"b\\\\c\\nd\"} 3\n"));
    assert_non_null(strstr(text.bytes, "time_seconds_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(text.bytes, "time_seconds_bucket{le=\"0.0025\"} 1\n"));
    assert_non_null(strstr(text.bytes, "time_seconds_bucket{le=\"+Inf\"} 2\n"));
    assert_non_null(strstr(text.bytes, "time_seconds_count 2\n"));

    metrics_write_process(&text);
    assert_non_null(strstr(text.bytes, "process_resident_memory_bytes "));

    buffer_release(&text);
    metrics_free(metrics);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),       cmocka_unit_test(test_prepared),
        cmocka_unit_test(test_rows),          cmocka_unit_test(test_prepared_by_kind),
        cmocka_unit_test(test_lone),          cmocka_unit_test(test_expired),
        cmocka_unit_test(test_start_failure), cmocka_unit_test(test_start_with_an_error_that_did_not_matter),
        cmocka_unit_test(test_workers),       cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_extract),       cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
