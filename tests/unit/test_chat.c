/* Chat templates: whose bytes are whose, limits, errors with their line, several threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/limits.h"
#include "chat/template.h"

static bool render(const char *text, const char *conversation, struct chat_prompt *ret, struct error *error) {
    struct chat_template *chat = chat_template_create(text, strlen(text), error);
    json_t *json = json_loads(conversation, 0, NULL), *tokens = json_pack("{s:s}", "bos_token", "<s>");
    const struct chat_variables variables = {.conversation = json, .tokens = tokens, .today = {.tm_mday = 1}};

    bool done = chat && chat_template_render(chat, &variables, ret, error);
    json_decref(json);
    json_decref(tokens);
    chat_template_free(chat);
    return done;
}

/* The prompt with what is the conversation's in brackets. */
static void expect_marked(const char *text, const char *wanted) {
    struct error error = {0};
    struct chat_prompt prompt;
    char marked[1024] = "";
    size_t start = 0;
    if (!render(text,
                "{\"u\": \"Xyz\", \"n\": 42, \"l\": [\"p\", \"q\"], \"d\": {\"k\": \"v\\\"\"}, "
                "\"bos_token\": \"no\"}",
                &prompt, &error))
        fail_msg("%s: %s", text, error.message);

    for (size_t i = 0; i < prompt.segment_count; i++) {
        const struct chat_segment *segment = &prompt.segments[i];
        strcat(marked, segment->from_conversation ? "[" : "");
        strncat(marked, prompt.text + start, segment->end - start);
        strcat(marked, segment->from_conversation ? "]" : "");
        start = segment->end;
    }
    assert_string_equal(marked, wanted);
    assert_int_equal(start, prompt.size);
    chat_prompt_release(&prompt);
}

static void test_bytes_remember_their_side(void **state) {
    expect_marked("<a>{{ u }}<b>", "<a>[Xyz]<b>");
    expect_marked("{{ bos_token }}{{ u ~ '|' ~ n ~ '|' ~ (n + 1) }}", "<s>[Xyz]|[42]|[43]");
    expect_marked("{{ ('<' + u + '>')[0:3] }}{{ ('<' + u + '>')[-2:] }}", "<[Xyz]>");
    expect_marked("{{ ('a' ~ u)|upper }}{{ u|lower|trim('z') }}{{ u|replace('y', '<y>') }}",
                  "A[XYZxyX]<y>[z]");
    expect_marked("{{ d|tojson }}{{ l|join('+') }}{{ l }}", "{\"[k]\": \"[v\\\"]\"}[p]+[q]['[p]', '[q]']");
    expect_marked("{{ '%s=%d' % (u, n) }}{{ '{}{}'.format('t', u) }}", "[Xyz]=[42]t[Xyz]");
    expect_marked("{% macro m(x) %}({{ x }}){% endmacro %}{{ m(u) }}{% set b %}a{{ u }}{% endset %}{{ "
                  "b.split('X')[1] }}",
                  "([Xyz])[yz]");
    expect_marked(
        "{% set ns = namespace(t='') %}{% for x in l %}{% set ns.t = ns.t ~ x ~ ',' %}{% endfor %}{{ ns.t }}",
        "[p],[q],");
    expect_marked("{% for c in u %}{{ c }}.{% endfor %}{{ u|length }}{{ loop }}", "[X].[y].[z].3");
    expect_marked("{{ u|int }}{{ '7'|int }}{{ n // 2 }}{{ (u ~ 'a')|indent }}{{ ('b' ~ u)|reverse }}",
                  "[0721Xyz]a[zyX]b");
}

static void expect_error(const char *text, enum error_code code, const char *part) {
    struct error error = {0};
    struct chat_prompt prompt = {.size = 77};
    assert_false(render(text, "{\"u\": \"Xyz\"}", &prompt, &error));
    assert_int_equal(prompt.size, 77);
    if (error.code != code || !strstr(error.message, part) || strchr(error.message, '\n'))
        fail_msg("%s: error %d, %s", text, (int)error.code, error.message);
}

