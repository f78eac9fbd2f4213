/* Dicts: entries in the order of insertion, and an index by hash once there are more than a few. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "chat/run.h"

#define FEW 8

static bool hash_value(struct jinja_run *run, const struct jinja_value *key, uint64_t *ret);

static bool hash_tuple(struct jinja_run *run, const struct jinja_list *list, uint64_t *ret) {
    uint64_t hash = HASH_START, part;
    if (!jinja_enter(run))
        return false;

    bool done = true;
    for (size_t i = 0; done && i < list->count; i++) {
        done = jinja_step(run, 1) && hash_value(run, &list->items[i], &part);
        if (done)
            hash = hash_bytes(hash, &part, sizeof part);
    }
    jinja_leave(run);
    *ret = hash;
    return done;
}

/* Equal keys have equal hashes: 1, 1.0 and True are one key. */
static bool hash_value(struct jinja_run *run, const struct jinja_value *key, uint64_t *ret) {
    double real;

    switch (key->type) {
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        real = jinja_real(key) == 0 ? 0 : jinja_real(key); /* -0.0 == 0 */
        *ret = hash_bytes(HASH_START, &real, sizeof real);
        return true;
    case JINJA_TEXT:
        *ret = hash_bytes(HASH_START, key->text->bytes, key->text->length);
        return jinja_step(run, key->text->length / 64);
    case JINJA_TUPLE:
        return hash_tuple(run, key->list, ret);
    case JINJA_LIST:
    case JINJA_DICT:
    case JINJA_KEYS:
    case JINJA_VALUES:
    case JINJA_ITEMS:
        return jinja_fail(run, "unhashable type: '%s'", jinja_type_name(key));
    default:
        *ret = hash_bytes(HASH_START, &key->type, 1);
        return true;
    }
}

struct jinja_dict *jinja_dict_create(struct jinja_run *run, size_t capacity) {
    struct jinja_dict *dict = jinja_allocate(run, 1, sizeof *dict);
    if (!dict || (capacity && !(dict->entries = jinja_allocate(run, capacity, sizeof *dict->entries))))
        return NULL;

    dict->capacity = capacity;
    return dict;
}

/* The entry of a key with this hash; SIZE_MAX in *ret where there is none. */
static bool find_entry(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                       uint64_t hash, size_t *ret) {
    size_t slot = dict->slots ? hash & (dict->slot_count - 1) : 0;

    for (size_t i = 0;; i++, slot = (slot + 1) & (dict->slot_count - 1)) {
        size_t entry = !dict->slots ? i : dict->slots[slot] ? dict->slots[slot] - 1 : dict->count;
        if (entry >= dict->count)
            break;
        bool same = dict->entries[entry].hash == hash;
        if (same && !jinja_equal(run, &dict->entries[entry].key, key, &same))
            return false;
        if (same) {
            *ret = entry;
            return true;
        }
        if (!jinja_step(run, 1))
            return false;
    }

    *ret = SIZE_MAX;
    return true;
}

static void index_entry(struct jinja_dict *dict, size_t entry) {
    size_t slot = dict->entries[entry].hash & (dict->slot_count - 1);
    while (dict->slots[slot])
        slot = (slot + 1) & (dict->slot_count - 1);
    dict->slots[slot] = (uint32_t)entry + 1;
}

/* Room for one more entry. */
static bool reserve_entry(struct jinja_run *run, struct jinja_dict *dict) {
    if (dict->count == dict->capacity) {
        size_t capacity = dict->capacity ? 2 * dict->capacity : 4;
        struct jinja_entry *entries = jinja_allocate(run, capacity, sizeof *entries);
        if (!entries)
            return false;
        if (dict->count)
            memcpy(entries, dict->entries, dict->count * sizeof *entries);
        dict->entries = entries;
        dict->capacity = capacity;
    }

    if (dict->count >= FEW && 2 * (dict->count + 1) > dict->slot_count) {
        size_t slot_count = dict->slot_count ? 2 * dict->slot_count : 4 * FEW;
        while (slot_count < 2 * dict->capacity)
            slot_count *= 2;
        uint32_t *slots = jinja_allocate(run, slot_count, sizeof *slots);
        if (!slots || !jinja_step(run, dict->count))
            return false;
        dict->slots = slots;
        dict->slot_count = slot_count;
        for (size_t i = 0; i < dict->count; i++)
            index_entry(dict, i);
    }
    return true;
}

bool jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, const struct jinja_value *key,
                    const struct jinja_value *value) {
    uint64_t hash;
    size_t entry;
    if (!hash_value(run, key, &hash) || !find_entry(run, dict, key, hash, &entry))
        return false;
    if (entry != SIZE_MAX) {
        dict->entries[entry].value = *value;
        return true;
    }
    if (!reserve_entry(run, dict))
        return false;

    dict->entries[dict->count++] = (struct jinja_entry){.key = *key, .value = *value, .hash = hash};
    if (dict->slots)
        index_entry(dict, dict->count - 1);
    return true;
}

bool jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                    const struct jinja_value **ret) {
    uint64_t hash;
    size_t entry;
    if (!hash_value(run, key, &hash) || !find_entry(run, dict, key, hash, &entry))
        return false;

    *ret = entry == SIZE_MAX ? NULL : &dict->entries[entry].value;
    return true;
}

bool jinja_dict_list(struct jinja_run *run, const struct jinja_dict *dict, enum jinja_type which,
                     struct jinja_list **ret) {
    struct jinja_list *list = jinja_list_create(run, dict->count);
    if (!list || !jinja_step(run, dict->count))
        return false;

    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_entry *entry = &dict->entries[i];
        struct jinja_value item = which == JINJA_KEYS ? entry->key : entry->value;
        if (which == JINJA_ITEMS && !jinja_pair(run, entry->key, entry->value, &item))
            return false;
        if (!jinja_list_append(run, list, item))
            return false;
    }

    *ret = list;
    return true;
}

const struct jinja_value *jinja_dict_find(const struct jinja_dict *dict, const char *key, size_t length) {
    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_value *name = &dict->entries[i].key;
        if (name->type == JINJA_TEXT && name->text->length == length &&
            memcmp(name->text->bytes, key, length) == 0)
            return &dict->entries[i].value;
    }
    return NULL;
}
