/* The table of endpoints and /openapi.json tell of the same paths and methods, at every tier. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <jansson.h>

#include "server/edge/endpoint.h"
#include "server/edge/web_files.h"

static const char *const descriptions[] = {"/openapi.json", "gateway/openapi.json", "backend/openapi.json"};
enum description { WHOLE, GATEWAY, BACKEND, DESCRIPTIONS };

/* `text` with one word of it replaced. */
static void replace(char text[128], const char *word, const char *by) {
    char *at = strstr(text, word);
    char rest[128];
    if (!at)
        return;
    strcpy(rest, at + strlen(word));
    snprintf(at, (size_t)(text + 128 - at), "%s%s", by, rest);
}

/* A path of the description as a pattern of the table. */
static void write_pattern(const char *path, char ret[128]) {
    snprintf(ret, 128, "%s", path);
    replace(ret, "{model}", "*");
    assert_null(strchr(ret, '{'));
}

/* A pattern of the table as somebody asks it. */
static void write_example(const char *pattern, char ret[128]) {
    snprintf(ret, 128, "%s", pattern);
    replace(ret, "*", "cats");
}

/* Pattern -> methods, which are in small letters. */
static json_t *read_paths(enum description tier) {
    const struct web_file *file = web_file_find(descriptions[tier]);
    assert_non_null(file);
    json_t *json = json_loadb((const char *)file->bytes, file->size, 0, NULL), *paths = json_object();
    assert_non_null(json);

    const char *path;
    json_t *methods;
    json_object_foreach(json_object_get(json, "paths"), path, methods) {
        char pattern[128];
        write_pattern(path, pattern);
        json_object_set(paths, pattern, methods);
    }
    json_decref(json);
    assert_true(json_object_size(paths) > 20);
    return paths;
}

/* Which rows a tier answers: see struct endpoint. The whole description is that of `serve`. */
static bool is_offered(const struct endpoint *row, enum description tier) {
    switch (tier) {
    case GATEWAY:
        return row->gateway || row->service;
    case BACKEND:
        return row->backend || row->service;
    default:
        return row->frontend || row->gateway || row->service;
    }
}

static enum http_method read_method(const char *lower) {
    static const char *const names[] = {
        [HTTP_GET] = "get",       [HTTP_HEAD] = "head",       [HTTP_POST] = "post",   [HTTP_PUT] = "put",
        [HTTP_DELETE] = "delete", [HTTP_OPTIONS] = "options", [HTTP_PATCH] = "patch",
    };
    for (int i = 0; i < HTTP_OTHER; i++)
        if (strcmp(names[i], lower) == 0)
            return (enum http_method)i;
    return HTTP_OTHER;
}

/* "GET" as the description writes it. */
static void write_method(const struct endpoint *row, char ret[16]) {
    size_t i = 0;
    for (; row->method[i] && i < 15; i++)
        ret[i] = (char)tolower(row->method[i]);
    ret[i] = 0;
}

static void every_row_is_described(void **state) {
    for (enum description tier = WHOLE; tier < DESCRIPTIONS; tier++) {
        json_t *paths = read_paths(tier);

        for (const struct endpoint *row = endpoints; row->pattern; row++) {
            char method[16];
            write_method(row, method);
            bool described = json_object_get(json_object_get(paths, row->pattern), method) != NULL;
            if (described != is_offered(row, tier))
                fail_msg("%s: %s %s is %s", descriptions[tier], row->method, row->pattern,
                         described ? "not offered there" : "missing");
        }
        json_decref(paths);
    }
}

static void every_description_is_answered(void **state) {
    json_t *paths = read_paths(WHOLE), *methods, *description;
    const char *pattern, *method;

    json_object_foreach(paths, pattern, methods) {
        char example[128];
        write_example(pattern, example);

        json_object_foreach(methods, method, description) {
            const struct endpoint *path_row;
            const char *name;
            size_t length;
            if (strcmp(method, "parameters") == 0)
                continue;

            bool file = strcmp(method, "get") == 0 && web_file_find(pattern);
            if (!file && !endpoint_find(example, read_method(method), &path_row, &name, &length))
                fail_msg("%s describes %s %s, which is no row of the table", descriptions[WHOLE], method,
                         pattern);
        }
    }
    json_decref(paths);
}

/* What the router and the list of methods take for granted. */
static void rows_of_one_pattern_stand_together(void **state) {
    for (const struct endpoint *row = endpoints; row->pattern; row++)
        for (const struct endpoint *other = row + 1; other->pattern; other++) {
            if (strcmp(row->pattern, other->pattern) != 0)
                continue;
            assert_string_not_equal(row->method, other->method);
            assert_string_equal(other[-1].pattern, row->pattern);
            assert_int_equal(row->errors, other->errors);
        }
}

static void patterns_are_found(void **state) {
    for (const struct endpoint *row = endpoints; row->pattern; row++) {
        const struct endpoint *path_row;
        char example[128], method[16];
        const char *name;
        size_t length;

        write_example(row->pattern, example);
        write_method(row, method);
        assert_ptr_equal(endpoint_find(example, read_method(method), &path_row, &name, &length), row);
        if (strchr(row->pattern, '*')) {
            assert_int_equal(length, 4);
            assert_memory_equal(name, "cats", 4);
        }
    }
}

/* Calls that change the service are for those who may manage it, and refused to pages from elsewhere. */
static void managing_changes_state(void **state) {
    for (const struct endpoint *row = endpoints; row->pattern; row++) {
        if (row->right == RIGHT_MANAGE)
            assert_true(row->changes_state);
        if (row->changes_state)
            assert_string_not_equal(row->method, "GET");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_described),
        cmocka_unit_test(every_description_is_answered),
        cmocka_unit_test(rows_of_one_pattern_stand_together),
        cmocka_unit_test(patterns_are_found),
        cmocka_unit_test(managing_changes_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
