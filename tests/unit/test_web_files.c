/* The page's files in the program: found by path, typed, tagged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/edge/web_files.h"

static void pages_and_their_parts_are_found_by_path(void **state) {
    const struct web_file *page = web_file_find("/");
    assert_non_null(page);
    assert_string_equal(page->content_type, "text/html; charset=utf-8");
    assert_memory_equal(page->bytes, "<!doctype html>", 15);
    assert_non_null(web_file_find("/docs"));
    assert_string_equal(web_file_find("/assets/style.css")->content_type, "text/css; charset=utf-8");
    assert_string_equal(web_file_find("/assets/app.js")->content_type, "text/javascript; charset=utf-8");
    assert_string_equal(web_file_find("/openapi.json")->content_type, "application/json");
    assert_string_equal(web_file_find("/assets/mark.svg")->content_type, "image/svg+xml");
}

static void each_tier_has_a_description(void **state) {
    const struct web_file *whole = web_file_find("/openapi.json"),
                          *gateway = web_file_find("gateway/openapi.json"),
                          *backend = web_file_find("backend/openapi.json");
    assert_true(whole && gateway && backend);
    assert_string_equal(backend->content_type, "application/json");
    assert_true(backend->size < gateway->size && gateway->size < whole->size);
    assert_non_null(memmem(whole->bytes, whole->size, "\"/session\"", 10));
    assert_null(memmem(gateway->bytes, gateway->size, "\"/session\"", 10));
}

static void other_paths_are_not_found(void **state) {
    const char *const paths[] = {"",   "/index.html",  "/assets/", "/assets/none.js", "/assets/../",
                                 "//", "assets/app.js"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_null(web_file_find(paths[i]));
}

static void tags_are_quoted_and_differ(void **state) {
    const char *first = web_file_find("/")->etag, *second = web_file_find("/docs")->etag;
    assert_int_equal(first[0], '"');
    assert_int_equal(first[strlen(first) - 1], '"');
    assert_string_not_equal(first, second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_and_their_parts_are_found_by_path),
        cmocka_unit_test(each_tier_has_a_description),
        cmocka_unit_test(other_paths_are_not_found),
        cmocka_unit_test(tags_are_quoted_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
