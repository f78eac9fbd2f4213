/* base/memory_budget: who is let in, who waits, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory_budget.h"

#define MB ((size_t)1 << 20)
#define WHOLE (64 * MB)

static struct memory_charge charge_for(enum memory_purpose purpose) {
    return (struct memory_charge){.purpose = purpose};
}

static void later_purposes_have_room_that_earlier_ones_cannot_take(void **state) {
    struct memory_charge body = charge_for(MEMORY_BODIES), fetched = charge_for(MEMORY_FETCHED);
    struct memory_charge tensors = charge_for(MEMORY_TENSORS), pixels = charge_for(MEMORY_PIXELS);
    struct error error = {0};

    assert_true(memory_charge_grow(&fetched, 24 * MB, &error));
    assert_false(memory_charge_try(&fetched, 1));
    assert_true(memory_charge_grow(&body, 8 * MB, &error));
    assert_false(memory_charge_grow(&body, 1, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_false(memory_charge_grow(&body, 33 * MB, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(error.message, "33.0 MB"));
    assert_true(memory_budget_allows(MEMORY_BODIES, 32 * MB) &&
                !memory_budget_allows(MEMORY_BODIES, 33 * MB));
    assert_non_null(strstr(error.message, "--memory-budget"));

    assert_true(memory_charge_grow(&tensors, 16 * MB, &error));
    assert_false(memory_charge_grow(&tensors, 1, &error));
    assert_true(memory_charge_grow(&pixels, 16 * MB, &error));
    assert_false(memory_charge_grow(&pixels, 1, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_int_equal(memory_budget_charged(MEMORY_FETCHED), 24 * MB);

    uint64_t never, now;
    memory_budget_refused(&never, &now);
    assert_int_equal(never, 1);
    assert_int_equal(now, 3);

    memory_charge_release(&body);
    memory_charge_release(&fetched);
    memory_charge_release(&tensors);
    memory_charge_release(&pixels);
    memory_charge_release(&pixels);
    assert_true(memory_charge_grow(&pixels, WHOLE, &error));
    assert_false(memory_charge_grow(&body, 1, &error));
    memory_charge_release(&pixels);
    assert_false(memory_charge_grow(&pixels, SIZE_MAX, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
}

static void what_cannot_be_refused_is_counted(void **state) {
    struct memory_charge reply = charge_for(MEMORY_REPLIES), body = charge_for(MEMORY_BODIES);
    struct error error = {0};

    memory_charge_set(&reply, 2 * WHOLE);
    assert_false(memory_budget_check(MEMORY_BODIES, 1, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    memory_charge_set(&reply, MB);
    assert_true(memory_charge_grow(&body, 32 * MB, &error));
    memory_charge_release(&body);
    memory_charge_release(&reply);
    assert_int_equal(memory_budget_charged(MEMORY_REPLIES), 0);
}

static bool is_never_wanted(void *context) {
    ++*(int *)context;
    return false;
}

static void waiting_ends_with_the_caller(void **state) {
    struct memory_charge first = charge_for(MEMORY_PIXELS), second = charge_for(MEMORY_PIXELS);
    struct error error = {0};
    int asked = 0;
    struct memory_wait short_wait = {.deadline_ns = clock_ns() + 30000000};
    struct memory_wait unwanted = {clock_ns() + 60000000000, is_never_wanted, &asked};

    assert_true(memory_charge_grow(&first, WHOLE, &error));
    assert_false(memory_charge_wait(&second, 1, &short_wait, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_true(clock_ns() >= short_wait.deadline_ns);
    assert_false(memory_charge_wait(&second, 1, &unwanted, &error));
    assert_int_equal(asked, 1);
    assert_false(memory_charge_wait(&second, WHOLE + 1, &unwanted, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    memory_charge_release(&first);
}

static void *decode(void *context) {
    atomic_int *refused = context;
    for (int i = 0; i < 200; i++) {
        struct memory_charge charge = charge_for(MEMORY_PIXELS);
        const struct memory_wait wait = {.deadline_ns = clock_ns() + 60000000000};
        struct error error;
        if (!memory_charge_wait(&charge, 30 * MB, &wait, &error))
            atomic_fetch_add(refused, 1);
        if (i % 8 == 0)
            usleep(200);
        memory_charge_release(&charge);
    }
    return NULL;
}

/* 2 of 6 fit at a time. */
static void threads_that_wait_are_all_let_in(void **state) {
    pthread_t threads[6];
    atomic_int refused = 0;
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, decode, &refused), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&refused), 0);
    assert_int_equal(memory_budget_charged(MEMORY_PIXELS), 0);
}

