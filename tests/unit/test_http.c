/* http/: heads, chunks, addresses, queries, forms, cookies, JSON, and which socket addresses are public. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "http/address.h"
#include "http/cookies.h"
#include "base/json.h"
#include "http/multipart.h"
#include "http/parser.h"
#include "http/response_reader.h"

static int parse_request(const char *text, struct http_head *head, struct http_header headers[64],
                         char buffer[4096]) {
    struct http_head_scanner scanner = {0};
    size_t size = strlen(text);

    assert_true(http_head_scan(&scanner, text, size) == (ptrdiff_t)size);
    memcpy(buffer, text, size + 1);

    const char *reason;
    return http_head_parse_request(buffer, size, headers, 64, head, &reason);
}

static void test_head(void **state) {
    struct http_head head;
    struct http_header headers[64];
    char buffer[4096];

    assert_int_equal(
        parse_request("POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nX-Y:  z z \t\r\n\r\n", &head,
                      headers, buffer),
        0);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.target, "/a?b=c");
    assert_int_equal(head.header_count, 3);
    assert_string_equal(head.headers[2].value, "z z");
    assert_int_equal(head.content_length, 12);
    assert_int_equal(head.framing, HTTP_BODY_LENGTH);
    assert_true(head.keep_alive);

    assert_int_equal(parse_request("GET http://h:80/p?q HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n",
                                   &head, headers, buffer),
                     0);
    assert_string_equal(head.target, "/p?q");
    assert_false(head.keep_alive);

    assert_int_equal(parse_request("GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 0);
    assert_string_equal(head.target, "/?q");
    assert_int_equal(parse_request("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 0);
    assert_string_equal(head.target, "/");

    assert_int_equal(parse_request("GET relative HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 400);
    assert_int_equal(parse_request("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 400);
    assert_int_equal(parse_request("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 400);
    assert_int_equal(parse_request("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", &head, headers, buffer), 400);
}

static void test_scan(void **state) {
    const char text[] = "GET / HTTP/1.1\r\nA: b\r\n\r\nmore";
    struct http_head_scanner scanner = {0};
    for (size_t size = 0; size < 24; size++)
        assert_int_equal(http_head_scan(&scanner, text, size), 0);
    assert_int_equal(http_head_scan(&scanner, text, sizeof text - 1), 24);
    assert_int_equal(scanner.lines, 3);

    struct http_head_scanner bare = {0}, nul = {0};
    assert_int_equal(http_head_scan(&bare, "a\nb", 3), -1);
    assert_int_equal(http_head_scan(&nul, "a\0b", 3), -1);
}

static void test_response(void **state) {
    char text[] = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    struct http_header headers[8];
    struct http_head head;
    const char *reason;
    assert_int_equal(http_head_parse_response(text, strlen(text), false, headers, 8, &head, &reason), 0);
    assert_int_equal(head.status, 304);
    assert_int_equal(head.framing, HTTP_BODY_NONE);

    char open[] = "HTTP/1.1 200\r\n\r\n";
    assert_int_equal(http_head_parse_response(open, strlen(open), false, headers, 8, &head, &reason), 0);
    assert_int_equal(head.framing, HTTP_BODY_UNTIL_CLOSE);
    assert_false(head.keep_alive);

    char odd[] = "HTTP/1.1 2x0 OK\r\n\r\n";
    assert_int_not_equal(http_head_parse_response(odd, strlen(odd), false, headers, 8, &head, &reason), 0);
}

/* Decode with the input cut into pieces of `step`. */
static enum http_decode_result decode(const char *text, size_t step, char *out) {
    struct http_body_decoder decoder = {.framing = HTTP_BODY_CHUNKED};
    size_t size = strlen(text), length = 0;

    for (size_t at = 0; at < size;) {
        size_t piece = size - at < step ? size - at : step, used = 0, run_size = 0;
        const char *run;
        enum http_decode_result result = http_body_decode(&decoder, text + at, piece, &used, &run, &run_size);

        at += used;
        if (result == HTTP_DECODE_DATA) {
            memcpy(out + length, run, run_size);
            length += run_size;
        }
        out[length] = 0;
        if (result == HTTP_DECODE_END || result == HTTP_DECODE_BAD)
            return result;
    }
    return HTTP_DECODE_MORE;
}

