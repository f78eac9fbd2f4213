#include "server/edge/trace.h"

#include <ctype.h>
#include <sodium.h>
#include <stdint.h>
#include <string.h>

/* Identifiers must be unique, not secret. */
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
