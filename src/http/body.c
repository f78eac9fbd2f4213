#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

/* The bytes are a block of their own, so that others' (json_dumps) can be taken over. */
struct http_body *http_body_take(char *bytes, size_t size) {
    struct http_body *body = malloc(sizeof *body);
    if (!body || !bytes) {
        free(bytes);
        free(body);
        return NULL;
    }

    *body = (struct http_body){.size = size, .bytes = bytes, .references = 1, .capacity = size};
    return body;
}

struct http_body *http_body_create(const void *bytes, size_t size) {
    if (size == SIZE_MAX)
        return NULL;

    char *copy = malloc(size + 1);
    if (copy) {
        if (bytes && size)
            memcpy(copy, bytes, size);
        copy[size] = 0;
    }

    return http_body_take(copy, size);
}

bool http_body_append(struct http_body *body, const void *bytes, size_t size) {
    if (size > SIZE_MAX / 4 - body->size)
        return false;

    size_t needed = body->size + size;
    if (needed > body->capacity) {
        size_t capacity = body->capacity < 4096 ? 4096 : body->capacity * 2;
        if (capacity < needed)
            capacity = needed;
        char *grown = realloc(body->bytes, capacity + 1);
        if (!grown)
            return false;
        body->bytes = grown;
        body->capacity = capacity;
    }

    memcpy(body->bytes + body->size, bytes, size);
    body->size = needed;
    body->bytes[needed] = 0;
    return true;
}

struct http_body *http_body_reference(struct http_body *body) {
    if (body)
        atomic_fetch_add_explicit(&body->references, 1, memory_order_relaxed);
    return body;
}

void http_body_release(struct http_body *body) {
    if (body && atomic_fetch_sub_explicit(&body->references, 1, memory_order_acq_rel) == 1) {
        free(body->bytes);
        memory_charge_release(&body->charge);
        free(body);
    }
}
