#include "serve/proxy.h"

#include <ctype.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Identifiers must not collide; nobody needs them to be secret. */
static uint64_t random_next(void) {
    static _Thread_local uint64_t state;
    if (state == 0)
        randombytes_buf(&state, sizeof state);
    /* splitmix64, https://prng.di.unimi.it/splitmix64.c (public domain formula) */
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void hexadecimal(char *ret, uint64_t number) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, number >>= 4)
        ret[i] = digits[number & 15];
}

static bool request_id_usable(const char *id) {
    size_t length = strlen(id);
    if (length == 0 || length > 128)
        return false;
    for (; *id; id++)
        if (*id <= ' ' || *id >= 127 || *id == '"' || *id == '\\')
            return false;
    return true;
}

static bool hexadecimal_nonzero(const char *text, size_t length) {
    bool zero = true;
    for (size_t i = 0; i < length; i++) {
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
        zero &= text[i] == '0';
    }
    return !zero;
}

/* version 00: "00-<32 hexadecimal>-<16>-<2>" */
static bool traceparent_usable(const char *text) {
    return strlen(text) == 55 && strncmp(text, "00-", 3) == 0 && hexadecimal_nonzero(text + 3, 32) &&
           text[35] == '-' && hexadecimal_nonzero(text + 36, 16) && text[52] == '-' &&
           isxdigit((unsigned char)text[53]) && isxdigit((unsigned char)text[54]);
}

void trace_read(struct trace *trace, const struct http_request *request) {
    const char *id = http_request_header(request, "X-Request-Id");
    if (id && request_id_usable(id)) {
        strcpy(trace->request_id, id);
    } else {
        hexadecimal(trace->request_id, random_next());
        hexadecimal(trace->request_id + 16, random_next());
        trace->request_id[32] = 0;
    }
    const char *parent = http_request_header(request, "traceparent");
    trace->traced = parent && traceparent_usable(parent);
    if (trace->traced) {
        strcpy(trace->traceparent, parent);
    } else {
        memcpy(trace->traceparent, "00-", 3);
        hexadecimal(trace->traceparent + 3, random_next());
        hexadecimal(trace->traceparent + 19, random_next());
        trace->traceparent[35] = '-';
        hexadecimal(trace->traceparent + 36, random_next() | 1);
        memcpy(trace->traceparent + 52, "-01", 4);
    }
}

bool proxy_headers_add(struct proxy_headers *headers, const char *name, const char *value) {
    if (headers->count == PROXY_HEADERS_MOST)
        return false;
    headers->headers[headers->count++] = (struct http_header){name, value};
    return true;
}

bool proxy_headers_add_copy(struct proxy_headers *headers, const char *name, const char *value,
                            size_t length) {
    if (length >= sizeof headers->text - headers->text_used)
        return false;
    char *copy = headers->text + headers->text_used;
    memcpy(copy, value, length);
    copy[length] = 0;
    headers->text_used += length + 1;
    return proxy_headers_add(headers, name, copy);
}

static bool among(const char *name, const char *const *list) {
    for (; list && *list; list++)
        if (((name[0] ^ **list) & ~0x20) == 0 &&
            strcasecmp(name, *list) == 0) /* most differ in the first letter */
            return true;
    return false;
}

/* Whether a Connection header's list has the name. */
static bool list_has(const char *list, const char *name) {
    size_t wanted = strlen(name);
    while (*list) {
        list += strspn(list, " \t,");
        size_t length = strcspn(list, ",");
        size_t word = length;
        while (word > 0 && (list[word - 1] == ' ' || list[word - 1] == '\t'))
            word--;
        if (word == wanted && strncasecmp(list, name, word) == 0)
            return true;
        list += length;
    }
    return false;
}

static bool named_by_connection(const struct http_header *headers, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcasecmp(headers[i].name, "Connection") == 0 && list_has(headers[i].value, name))
            return true;
    return false;
}

/* Copies the headers that travel end to end. */
static bool headers_filter(const struct http_header *headers, int count, const char *const *always,
                           const char *const *dropped, struct proxy_headers *ret) {
    bool connection = false;
    for (int i = 0; i < count; i++)
        connection |= strcasecmp(headers[i].name, "Connection") == 0;
    for (int i = 0; i < count; i++) {
        const char *name = headers[i].name;
        if (http_header_is_hop_by_hop(name) || among(name, always) || among(name, dropped) ||
            (connection && named_by_connection(headers, count, name)))
            continue;
        if (!proxy_headers_add(ret, name, headers[i].value))
            return false;
    }
    return true;
}

/* "what earlier proxies said, peer" */
static bool forwarded_for_add(const struct http_request *request, struct proxy_headers *ret) {
    char value[1024];
    const char *earlier = http_request_header(request, "X-Forwarded-For");
    int length = earlier && strlen(earlier) < 900
                     ? snprintf(value, sizeof value, "%s, %s", earlier, request->peer)
                     : snprintf(value, sizeof value, "%s", request->peer);
    return proxy_headers_add_copy(ret, "X-Forwarded-For", value, (size_t)length);
}

bool proxy_request_headers(const struct http_request *request, const struct trace *trace,
                           const char *const *dropped, struct proxy_headers *ret) {
    static const char *const always[] = {
        "Host",         "Content-Length", "X-Forwarded-For",  "X-Forwarded-Proto",
        "X-Request-Id", "traceparent",    "X-Forwarded-Host", NULL};
    ret->count = 0;
    ret->text_used = 0;
    const char *proto = http_request_header(request, "X-Forwarded-Proto");
    const char *host = http_request_header(request, "X-Forwarded-Host");
    if (!host)
        host = http_request_header(request, "Host");
    return headers_filter(request->headers, request->header_count, always, dropped, ret) &&
           forwarded_for_add(request, ret) &&
           proxy_headers_add(ret, "X-Forwarded-Proto",
                             proto             ? proto
                             : request->secure ? "https"
                                               : "http") &&
           (!host || proxy_headers_add(ret, "X-Forwarded-Host", host)) &&
           proxy_headers_add(ret, "X-Request-Id", trace->request_id) &&
           proxy_headers_add(ret, "traceparent", trace->traceparent);
}

bool proxy_answer_headers(const struct http_answer *answer, const char *const *dropped,
                          struct proxy_headers *ret) {
    static const char *const always[] = {"Content-Length", "Date", "Server", "X-Request-Id", NULL};
    ret->count = 0;
    ret->text_used = 0;
    return headers_filter(answer->headers, answer->header_count, always, dropped, ret);
}

bool path_is_devious(const char *path) {
    if (path[0] != '/')
        return true;
    for (const char *at = path; at; at = strchr(at + 1, '/')) {
        size_t length = strcspn(at + 1, "/");
        if ((length == 1 && at[1] == '.') || (length == 2 && at[1] == '.' && at[2] == '.'))
            return true;
    }
    return strchr(path, '\\') != NULL;
}
