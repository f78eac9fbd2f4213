/* Streams of events that break off: where they stand, and what is sent to end them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/edge/event_stream.h"

#define HOUSE "event: error\ndata: {\"error\":\"gone\"}\n\n"

/* What ends `text`, which is fed in pieces of `step` bytes. */
static char *end_of(const char *text, enum error_form form, size_t step) {
    const struct error error = {ERROR_UPSTREAM, "gone"};
    struct event_stream stream = {0};
    struct buffer end = {0};

    for (size_t at = 0, length = strlen(text); at < length; at += step)
        event_stream_feed(&stream, text + at, length - at < step ? length - at : step);
    event_stream_write_error(&stream, form, &error, &end);
    return end.bytes;
}

static void check(const char *text, const char *expected) {
    for (size_t step = 1; step < 40; step++) {
        char *end = end_of(text, ERRORS_HOUSE, step);
        assert_string_equal(end ? end : "", expected);
        free(end);
    }
}

static void an_error_event_follows_whole_events(void **state) {
    check("", HOUSE);
    check("data: 1\n\n", HOUSE);
    check("data: 1\r\n\r\n", HOUSE);
    check("data: 1\n\ndata: 2\n\n", HOUSE);
    check(": a comment\n\n\n", HOUSE);
}

static void an_open_event_is_ended_first(void **state) {
    check("data: 1\n\ndata: {\"n", "\n\n" HOUSE);
    check("data: 1\n\ndata: 2\n", "\n" HOUSE);
    check("data: 1\r\n", "\n" HOUSE);
    check("d", "\n\n" HOUSE);
    check("data: {\"error\":\"half of", "\n\n" HOUSE);
}

static void an_error_event_is_not_repeated(void **state) {
    check("data: 1\n\n" HOUSE, "");
    check("event: error\r\ndata: 1\r\n\r\n", "");
    check("data: {\"error\":{\"message\":\"m\"}}\n\n", "");
    check(HOUSE "data: 1\n\n", HOUSE);
}

static void the_form_is_the_path_s(void **state) {
    char *end = end_of("data: 1\n\n", ERRORS_OPENAI, 3);
    assert_memory_equal(end, "data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\"", 50);
    assert_string_equal(end + strlen(end) - 3, "}\n\n");
    free(end);
}

static void the_content_type_announces_it(void **state) {
    const struct http_header headers[] = {{"X-Other", "text/event-stream"},
                                          {"content-type", "Text/Event-Stream; charset=utf-8"}};
    assert_true(event_stream_is_announced(headers, 2));
    assert_false(event_stream_is_announced(headers, 1));
}

static void comments_are_kept(void **state) {
    static const char text[] = "data: 1\n\n: tokens 12 3\n\ndata: [DONE]\n\n";
    struct event_stream stream = {0};
    event_stream_feed(&stream, text, sizeof text - 1);
    assert_string_equal(stream.comment, ": tokens 12 3\n");

    char longer[200] = {':'};
    memset(longer + 1, 'x', 150);
    strcpy(longer + 151, "\n\n");
    event_stream_feed(&stream, longer, strlen(longer));
    assert_int_equal(strlen(stream.comment), sizeof stream.comment - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comments_are_kept),
        cmocka_unit_test(an_error_event_follows_whole_events),
        cmocka_unit_test(an_open_event_is_ended_first),
        cmocka_unit_test(an_error_event_is_not_repeated),
        cmocka_unit_test(the_form_is_the_path_s),
        cmocka_unit_test(the_content_type_announces_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
