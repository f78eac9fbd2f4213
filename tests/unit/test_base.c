/* base/: arenas, buffers, errors, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

static void arena_memory_is_zeroed_and_aligned(void **state) {
    struct arena *arena = arena_create();
    for (size_t size = 1; size < 200000; size = size * 3 + 1) {
        unsigned char *bytes = arena_allocate(arena, size);
        assert_int_equal((uintptr_t)bytes % (size >= 64 ? 64 : 16), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(bytes[i], 0);
        memset(bytes, 0xff, size);
    }

    assert_string_equal(arena_printf(arena, "%d-%s", 7, "x"), "7-x");
    assert_null(arena_allocate_array(arena, SIZE_MAX / 2, 3));
    arena_free(arena);
    arena_free(NULL);
}

static void buffer_stops_at_its_limit(void **state) {
    struct buffer buffer = {.limit = 10};
    assert_true(buffer_append_string(&buffer, "12345"));
    assert_true(buffer_printf(&buffer, "%d", 67890));
    assert_string_equal(buffer.bytes, "1234567890");

    assert_false(buffer_append_string(&buffer, "x"));
    assert_true(buffer.failed);
    assert_int_equal(buffer.size, 10);
    buffer_release(&buffer);
}

static void buffers_and_arrays_take_text(void **state) {
    struct buffer buffer = {0};
    char word[5];

    assert_true(buffer_append_number(&buffer, 0));
    assert_true(buffer_append_number(&buffer, UINT64_MAX));
    memcpy(buffer_extend(&buffer, 3), "end", 3);
    assert_string_equal(buffer.bytes, "018446744073709551615end");
    buffer_release(&buffer);

    text_copy(word, sizeof word, "word");
    assert_string_equal(word, "word");
    text_copy(word, sizeof word, "longer");
    assert_string_equal(word, "long");
}

static void error_lines_are_prefixed_and_bounded(void **state) {
    struct error error = {0};
    assert_false(error_set(&error, ERROR_TOO_LARGE, "%d bytes", 12));
    assert_false(error_prefix(&error, "photo %s", "a.jpg"));
    assert_string_equal(error.message, "photo a.jpg: 12 bytes");
    assert_int_equal(error_http_status(error.code), 413);

    char *lengthy = malloc(5000);
    memset(lengthy, 'a', 4999);
    lengthy[4999] = 0;

    error_set(&error, ERROR_INVALID, "%s", lengthy);
    error_prefix(&error, "%s", lengthy);
    assert_true(strlen(error.message) < sizeof error.message);
    free(lengthy);
}

static void sizes_that_overflow_are_noticed(void **state) {
    size_t result = 5;
    assert_false(size_multiply(SIZE_MAX, 2, &result));
    assert_false(size_add(SIZE_MAX, 1, &result));
    assert_int_equal(result, 5);

    assert_true(range_fits(3, 4, 7));
    assert_false(range_fits(4, 4, 7));
    assert_false(range_fits(UINT64_MAX, 2, 7));
}

static void files_are_written_whole_and_read_within_limits(void **state) {
    char folder[] = "/tmp/guichet-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);

    struct error error = {0};
    assert_true(file_write(path, "hello", 5, &error));
    assert_true(file_write(path, "hello again", 11, &error));

    size_t size;
    char *text = file_read(path, 100, &size, &error);
    assert_string_equal(text, "hello again");
    free(text);
    assert_null(file_read(path, 10, &size, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);

    struct file_map map;
    assert_true(file_map_open(path, 100, &map, &error));
    assert_memory_equal(map.bytes, "hello again", 11);
    file_map_close(&map);

    assert_false(file_map_open(folder, 100, &map, &error));
    assert_false(file_write("/nonexistent/folder/file", "x", 1, &error));

    unlink(path);
    assert_null(file_read(path, 100, &size, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    rmdir(folder);
}

static void digests_are_those_of_the_standard(void **state) {
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    };
    char path[] = "/tmp/guichet-test-XXXXXX", text[SHA256_TEXT_BYTES];
    struct error error;
    int file = mkstemp(path);
    assert_true(file >= 0);

    struct sha256 *digest = sha256_create(&error);
    assert_non_null(digest);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(sha256_reset(digest, &error));
        assert_true(sha256_add(digest, cases[i].text, strlen(cases[i].text), &error));
        assert_true(sha256_finish(digest, text, &error));
        assert_string_equal(text, cases[i].digest);
        assert_true(file_write(path, cases[i].text, strlen(cases[i].text), &error));
        assert_true(sha256_file(path, text, &error));
        assert_string_equal(text, cases[i].digest);
    }

    assert_int_equal(pwrite(file, "abcdef", 6, 0), 6);
    assert_true(sha256_reset(digest, &error));
    assert_true(sha256_add_file(digest, file, 3, path, &error)); /* the first bytes alone */
    assert_true(sha256_finish(digest, text, &error));
    assert_string_equal(text, cases[1].digest);
    assert_true(sha256_reset(digest, &error));
    assert_false(sha256_add_file(digest, file, 7, path, &error)); /* shorter than that */
    assert_int_equal(error.code, ERROR_IO);

    sha256_free(digest);
    close(file);
    unlink(path);
    assert_false(sha256_file(path, text, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);

    assert_true(sha256_text_is_valid("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    assert_false(sha256_text_is_valid("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a"));
    assert_false(sha256_text_is_valid("ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

/* What is kept stays, at its address, when the file is cut and written anew; the rest reads as zeros. */
static void detached_map_keeps_what_it_is_told(void **state) {
    char path[] = "/tmp/guichet-detach-XXXXXX";
    const size_t size = (9u << 20) + 123;
    struct error error;
    unsigned char *bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(1 + i % 251);
    close(mkstemp(path));
    assert_true(file_write(path, bytes, size, &error));

    struct file_map map;
    assert_true(file_map_open(path, size, &map, &error));
    struct file_range kept[] = {{size - 1, size}, {100000, 6u << 20}, {5000, 5001}, {200000, 300000}};
    assert_true(file_map_detach(&map, kept, sizeof kept / sizeof kept[0]));
    assert_int_equal(truncate(path, 0), 0);

    assert_int_equal(map.bytes[5000], bytes[5000]);
    assert_memory_equal(map.bytes + 100000, bytes + 100000, (6u << 20) - 100000);
    assert_int_equal(map.bytes[size - 1], bytes[size - 1]);
    assert_int_equal(map.bytes[20000], 0);
    assert_int_equal(map.bytes[7u << 20], 0);

    file_map_close(&map);
    unlink(path);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detached_map_keeps_what_it_is_told),
        cmocka_unit_test(arena_memory_is_zeroed_and_aligned),
        cmocka_unit_test(buffer_stops_at_its_limit),
        cmocka_unit_test(buffers_and_arrays_take_text),
        cmocka_unit_test(error_lines_are_prefixed_and_bounded),
        cmocka_unit_test(sizes_that_overflow_are_noticed),
        cmocka_unit_test(files_are_written_whole_and_read_within_limits),
        cmocka_unit_test(digests_are_those_of_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
