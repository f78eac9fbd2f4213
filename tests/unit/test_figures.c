/* serve/figures: several processes' metrics as one text, counters kept over the ends of processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "serve/figures.h"

static const char cats[] = "cats", dogs[] = "dogs"; /* their addresses are the sources */

static void take(struct figures *figures, const char *source, const char *text) {
    static const char *const left_out[] = {"own_total", NULL};
    figures_take(figures, source, text, strlen(text), left_out);
}

static void assert_text(const struct figures *figures, const char *wanted) {
    struct buffer text = {0};
    assert_true(figures_write(figures, &text));
    assert_string_equal(text.bytes ? text.bytes : "", wanted);
    buffer_release(&text);
}

static void families_are_kept_together(void **state) {
    struct figures *figures = figures_create();
    take(figures, cats,
         "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 3\n# TYPE q gauge\nq{model=\"cats\"} 1\n");
    take(figures, dogs,
         "# HELP n Runs.\n# TYPE n counter\nn{model=\"dogs\"} 5\n# TYPE q gauge\nq{model=\"dogs\"} 0\n");
    take(figures, cats, "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 4\n");
    assert_text(figures, "# HELP n Runs.\n# TYPE n counter\nn{model=\"cats\"} 4\nn{model=\"dogs\"} 5\n"
                         "# TYPE q gauge\nq{model=\"cats\"} 1\nq{model=\"dogs\"} 0\n");
    figures_forget(figures, cats);
    assert_text(
        figures,
        "# HELP n Runs.\n# TYPE n counter\nn{model=\"dogs\"} 5\n# TYPE q gauge\nq{model=\"dogs\"} 0\n");
    take(figures, dogs, "# TYPE n counter\nn{model=\"dogs\",x=\"1\"} 1\n");
    figures_forget(figures, dogs);
    assert_text(figures, "");
    figures_free(figures);
}

static void counters_never_go_backwards(void **state) {
    struct figures *figures = figures_create();
    const char *first =
        "# TYPE n counter\nn{model=\"cats\"} 7\n# TYPE q gauge\nq{model=\"cats\"} 2\n"
        "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
        "s_count{model=\"cats\"} 2\n";
    take(figures, cats, first);
    figures_close(figures, cats);
    const char *asleep =
        "# TYPE n counter\nn{model=\"cats\"} 7\n"
        "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
        "s_count{model=\"cats\"} 2\n";
    assert_text(figures, asleep);
    figures_close(figures, cats);
    assert_text(figures, asleep);
    take(figures, cats, "# TYPE n counter\nn{model=\"cats\"} 1\n# TYPE q gauge\nq{model=\"cats\"} 9\n");
    assert_text(figures,
                "# TYPE n counter\nn{model=\"cats\"} 8\n# TYPE q gauge\nq{model=\"cats\"} 9\n"
                "# TYPE s histogram\ns_bucket{model=\"cats\",le=\"+Inf\"} 2\ns_sum{model=\"cats\"} 0.5\n"
                "s_count{model=\"cats\"} 2\n");
    figures_free(figures);
}

static void what_is_no_sample_is_left_out(void **state) {
    struct figures *figures = figures_create();
    take(
        figures, cats,
        "before{x=\"1\"} 1\n# TYPE own_total counter\nown_total 1\n# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 3\n# TYPE guichet_build_info gauge\nguichet_build_info{version=\"1\"} 1\n"
        "# TYPE n counter\nn nonsense\nn\nother 1\nn{a=\"} 4\",b=\"\\\"\"} 5 1700000000\nn{a=\"open "
        "6\n\n#\n# TYPE\n"
        "# TYPE m gauge\nm NaN\nm{x=\"2\"} 2\nm{x=\"3\"} 3");
    assert_text(figures, "# TYPE n counter\nn{a=\"} 4\",b=\"\\\"\"} 5\n# TYPE m gauge\nm{x=\"2\"} 2\n");
    figures_free(figures);
    figures_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_kept_together),
        cmocka_unit_test(counters_never_go_backwards),
        cmocka_unit_test(what_is_no_sample_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
