#include "onnx/names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t hash) {
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

static size_t names_slot(const struct names *names, const char *name) {
    uint64_t hash = names->seed;
    for (; *name; name++)
        hash = mix(hash ^ (unsigned char)*name);
    return hash & (names->capacity - 1);
}

struct value *names_find(const struct names *names, const char *name) {
    if (!names->capacity)
        return NULL;
    for (size_t slot = names_slot(names, name); names->slots[slot]; slot = (slot + 1) & (names->capacity - 1))
        if (strcmp(names->slots[slot]->name, name) == 0)
            return names->slots[slot];
    return NULL;
}

static void names_put(struct names *names, struct value *value) {
    size_t slot = names_slot(names, value->name);
    while (names->slots[slot])
        slot = (slot + 1) & (names->capacity - 1);

    names->slots[slot] = value;
    names->count++;
}

bool names_add(struct names *names, struct value *value) {
    if (names->count * 2 >= names->capacity) {
        struct names larger = {.capacity = names->capacity ? names->capacity * 2 : 256, .seed = names->seed};
        if (!larger.seed && getrandom(&larger.seed, sizeof larger.seed, GRND_NONBLOCK) < 0)
            larger.seed = (uintptr_t)
                names; /* no random bytes this early after boot: an address is better than nothing */
        larger.slots = calloc(larger.capacity, sizeof(struct value *));
        if (!larger.slots)
            return false;

        for (size_t i = 0; i < names->capacity; i++)
            if (names->slots[i])
                names_put(&larger, names->slots[i]);

        free(names->slots);
        *names = larger;
    }

    names_put(names, value);
    return true;
}

void names_release(struct names *names) {
    free(names->slots);
    *names = (struct names){0};
}