/* ---- The default ---- */

static void write_file(const char *root, const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = strchr(whole + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(whole, 0755);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void the_default_is_half_of_the_control_group(void **state) {
    char root[] = "/tmp/guichet-budget-XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    size_t without = memory_budget_default(root);
    assert_true(without > 0 && without <= 1024 * MB);

    write_file(root, "/proc/self/cgroup", "0::/kubepods/pod1\n");
    write_file(root, "/sys/fs/cgroup/kubepods/pod1/memory.max", "max\n");
    assert_int_equal(memory_budget_default(root), without);
    write_file(root, "/sys/fs/cgroup/kubepods/memory.max", "268435456\n");
    assert_int_equal(memory_budget_default(root), 128 * MB);
    write_file(root, "/sys/fs/cgroup/kubepods/pod1/memory.max", "134217728\n");
    assert_int_equal(memory_budget_default(root), 64 * MB);

    /* Version 1; the group's path is the host's, and only the root is seen in a container. */
    write_file(root, "/proc/self/cgroup", "12:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n");
    write_file(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "100663296\n");
    assert_int_equal(memory_budget_default(root), 48 * MB);
    write_file(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_budget_default(root), without);

    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* ---- Trees of JSON ---- */

/* `text` so often that it is some 300 kB, in an array. */
static void check_tree(const char *piece) {
    struct buffer text = {0};
    struct memory_charge charge = {0};
    struct error error = {0};
    buffer_append_string(&text, "[0");
    for (int i = 0; text.size < 300000; i++) {
        buffer_append(&text, ",", 1);
        for (const char *c = piece; *c; c++)
            *c == '#' ? buffer_append_number(&text, (uint64_t)i) : buffer_append(&text, c, 1);
    }
    buffer_append(&text, "]", 1);

    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    json_t *json = json_parse(text.bytes, text.size, NULL, &charge, &error);
    size_t taken = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    assert_non_null(json);
    print_message("# %s: %zu bytes, %zu taken, %zu charged\n", piece, text.size, taken, charge.bytes);
    if (mallinfo2().uordblks) /* not with a sanitizer's heap */
        assert_in_range(taken, 0, charge.bytes);
    json_release(json, &charge);
    buffer_release(&text);
}

static void trees_of_json_are_charged_before_they_are_made(void **state) {
    static const char *const pieces[] = {"[]",           "{}",
                                         "\"\"",         "0",
                                         "0.5",          "[[0]]",
                                         "{\"a\":{}}",   "{\"#\":[]}",
                                         "\"abcdefgh\"", "[{}]",
                                         "[[],[]]",      "{\"a\":\"\"}",
                                         "true",         "{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5}"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        check_tree(pieces[i]);

    struct memory_charge charge = {0};
    struct error error = {0};
    size_t size = 3 * MB;
    char *text = malloc(size);
    for (size_t i = 0; i < size; i++)
        text[i] = "{},"[i % 3];
    text[0] = '[';
    assert_null(json_parse(text, size, NULL, &charge, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    assert_int_equal(charge.bytes, 0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_purposes_have_room_that_earlier_ones_cannot_take),
        cmocka_unit_test(what_cannot_be_refused_is_counted),
        cmocka_unit_test(waiting_ends_with_the_caller),
        cmocka_unit_test(threads_that_wait_are_all_let_in),
        cmocka_unit_test(the_default_is_half_of_the_control_group),
        cmocka_unit_test(trees_of_json_are_charged_before_they_are_made),
    };
    memory_budget_start(WHOLE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
