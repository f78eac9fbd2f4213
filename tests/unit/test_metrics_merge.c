/* metrics_merge.c: several processes' metrics as one text, counters kept over the ends of processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/supervisor/metrics_merge.h"

static const char cats[] = "cats", dogs[] = "dogs"; /* their addresses are the sources */

static void take(struct metrics_merge *merge, const char *source, const char *text) {
    static const char *const left_out[] = {"own_total", NULL};
    metrics_merge_read(merge, source, text, strlen(text), left_out);
}

static void assert_text(const struct metrics_merge *merge, const char *wanted) {
    struct buffer text = {0};
    assert_true(metrics_merge_write(merge, &text));
    assert_string_equal(text.bytes ? text.bytes : "", wanted);
    buffer_release(&text);
}

static void families_are_kept_together(void **state) {
    struct metrics_merge *merge = metrics_merge_create();
    take(merge, cats,
         "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 3\n# TYPE q gauge\nq{model=\"cats\"} 1\n");
    take(merge, dogs,
         "# HELP n Runs.\n# TYPE n counter\nn{model=\"dogs\"} 5\n# TYPE q gauge\nq{model=\"dogs\"} 0\n");
    take(merge, cats, "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 4\n");
    assert_text(merge, "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 4\nn{model=\"dogs\"} 5\n"
                       "# TYPE q gauge\nq{model=\"cats\"} 1\nq{model=\"dogs\"} 0\n");

    metrics_merge_forget(merge, cats);
    assert_text(
        merge,
        "# HELP n Runs.\n# TYPE n counter\nn{model=\"dogs\"} 5\n# TYPE q gauge\nq{model=\"dogs\"} 0\n");

    take(merge, dogs, "# TYPE n counter\nn{model=\"dogs\",x=\"1\"} 1\n");
    metrics_merge_forget(merge, dogs);
    assert_text(merge, "");
    metrics_merge_free(merge);
}

static void counters_never_go_backwards(void **state) {
    struct metrics_merge *merge = metrics_merge_create();
    const char *first =
        "# TYPE n counter\nn{model=\"cats\"} 7\n# TYPE q gauge\nq{model=\"cats\"} 2\n"
        "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
        "s_count{model=\"cats\"} 2\n";

    take(merge, cats, first);
    metrics_merge_close(merge, cats);
    const char *asleep =
        "# TYPE n counter\nn{model=\"cats\"} 7\n"
        "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
        "s_count{model=\"cats\"} 2\n";

    assert_text(merge, asleep);
    metrics_merge_close(merge, cats);
    assert_text(merge, asleep);

    take(merge, cats, "# TYPE n counter\nn{model=\"cats\"} 1\n# TYPE q gauge\nq{model=\"cats\"} 9\n");
    assert_text(merge,
                "# TYPE n counter\nn{model=\"cats\"} 8\n# TYPE q gauge\nq{model=\"cats\"} 9\n"
                "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
                "s_count{model=\"cats\"} 2\n");
    metrics_merge_free(merge);
}

static void what_is_no_sample_is_left_out(void **state) {
    struct metrics_merge *merge = metrics_merge_create();
    take(
        merge, cats,
        "before{x=\"1\"} 1\n# TYPE own_total counter\nown_total 1\n# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 3\n# TYPE guichet_build_info gauge\nguichet_build_info{version=\"1\"} 1\n"
        "# TYPE n counter\nn nonsense\nn\nother 1\nn{a=\"} 4\",b=\"\\\"\"} 5 1700000000\nn{a=\"open "
        "6\n\n#\n# TYPE\n"
        "# TYPE m gauge\nm NaN\nm{x=\"2\"} 2\nm{x=\"3\"} 3");
    assert_text(merge, "# TYPE n counter\nn{a=\"} 4\",b=\"\\\"\"} 5\n# TYPE m gauge\nm{x=\"2\"} 2\n");
    metrics_merge_free(merge);
    metrics_merge_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_kept_together),
        cmocka_unit_test(counters_never_go_backwards),
        cmocka_unit_test(what_is_no_sample_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
