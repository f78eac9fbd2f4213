/* ONNX's operator tests as TAP, a line a case: conformance reference|engine [LEAST-PASSED [PATTERN]]. Cases
 * whose operators we do not claim are refused when the model is loaded, by name; that counts as ok, and is
 * told apart in the last line. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define DATA "/usr/share/libonnx-testdata/data"

int main(int argc, char **argv) {
    const char *root = getenv("ONNX_TESTDATA") ? getenv("ONNX_TESTDATA") : DATA;
    bool reference = argc > 1 && strcmp(argv[1], "reference") == 0;
    int least = argc > 2 ? atoi(argv[2]) : 0, count, counts[4] = {0};
    const char *pattern = argc > 3 ? argv[3] : "*";
    struct test_case *cases = cases_find(root, &count);
    if (!count) {
        printf("1..0 # SKIP no ONNX test data in %s (Debian: libonnx-testdata)\n", root);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (fnmatch(pattern, cases[i].name, 0) != 0)
            continue;
        if (case_fault(&cases[i])) {
            counts[SKIPPED]++;
            printf("ok %d - %s # SKIP %s\n", i + 1, cases[i].name, case_fault(&cases[i]));
            continue;
        }
        struct error error = {0};
        enum outcome outcome = case_run(&cases[i], reference ? &reference_runner : &engine_runner, &error);
        /* Only what is plainly not supported may be refused. */
        if (outcome == REFUSED && !strstr(error.message, "supported"))
            outcome = FAILED;
        counts[outcome]++;
        printf("%s %d - %s%s%s\n", outcome == FAILED ? "not ok" : "ok", i + 1, cases[i].name,
               outcome == REFUSED ? ": refused: " : "", outcome == REFUSED ? error.message : "");
        if (outcome == FAILED)
            printf("# %s\n", error.message);
        fflush(stdout);
    }
    bool enough = counts[PASSED] >= least;
    printf("%s %d - at least %d cases pass\n", enough ? "ok" : "not ok", count + 1, least);
    printf("1..%d\n# %d passed, %d refused, %d failed, %d skipped of %d\n", count + 1, counts[PASSED],
           counts[REFUSED], counts[FAILED], counts[SKIPPED], count);
    cases_free(cases, count);
    return counts[FAILED] || !enough;
}
