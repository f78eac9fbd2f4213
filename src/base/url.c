#include "base/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool url_decode(const char *text, size_t length, char *decoded, size_t size, bool plus) {
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = length - i > 2 ? hex_value(text[i + 1]) : -1;
            int low = high >= 0 ? hex_value(text[i + 2]) : -1;
            if (low < 0 || !(high | low))
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }

        if (out + 1 >= size)
            return false;
        decoded[out++] = c;
    }

    if (!size)
        return false;
    decoded[out] = 0;
    return true;
}

/* The escaped value of the first parameter of that name, *ret_length bytes; NULL where there is none. */
static const char *find_parameter(const char *query, const char *name, size_t *ret_length) {
    size_t name_length = strlen(name);

    while (*query) {
        size_t length = strcspn(query, "&");
        if (length >= name_length && !strncmp(query, name, name_length) &&
            (length == name_length || query[name_length] == '=')) {
            size_t skip = length == name_length ? name_length : name_length + 1;
            *ret_length = length - skip;
            return query + skip;
        }
        query += length + (query[length] == '&');
    }
    return NULL;
}

bool url_query_has(const char *query, const char *name) {
    size_t length;
    return find_parameter(query, name, &length) != NULL;
}

bool url_query_get(const char *query, const char *name, char *value, size_t size) {
    size_t length;
    const char *found = find_parameter(query, name, &length);
    return found && url_decode(found, length, value, size, true);
}

/* Letters, digits, '.', '-' and '_': an IPv4 address or a name in ASCII (a name in another script is its
 * punycode, as browsers send it). */
static bool host_is_name(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '-' && c != '_')
            return false;
    }

    return length > 0;
}

/* Digits alone, 1 to 65535. */
static bool port_parse(const char *text, size_t length, int *ret) {
    int port = 0;

    if (length > 5)
        return false;

    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + text[i] - '0';
    }

    if (port == 0 || port > 65535)
        return false;

    *ret = port;
    return true;
}

/* "host", "host:port", "[::1]", "[::1]:port" */
static bool authority_parse(const char *text, size_t length, struct url *url) {
    const char *end = text + length, *host = text, *host_end, *rest;
    bool bracketed = length && *text == '[';

    if (bracketed) {
        host++;
        host_end = memchr(host, ']', length - 1);
        rest = host_end ? host_end + 1 : NULL;
    } else {
        host_end = memchr(text, ':', length);
        rest = host_end = host_end ? host_end : end;
    }
    if (!host_end || (size_t)(host_end - host) >= sizeof url->host)
        return false;

    size_t host_length = (size_t)(host_end - host);
    memcpy(url->host, host, host_length);
    url->host[host_length] = 0;
    if (bracketed ? inet_pton(AF_INET6, url->host, &(struct in6_addr){0}) != 1
                  : !host_is_name(host, host_length))
        return false;

    return rest == end || (*rest == ':' && port_parse(rest + 1, (size_t)(end - rest - 1), &url->port));
}

/* Browsers leave the rest as it is; these they percent-encode. */
static bool path_is_valid(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f || strchr("\"<>\\", text[i]))
            return false;
    return true;
}

bool url_parse(const char *text, struct url *ret, struct error *error) {
    struct url url = {.secure = !strncasecmp(text, "https://", 8)};
    if (!url.secure && strncasecmp(text, "http://", 7) != 0)
        return error_set(error, ERROR_INVALID, "\"%.100s\" does not begin with http:// or https://", text);

    const char *authority = text + (url.secure ? 8 : 7);
    size_t authority_length = strcspn(authority, "/?#");
    url.port = url.secure ? 443 : 80;
    if (memchr(authority, '@', authority_length))
        return error_set(error, ERROR_INVALID, "a URL with a user name or password is not accepted");
    if (!authority_parse(authority, authority_length, &url))
        return error_set(error, ERROR_INVALID, "\"%.100s\": invalid host or port", text);

    const char *path = authority + authority_length;
    size_t length = strcspn(path, "#");

    if (!path_is_valid(path, strlen(path)))
        return error_set(error, ERROR_INVALID, "\"%.100s\" contains a character that must be percent-encoded",
                         text);
    if (length >= sizeof url.path)
        return error_set(error, ERROR_INVALID, "the URL's path and query are longer than %zu bytes",
                         sizeof url.path - 1);

    memcpy(url.path, path, length);
    *ret = url;
    return true;
}

bool url_parse_base(const char *text, struct url *ret, struct error *error) {
    struct url url;
    if (strpbrk(text, "?#"))
        return error_set(error, ERROR_INVALID, "\"%.100s\" must not have a query or a fragment", text);
    if (!url_parse(text, &url, error))
        return false;

    size_t length = strlen(url.path);
    while (length && url.path[length - 1] == '/')
        length--;
    url.path[length] = 0;
    if (length >= URL_BASE_PATH_BYTES)
        return error_set(error, ERROR_INVALID, "\"%.100s\": the path is longer than %d bytes", text,
                         URL_BASE_PATH_BYTES - 1);

    *ret = url;
    return true;
}

bool url_same_origin(const struct url *a, const struct url *b) {
    return a->secure == b->secure && a->port == b->port && !strcasecmp(a->host, b->host);
}

bool url_equal(const struct url *a, const struct url *b) {
    return url_same_origin(a, b) && !strcmp(a->path, b->path);
}

void url_write_host(const struct url *url, char ret[URL_HOST_BYTES]) {
    bool usual = url->port == (url->secure ? 443 : 80);
    const char *format = strchr(url->host, ':') ? (usual ? "[%s]" : "[%s]:%d") : (usual ? "%s" : "%s:%d");

    snprintf(ret, URL_HOST_BYTES, format, url->host, url->port);
}

void url_write_origin(const struct url *url, char ret[URL_ORIGIN_BYTES]) {
    char host[URL_HOST_BYTES];

    url_write_host(url, host);
    snprintf(ret, URL_ORIGIN_BYTES, "%s://%s", url->secure ? "https" : "http", host);
}