static void test_chunks(void **state) {
    char out[256];
    for (size_t step = 1; step < 40; step++) {
        assert_int_equal(decode("3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nT: u\r\n\r\n", step, out),
                         HTTP_DECODE_END);
        assert_string_equal(out, "abc0123456789");
    }

    static const char *const bad[] = {"\r\n",        "g\r\n",    "1\nA",
                                      "1 \r\nA",     "-1\r\n",   "0x1\r\n",
                                      "1\r\nAB\r\n", "1\r\nA\n", "fffffffffffffffff\r\n",
                                      "0\r\n\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(decode(bad[i], 100, out), HTTP_DECODE_BAD);

    assert_int_equal(decode("5\r\nab", 100, out), HTTP_DECODE_MORE);
}

/* Read a response in pieces of `step`; returns the last event. */
static enum http_response_event read_response(const char *text, size_t step, bool to_head, char *body,
                                              size_t *ret_used, struct http_response *response,
                                              struct http_response_reader *reader) {
    enum http_response_event event = HTTP_RESPONSE_MORE;
    size_t size = strlen(text), length = 0;
    *reader = (struct http_response_reader){.to_head = to_head};
    *response = (struct http_response){.status = 0};
    *ret_used = 0;

    for (size_t end = 0; event != HTTP_RESPONSE_END && event != HTTP_RESPONSE_MALFORMED;) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        if (event == HTTP_RESPONSE_MORE && end == size)
            break;
        if (event == HTTP_RESPONSE_MORE)
            end += size - end < step ? size - end : step;
        event =
            http_response_read(reader, text + *ret_used, end - *ret_used, &used, &run, &run_size, response);
        *ret_used += used;
        if (event == HTTP_RESPONSE_DATA) {
            memcpy(body + length, run, run_size);
            length += run_size;
        }
        body[length] = 0;
    }
    return event;
}

static void test_response_in_pieces(void **state) {
    static const struct {
        const char *text, *body;
        enum http_response_event event;
        int status;
        int64_t length;
        bool to_head, keep_alive;
        size_t left; /* bytes after the response */
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", HTTP_RESPONSE_END, 200, 5, false, true,
         0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!!", "hello", HTTP_RESPONSE_END, 200, 5, false,
         true, 2},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "hel", HTTP_RESPONSE_MORE, 200, 5, false, true,
         0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", HTTP_RESPONSE_END, 200, 5, true, true, 0},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", HTTP_RESPONSE_END, 304, 5, false, true,
         0},
        {"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "", HTTP_RESPONSE_END, 204, -1, false, false,
         0},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n003;a=b\r\nabc\r\n1\r\nd\r\n0\r\nT: "
         "u\r\n\r\nX",
         "abcd", HTTP_RESPONSE_END, 200, -1, false, true, 1},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx", "abc", HTTP_RESPONSE_MALFORMED,
         200, -1, false, true, 0},
        {"HTTP/1.0 200 OK\r\n\r\nabc", "abc", HTTP_RESPONSE_MORE, 200, -1, false, false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Le", "", HTTP_RESPONSE_MORE, 0, 0, false, false, 0},
        {"HTTP/1.1 abc\r\n\r\n", "", HTTP_RESPONSE_MALFORMED, 0, 0, false, false, 0},
        {"HTTP/1.1 600 Other\r\nContent-Length: 0\r\n\r\n", "", HTTP_RESPONSE_MALFORMED, 0, 0, false, false,
         0},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n", "", HTTP_RESPONSE_MALFORMED, 0, 0, false,
         false, 0},
        /* What comes after these may be a body, though none is allowed: the connection is not used again. */
        {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "", HTTP_RESPONSE_END, 204, 5, false, false,
         0},
        {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", HTTP_RESPONSE_END, 204, -1,
         false, false, 0},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", HTTP_RESPONSE_END, 204, 0, false, true,
         0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 200; step++) {
            char body[64];
            size_t used;
            struct http_response response;
            struct http_response_reader reader;
            assert_int_equal(
                read_response(cases[i].text, step, cases[i].to_head, body, &used, &response, &reader),
                cases[i].event);
            assert_string_equal(body, cases[i].body);
            assert_int_equal(response.status, cases[i].status);
            assert_int_equal(response.content_length, cases[i].length);
            if (response.status)
                assert_int_equal(reader.keep_alive, cases[i].keep_alive);
            if (cases[i].event == HTTP_RESPONSE_END)
                assert_int_equal(used, strlen(cases[i].text) - cases[i].left);
            http_response_reader_release(&reader);
        }
    }
}

static void test_response_limit(void **state) {
    struct http_response_reader reader = {.to_head = false};
    struct http_response response;
    char line[1000];
    size_t used, run_size, sent = 0;
    const char *run;

    memset(line, 'a', sizeof line);
    enum http_response_event event = HTTP_RESPONSE_MORE;

    while (event == HTTP_RESPONSE_MORE) {
        event = http_response_read(&reader, line, sizeof line, &used, &run, &run_size, &response);
        sent += sizeof line;
        assert_true(sent < 2 * LIMIT_RESPONSE_HEADER_BYTES);
    }

    assert_int_equal(event, HTTP_RESPONSE_MALFORMED);
    http_response_reader_release(&reader);
}

