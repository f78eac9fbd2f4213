/* base/url: percent-encoding, queries, and the one parser of URLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/url.h"

static void parts_are_told_apart(void **state) {
    struct url url;
    struct error error;

    assert_true(url_parse("HTTPS://Example.org:8443/a?b=%20{c|d}#e", &url, &error));
    assert_true(url.secure);
    assert_string_equal(url.host, "Example.org");
    assert_int_equal(url.port, 8443);
    assert_string_equal(url.path, "/a?b=%20{c|d}");

    assert_true(url_parse("http://[::1]", &url, &error));
    assert_false(url.secure);
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 80);
    assert_string_equal(url.path, "");

    assert_true(url_parse("https://my_host.example-2?q", &url, &error));
    assert_string_equal(url.host, "my_host.example-2");
    assert_int_equal(url.port, 443);
    assert_string_equal(url.path, "?q");

    assert_true(url_parse("http://[fe80::1:2]:65535/", &url, &error));
    assert_int_equal(url.port, 65535);
}

static void what_is_no_url_is_refused(void **state) {
    static const char *const bad[] = {
        /* scheme */
        "", "ftp://a/", "//a/", "http:a", "http//a", "file:///etc/passwd",
        /* host */
        "http://", "http:///a", "http://?q", "http://a b/", "http://a\\b/", "http://a\"/", "http://%61/",
        "http://m\xc3\xbcnchen.example/", "http://a,b/", "http://a;b/",
        /* IPv6 */
        "http://[::1", "http://[]/", "http://[::1]x/", "http://[::1]x:1/", "http://[127.0.0.1]/",
        "http://[g::]/", "http://[fe80::1%25eth0]/", "http://::1/", "http://[::1]:/",
        /* port */
        "http://a:", "http://a:/", "http://a:0/", "http://a:00/", "http://a:65536/", "http://a:99999999999/",
        "http://a:000080/", "http://a:x/", "http://a:-1/", "http://a:+1/", "http://a: 1/", "http://a:1:2/",
        /* user information */
        "http://u@a/", "http://u:p@a/", "http://a:80@b/", "http://@a/",
        /* what must be percent-encoded, fragment included */
        "http://a/b c", "http://a/\x01", "http://a/\x7f", "http://a/\t", "http://a/b\r\nHost: c",
        "http://a/\\b", "http://a/\"", "http://a/<b>", "http://a/\xc3\xa9", "http://a/?\xff", "http://a/#b c",
        " http://a/", "http://a/ "};
    struct url url = {.port = 7};
    struct error error;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error.message[0] = 0;
        if (url_parse(bad[i], &url, &error))
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_int_equal(error.code, ERROR_INVALID);
        assert_true(error.message[0]);
    }

    assert_int_equal(url.port, 7); /* untouched */
    assert_false(url_parse("http://name:secret@a/", &url, &error));
    assert_null(strstr(error.message, "secret"));
}

/* The longest host and path, and one byte more. */
static void lengths_are_limited(void **state) {
    char text[3000], host[300], path[2100];
    struct url url;
    struct error error;
    memset(host, 'h', sizeof host);
    memset(path, 'p', sizeof path);

    for (int extra = 0; extra < 2; extra++) {
        snprintf(text, sizeof text, "http://%.*s/", 255 + extra, host);
        assert_int_equal(url_parse(text, &url, &error), !extra);
        snprintf(text, sizeof text, "http://a/%.*s", 2046 + extra, path);
        assert_int_equal(url_parse(text, &url, &error), !extra);
        snprintf(text, sizeof text, "http://a/%.*s//", 126 + extra, path);
        assert_int_equal(url_parse_base(text, &url, &error), !extra);
    }
}

static void a_base_has_no_query(void **state) {
    struct url url;
    struct error error;

    assert_true(url_parse_base("https://a/b/c//", &url, &error));
    assert_string_equal(url.path, "/b/c");
    assert_true(url_parse_base("https://a/", &url, &error));
    assert_string_equal(url.path, "");
    assert_false(url_parse_base("https://a/b?c", &url, &error));
    assert_false(url_parse_base("https://a/b#c", &url, &error));
    assert_false(url_parse_base("https://a?", &url, &error));
    assert_false(url_parse_base("https://u@a", &url, &error));
}

static void urls_are_written_and_compared(void **state) {
    static const struct {
        const char *text, *host, *origin;
    } cases[] = {
        {"http://a/b", "a", "http://a"},
        {"http://a:80", "a", "http://a"},
        {"http://a:443", "a:443", "http://a:443"},
        {"https://a:443", "a", "https://a"},
        {"https://a:80/", "a:80", "https://a:80"},
        {"http://[::1]", "[::1]", "http://[::1]"},
        {"https://[::1]:8443/c", "[::1]:8443", "https://[::1]:8443"},
    };
    char host[URL_HOST_BYTES], origin[URL_ORIGIN_BYTES];
    struct url url, again;
    struct error error;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(url_parse(cases[i].text, &url, &error));
        url_write_host(&url, host);
        assert_string_equal(host, cases[i].host);
        url_write_origin(&url, origin);
        assert_string_equal(origin, cases[i].origin);

        assert_true(url_parse(origin, &again, &error));
        strcpy(again.path, url.path);
        assert_true(url_equal(&url, &again) && url_same_origin(&url, &again));
        strcat(again.path, "x");
        assert_true(!url_equal(&url, &again) && url_same_origin(&url, &again));
        again.port++;
        assert_false(url_equal(&url, &again));
    }

    assert_true(url_parse("http://A/b", &url, &error) && url_parse("http://a:80/b", &again, &error));
    assert_true(url_equal(&url, &again));
    assert_true(url_parse("http://a/B", &again, &error));
    assert_false(url_equal(&url, &again));
    assert_true(url_parse("https://a:80/b", &again, &error));
    assert_false(url_equal(&url, &again));
}

static void queries_are_decoded(void **state) {
    char value[8];

    assert_true(url_query_get("a=1&top=%35+x&b", "top", value, sizeof value));
    assert_string_equal(value, "5 x");
    assert_true(url_query_get("a=1&b", "b", value, sizeof value));
    assert_string_equal(value, "");
    assert_false(url_query_get("atop=1&topa=2", "top", value, sizeof value));
    assert_false(url_query_get("top=123456789", "top", value, sizeof value));
    assert_false(url_query_get("top=%0", "top", value, sizeof value));
    assert_false(url_decode("%00", 3, value, sizeof value, false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_told_apart),          cmocka_unit_test(what_is_no_url_is_refused),
        cmocka_unit_test(lengths_are_limited),           cmocka_unit_test(a_base_has_no_query),
        cmocka_unit_test(urls_are_written_and_compared), cmocka_unit_test(queries_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
