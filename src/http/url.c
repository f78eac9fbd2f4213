#include "http/url.h"

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

bool url_query_get(const char *query, const char *name, char *value, size_t size) {
    size_t name_length = strlen(name);
    while (*query) {
        size_t length = strcspn(query, "&");
        if (length >= name_length && !strncmp(query, name, name_length) &&
            (length == name_length || query[name_length] == '=')) {
            size_t skip = length == name_length ? name_length : name_length + 1;
            return url_decode(query + skip, length - skip, value, size, true);
        }
        query += length + (query[length] == '&');
    }
    return false;
}

static bool parse_authority(const char *text, size_t length, struct url *url) {
    const char *host = text, *end = text + length, *colon = NULL;
    size_t host_length;
    if (length && *text == '[') {
        const char *bracket = memchr(text, ']', length);
        if (!bracket)
            return false;
        host = text + 1;
        host_length = (size_t)(bracket - host);
        colon = bracket + 1 < end ? bracket + 1 : NULL;
        if (colon && *colon != ':')
            return false;
    } else {
        colon = memchr(text, ':', length);
        host_length = colon ? (size_t)(colon - text) : length;
    }
    if (!host_length || host_length >= sizeof url->host)
        return false;
    memcpy(url->host, host, host_length);
    url->host[host_length] = 0;
    url->port = url->secure ? 443 : 80;
    if (colon && colon + 1 < end) {
        url->port = 0;
        for (const char *c = colon + 1; c < end; c++) {
            if (*c < '0' || *c > '9')
                return false;
            url->port = url->port * 10 + *c - '0';
            if (url->port > 65535)
                return false;
        }
    }
    return url->port > 0;
}

bool url_parse(const char *text, struct url *ret, struct error *error) {
    struct url url = {.secure = !strncasecmp(text, "https://", 8)};
    if (!url.secure && strncasecmp(text, "http://", 7))
        return error_set(error, ERROR_INVALID, "\"%.100s\" is no http or https address", text);
    const char *authority = text + (url.secure ? 8 : 7);
    size_t length = strcspn(authority, "/?#");
    const char *path = authority + length;
    size_t path_length = strcspn(path, "#");
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c <= ' ' || *c == 0x7f || *c == '\\')
            return error_set(error, ERROR_INVALID, "\"%.100s\" is no address: it has spaces in it", text);
    if (memchr(authority, '@', length) || !parse_authority(authority, length, &url))
        return error_set(error, ERROR_INVALID, "\"%.100s\" is no address: its host or port is malformed",
                         text);
    if (path_length >= sizeof url.path)
        return error_set(error, ERROR_INVALID, "the address is longer than %zu bytes", sizeof url.path);
    memcpy(url.path, path, path_length);
    *ret = url;
    return true;
}
