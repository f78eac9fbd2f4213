/* session.c: signed cookies and their keys. */
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
#include <sodium.h>

#include "base/file.h"
#include "server/edge/session.h"

#define NOW 1800000000
#define KEY_A "an-old-key-of-more-than-32-characters"

static void a_session_comes_back_as_it_was_signed(void **state) {
    struct session_keys keys;
    session_keys_random(&keys);
    struct session session, back;

    session_start(&session, NOW);
    assert_string_equal(session.model, "");
    char cookie[SESSION_COOKIE_BYTES];
    session_sign(&session, &keys, cookie);
    assert_true(session_open(cookie, strlen(cookie), &keys, NOW + 5, &back));
    assert_string_equal(back.id, session.id);
    assert_string_equal(back.model, "");

    memset(session.model, 'm', sizeof session.model - 1);
    session.model[MODEL_NAME_PART] = ':';
    session_sign(&session, &keys, cookie);
    assert_true(strlen(cookie) < SESSION_COOKIE_BYTES - 1);
    assert_true(session_open(cookie, strlen(cookie), &keys, NOW, &back));
    assert_string_equal(back.model, session.model);
}

static void any_changed_byte_is_noticed(void **state) {
    struct session_keys keys, others;
    session_keys_random(&keys);
    session_keys_random(&others);
    struct session session, back;
    session_start(&session, NOW);

    strcpy(session.model, "resnet152");
    char cookie[SESSION_COOKIE_BYTES], changed[SESSION_COOKIE_BYTES];
    session_sign(&session, &keys, cookie);
    size_t length = strlen(cookie);

    assert_false(session_open(cookie, length, &others, NOW, &back));
    for (size_t i = 0; i < length; i++) {
        memcpy(changed, cookie, length + 1);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        assert_false(session_open(changed, length, &keys, NOW, &back));
        assert_false(session_open(cookie, i, &keys, NOW, &back));
    }

    const char *foreign[] = {"", "x", "....", "AAAA", "!!!!", "a b", "%00", cookie + 1};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_false(session_open(foreign[i], strlen(foreign[i]), &keys, NOW, &back));

    char *lengthy = malloc(100000);
    memset(lengthy, 'A', 100000);
    assert_false(session_open(lengthy, 100000, &keys, NOW, &back));
    assert_false(session_open(lengthy, SESSION_COOKIE_BYTES - 1, &keys, NOW, &back));
    free(lengthy);
}

static void stale_sessions_and_those_of_the_future_are_refused(void **state) {
    struct session_keys keys;
    session_keys_random(&keys);
    struct session session, back;
    session_start(&session, NOW);
    char cookie[SESSION_COOKIE_BYTES];
    session_sign(&session, &keys, cookie);

    assert_true(session_open(cookie, strlen(cookie), &keys, NOW + SESSION_SECONDS, &back));
    assert_false(session_open(cookie, strlen(cookie), &keys, NOW + SESSION_SECONDS + 1, &back));
    assert_false(session_open(cookie, strlen(cookie), &keys, NOW - 7200, &back));
}

static void keys_rotate(void **state) {
    struct error error = {0};
    struct session_keys old, both, renewed;
    assert_true(session_keys_parse(KEY_A, "test", &old, &error));
    assert_false(session_keys_parse("short", "test", &renewed, &error));
    assert_non_null(strstr(error.message, "test: "));
    assert_false(session_keys_parse(" \n ", "test", &renewed, &error));

    char text[200];
    snprintf(text, sizeof text, "%s\n", "the-new-key-of-more-than-32-characters-too");
    assert_true(session_keys_parse(text, "test", &renewed, &error));
    snprintf(text, sizeof text, "the-new-key-of-more-than-32-characters-too,%s\n",
             "an-old-key-of-more-than-32-characters");
    assert_true(session_keys_parse("an-old-key-of-more-than-32-characters", "test", &old, &error));
    assert_true(session_keys_parse(text, "test", &both, &error));
    assert_int_equal(both.count, 2);

    struct session session, back;
    session_start(&session, NOW);
    char cookie[SESSION_COOKIE_BYTES];
    session_sign(&session, &old, cookie);
    assert_true(session_open(cookie, strlen(cookie), &both, NOW, &back));
    session_sign(&session, &both, cookie);
    assert_true(session_open(cookie, strlen(cookie), &renewed, NOW, &back));
    assert_false(session_open(cookie, strlen(cookie), &old, NOW, &back));
}

static void a_key_file_that_others_can_read_is_refused(void **state) {
    char path[] = "/tmp/guichet-test-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "an-old-key-of-more-than-32-characters\n", 38), 38);
    close(fd);

    struct session_keys keys;
    struct error error = {0};

    assert_true(session_keys_read(path, &keys, &error));
    for (mode_t mode = 0; mode < 0100; mode++) {
        chmod(path, 0600 | mode);
        assert_int_equal(session_keys_read(path, &keys, &error), mode == 0);
    }
    assert_non_null(strstr(error.message, path));
    assert_null(strchr(error.message, '\n'));

    unlink(path);
    assert_false(session_keys_read(path, &keys, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

int main(void) {
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_comes_back_as_it_was_signed),
        cmocka_unit_test(any_changed_byte_is_noticed),
        cmocka_unit_test(stale_sessions_and_those_of_the_future_are_refused),
        cmocka_unit_test(keys_rotate),
        cmocka_unit_test(a_key_file_that_others_can_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
