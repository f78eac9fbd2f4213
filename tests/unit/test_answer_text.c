/* language/text: what may be told of an answer while it comes, in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/backend/language/text.h"

enum { STOPPED = 1 };

/* Feed `text` in pieces of `step` bytes; what is told stands in `ret`. Returns STOPPED at a stop string. */
static int tell(const char *text, size_t size, size_t step, char *const *stops, int count,
                struct buffer *ret) {
    struct answer_text answer = {.stops = stops, .stop_count = count};
    bool goes_on = true;

    for (size_t at = 0; goes_on && at < size; at += step)
        goes_on = answer_text_add(&answer, text + at, size - at < step ? size - at : step, ret);
    answer_text_end(&answer, ret);
    answer_text_release(&answer);
    return goes_on ? 0 : STOPPED;
}

static void check(const char *text, size_t size, const char *expected, int stopped, char *const *stops,
                  int count) {
    for (size_t step = 1; step <= size; step++) {
        struct buffer told = {0};
        assert_int_equal(tell(text, size, step, stops, count, &told), stopped);
        assert_string_equal(told.bytes ? told.bytes : "", expected);
        buffer_release(&told);
    }
}
#define CHECK(text, expected) check(text, sizeof text - 1, expected, 0, NULL, 0)

static void characters_are_told_whole(void **state) {
    struct answer_text answer = {0};
    struct buffer told = {0};
    static const char euro[] = "\xe2\x82\xac";

    for (int i = 0; i < 3; i++) {
        assert_int_equal(told.size, 0);
        assert_true(answer_text_add(&answer, euro + i, 1, &told));
    }
    assert_string_equal(told.bytes, euro);
    answer_text_release(&answer);
    buffer_release(&told);
}

static void what_is_no_text_is_replaced(void **state) {
    CHECK("caf\xc3\xa9", "caf\xc3\xa9");
    CHECK("\xf0\x9f\x90\x88!", "\xf0\x9f\x90\x88!");
    CHECK("a\xff"
          "b",
          "a\xef\xbf\xbd"
          "b");
    CHECK("a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd");
    CHECK("\xc3(", "\xef\xbf\xbd(");
    CHECK("\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd");                 /* overlong */
    CHECK("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
    CHECK("\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd");
}

static void stop_strings_end_the_text(void **state) {
    char stop[] = "STOP", bc[] = "bc", abcd[] = "abcd", aab[] = "aab";
    char *const one[] = {stop}, *const two[] = {bc, abcd}, *const own[] = {aab};

    check("say STOP it", 11, "say ", STOPPED, one, 1);
    check("say STO", 7, "say STO", 0, one, 1);
    check("STSTOP", 6, "ST", STOPPED, one, 1);
    check("aaab", 4, "a", STOPPED, own, 1);
    check("\xc3\xa9STOP", 6, "\xc3\xa9", STOPPED, one, 1);

    /* Where several come, the first that is complete counts. */
    struct buffer told = {0};
    assert_int_equal(tell("xabcd", 5, 1, two, 2, &told), STOPPED);
    assert_string_equal(told.bytes, "xa");
    buffer_release(&told);
}

static void check_thought(const char *text, enum thought_state state, const char *thoughts,
                          const char *answer) {
    for (size_t step = 1, size = strlen(text); step <= size; step++) {
        struct thought thought = {.state = state};
        struct buffer inner = {0}, outer = {0};
        for (size_t at = 0; at < size; at += step)
            thought_add(&thought, text + at, size - at < step ? size - at : step, &inner, &outer);
        thought_end(&thought, &inner, &outer);
        assert_string_equal(inner.bytes ? inner.bytes : "", thoughts);
        assert_string_equal(outer.bytes ? outer.bytes : "", answer);
        thought_release(&thought);
        buffer_release(&inner);
        buffer_release(&outer);
    }
}

static void thoughts_are_told_apart(void **state) {
    check_thought("<think>hm</think>\n\nyes", THOUGHT_MAY_COME, "hm", "yes");
    check_thought("\n <think>a < b</think>", THOUGHT_MAY_COME, "a < b", "");
    check_thought("hm</think> yes", THOUGHT_HERE, "hm", "yes");
    check_thought("<think>never ends</thin", THOUGHT_MAY_COME, "never ends</thin", "");
    check_thought("just <think>text</think>", THOUGHT_MAY_COME, "", "just <think>text</think>");
    check_thought("<thin", THOUGHT_MAY_COME, "", "<thin");
    check_thought("<think></think>a</think>b", THOUGHT_MAY_COME, "", "a</think>b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_told_whole),
        cmocka_unit_test(what_is_no_text_is_replaced),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(thoughts_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