static void test_form(void **state) {
    const char body[] =
        "preamble\r\n--b \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\n"
        "content-disposition: form-data; filename=\"x;y\"; name=file\r\nContent-Type: image/png\r\n\r\n"
        "\x89P\r\n--bNG\r\n--b--\r\n";
    struct multipart_part part;
    struct error error;
    const char type[] = "multipart/form-data; boundary=\"b\"";

    assert_true(multipart_is_form(type));
    assert_false(multipart_is_form("multipart/form-datas"));
    assert_true(multipart_find(type, body, sizeof body - 1, "a", &part, &error));
    assert_int_equal(part.size, 1);

    for (size_t size = 0; size < sizeof body - 8; size++)
        assert_false(multipart_find(type, body, size, "nothing", &part, &error));
    assert_false(multipart_find("multipart/form-data", body, sizeof body - 1, "a", &part, &error));

    const char empty[] = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\r\n--b--";
    assert_true(multipart_find(type, empty, sizeof empty - 1, "file", &part, &error));
    assert_int_equal(part.size, 0);
    assert_false(multipart_find(type, empty, sizeof empty - 1, "other", &part, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static void test_cookies(void **state) {
    struct http_header headers[] = {{"Cookie", "a=1;  session=\"x=y\" ; b=2"}, {"cookie", "late=3"}};
    struct http_request request = {.headers = headers, .header_count = 2};
    const char *value;
    size_t length;

    assert_true(http_request_cookie(&request, "session", &value, &length));
    assert_memory_equal(value, "x=y", length);
    assert_int_equal(length, 3);
    assert_true(http_request_cookie(&request, "late", &value, &length));
    assert_false(http_request_cookie(&request, "sess", &value, &length));
}

static void test_json(void **state) {
    struct error error;
    struct buffer text = {0};
    json_append_string(&text, "a\"\\\n\xff\xc3\xa9\xed\xa0\x80");
    assert_string_equal(text.bytes,
                        "\"a\\\"\\\\\\u000a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    buffer_release(&text);

    char deep[200];
    memset(deep, '[', sizeof deep);
    struct memory_charge charge = {0};
    assert_null(json_parse(deep, sizeof deep, NULL, &charge, &error));
    memory_charge_release(&charge);
    assert_non_null(strstr(error.message, "deeper"));

    json_t *json = json_parse("{\"a\": \"[[[\\\"\"}", 14, NULL, &charge, &error);
    assert_non_null(json);
    json_decref(json);
    assert_null(json_parse("{\"a\": 1, \"a\": 2}", 16, NULL, &charge, &error));
    memory_charge_release(&charge);
}

static bool is_public(const char *text) {
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
        return address_is_public((struct sockaddr *)&four);
    assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
    return address_is_public((struct sockaddr *)&six);
}

static void test_addresses(void **state) {
    static const char *const open[] = {
        "1.1.1.1",         "8.8.8.8",          "172.32.0.1",     "100.128.0.1",     "192.169.0.1",
        "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1", "2a00:1450:4001::1"};
    static const char *const closed[] = {"0.0.0.0",
                                         "0.1.2.3",
                                         "10.1.2.3",
                                         "100.64.0.1",
                                         "100.127.255.255",
                                         "127.0.0.1",
                                         "127.255.255.254",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.0.0.1",
                                         "192.0.2.1",
                                         "192.168.0.1",
                                         "198.18.0.1",
                                         "198.19.255.255",
                                         "198.51.100.1",
                                         "203.0.113.9",
                                         "224.0.0.1",
                                         "239.1.1.1",
                                         "240.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::7f00:1",
                                         "::ffff:127.0.0.1",
                                         "::ffff:10.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "64:ff9b::a00:1",
                                         "64:ff9b:1::1",
                                         "2002:7f00:1::",
                                         "2002:a00:1::1",
                                         "2001::1",
                                         "2001:db8::1",
                                         "100::1",
                                         "fc00::1",
                                         "fd12::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1",
                                         "2a00::5efe:7f00:1"};

    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        assert_true(is_public(open[i]));
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        assert_false(is_public(closed[i]));
    assert_false(address_is_public(&(struct sockaddr){.sa_family = AF_UNIX}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),           cmocka_unit_test(test_scan),
        cmocka_unit_test(test_response),       cmocka_unit_test(test_response_in_pieces),
        cmocka_unit_test(test_response_limit), cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_form),           cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_json),           cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