static void test_errors_name_the_line(void **state) {
    expect_error("a\n{{ nothing.x }}", ERROR_INVALID, "line 2: 'nothing' is undefined");
    expect_error("\n\n{{ u.y.z }}", ERROR_INVALID, "line 3: 'str object' has no attribute 'y'");
    expect_error("{{ raise_exception('no\nway') }}", ERROR_INVALID, "line 1: no way");
    expect_error("x\n{% if %}", ERROR_MODEL, "line 2: ");
    expect_error("{% for x in u %}\n", ERROR_MODEL, "{% endfor %} is missing");
    expect_error("{{ u|nothing }}", ERROR_MODEL, "there is no filter 'nothing'");
    expect_error("\xff", ERROR_MODEL, "not UTF-8");
}

static void test_limits_hold(void **state) {
    char *deep = malloc(100001);
    memset(deep, '(', 100000);
    memcpy(deep, "{{", 2);
    deep[100000] = 0;
    expect_error(deep, ERROR_MODEL, "too deeply");
    memcpy(deep + 99998, "}}", 2);
    for (size_t i = 2; i < 99998; i++)
        deep[i] = "not "[(i - 2) % 4];
    expect_error(deep, ERROR_MODEL, "nested deeper");
    for (size_t i = 2; i < 99997; i++)
        deep[i] = "1+"[i % 2];
    expect_error(deep, ERROR_MODEL, "levels");
    free(deep);

    expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ERROR_TOO_LARGE, "too deeply");
    expect_error("{% set r = range(99999) %}{% for a in range(1999) %}{{ none in r }}{% endfor %}",
                 ERROR_TOO_LARGE, "steps");
    expect_error(
        "{% set ns = namespace(x='a') %}{% for a in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor %}",
        ERROR_TOO_LARGE, "MB of memory");
    expect_error("{% set x = 'abcdefgh' * 100000 %}{% for a in range(99) %}{{ x }}{% endfor %}",
                 ERROR_TOO_LARGE, "longer");
    expect_error("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}", ERROR_TOO_LARGE, "too deeply");
    expect_error("{{ '%9999999999d' % 1 }}", ERROR_INVALID, "width");
    expect_error("{{ 'a' * 99999999999999 }}", ERROR_TOO_LARGE, "");
    expect_error("{{ [0] * 99999999999999 }}", ERROR_TOO_LARGE, "");
    expect_error("{{ 'a'.center(99999999999999) }}", ERROR_TOO_LARGE, "");
}

static void *render_often(void *argument) {
    const struct chat_template *chat = argument;
    json_t *json = json_loads("{\"l\": [1, 2, 3], \"u\": \"é\"}", 0, NULL);
    const struct chat_variables variables = {.conversation = json, .today = {.tm_mday = 1}};
    size_t right = 0;

    for (int i = 0; i < 200; i++) {
        struct error error;
        struct chat_prompt prompt;
        if (!chat_template_render(chat, &variables, &prompt, &error))
            continue;
        right += strcmp(prompt.text, "1é2é3é") == 0;
        chat_prompt_release(&prompt);
    }
    json_decref(json);
    return right == 200 ? NULL : argument;
}

static void test_threads_share_a_template(void **state) {
    static const char text[] =
        "{% macro m(x) %}{{ x ~ u }}{% endmacro %}{% for x in l %}{{ m(x) }}{% endfor %}";
    struct error error;
    struct chat_template *chat = chat_template_create(text, sizeof text - 1, &error);
    pthread_t threads[4];
    void *wrong;
    assert_non_null(chat);

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, chat), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    chat_template_free(chat);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_remember_their_side),
        cmocka_unit_test(test_errors_name_the_line),
        cmocka_unit_test(test_limits_hold),
        cmocka_unit_test(test_threads_share_a_template),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
