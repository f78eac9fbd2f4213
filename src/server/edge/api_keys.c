#include "server/edge/api_keys.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/name.h"

#define NAME_BYTES 64
#define HASH_BYTES crypto_hash_sha256_BYTES
#define DEFAULT_RIGHTS (1u << RIGHT_NONE | 1u << RIGHT_PREDICT | 1u << RIGHT_METRICS)

struct api_key {
    char name[NAME_BYTES];
    uint8_t hash[HASH_BYTES];
    unsigned rights;    /* a bit for each enum right */
    const char *models; /* "a,b", within the file's text; NULL: every model */
};

struct api_keys {
    atomic_int references;
    char *text; /* of the file, cut into strings */
    size_t count;
    struct api_key keys[];
};

/* ---- Reading ---- */

/* "predict,manage" -> bits; false where a word is no role. */
static bool read_roles(const char *words, unsigned *ret_rights) {
    static const struct {
        const char *name;
        enum right right;
    } roles[] = {
        {"predict", RIGHT_PREDICT},
        {"metrics", RIGHT_METRICS},
        {"manage", RIGHT_MANAGE},
    };
    unsigned rights = 1u << RIGHT_NONE;

    while (*words) {
        size_t length = strcspn(words, ","), i = 0;
        while (i < sizeof roles / sizeof roles[0] &&
               (strlen(roles[i].name) != length || strncmp(roles[i].name, words, length) != 0))
            i++;
        if (i == sizeof roles / sizeof roles[0])
            return false;
        rights |= 1u << roles[i].right;
        words += length;
        if (*words == ',' && !*++words)
            return false;
    }

    *ret_rights = rights;
    return rights != 1u << RIGHT_NONE;
}

/* Whether every name of "a,b" is one that a model may have. */
static bool check_models(const char *names) {
    for (;;) {
        size_t length = strcspn(names, ",");
        if (!model_name_valid(names, length))
            return false;
        if (!names[length])
            return true;
        names += length + 1;
    }
}

static bool read_hash(const char *word, uint8_t ret[HASH_BYTES]) {
    size_t size;
    return strlen(word) == 2 * HASH_BYTES &&
           sodium_hex2bin(ret, HASH_BYTES, word, strlen(word), NULL, &size, NULL) == 0 && size == HASH_BYTES;
}

/* "NAME SHA256 [roles=…] [models=…]"; false where the line is anything else. The line is cut into strings. */
static bool read_line(char *line, struct api_key *ret) {
    char *rest = line;
    const char *name = strsep(&rest, " \t");
    struct api_key key = {.rights = DEFAULT_RIGHTS};

    if (rest)
        rest += strspn(rest, " \t");
    const char *hash = rest ? strsep(&rest, " \t") : "";
    if (strlen(name) >= NAME_BYTES || !read_hash(hash, key.hash))
        return false;
    strcpy(key.name, name);

    bool roles = false;
    for (char *word; (word = strsep(&rest, " \t"));) {
        if (!*word)
            continue;
        if (strncmp(word, "roles=", 6) == 0 && !roles && read_roles(word + 6, &key.rights))
            roles = true;
        else if (strncmp(word, "models=", 7) == 0 && !key.models && check_models(word + 7))
            key.models = word + 7;
        else
            return false;
    }

    *ret = key;
    return true;
}

static size_t count_lines(const char *text) {
    size_t lines = 1;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* All lines of keys->text, which is cut into strings. */
static bool read_lines(struct api_keys *keys, const char *path, struct error *error) {
    int number = 0;
    for (char *rest = keys->text, *line; (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "#\r")] = 0;
        line += strspn(line, " \t");
        if (!*line)
            continue;

        if (!read_line(line, &keys->keys[keys->count]))
            return error_set(
                error, ERROR_INVALID,
                "%s:%d: not \"NAME SHA256 [roles=predict,metrics,manage] [models=a,b]\" (SHA256: "
                "64 hexadecimal digits)",
                path, number);
        keys->count++;
    }

    return true;
}

static int compare_hashes(const void *a, const void *b) {
    return memcmp((*(const struct api_key *const *)a)->hash, (*(const struct api_key *const *)b)->hash,
                  HASH_BYTES);
}

/* Of two lines with one key only one would count. */
static bool check_distinct(const struct api_keys *keys, const char *path, struct error *error) {
    const struct api_key **sorted = calloc(keys->count + 1, sizeof(const struct api_key *));
    if (!sorted)
        return error_set(error, ERROR_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < keys->count; i++)
        sorted[i] = &keys->keys[i];
    qsort(sorted, keys->count, sizeof sorted[0], compare_hashes);

    bool good = true;
    for (size_t i = 1; good && i < keys->count; i++)
        if (compare_hashes(&sorted[i - 1], &sorted[i]) == 0)
            good = error_set(error, ERROR_INVALID,
                             "%s: the lines \"%s\" and \"%s\" are of one key; keep one of them", path,
                             sorted[i - 1]->name, sorted[i]->name);

    free(sorted);
    return good;
}

struct api_keys *api_keys_read(const char *path, struct error *error) {
    size_t size;
    char *text = file_read(path, LIMIT_KEY_FILE_BYTES, &size, error);
    if (!text) {
        error_prefix(error, "API key file");
        return NULL;
    }

    if (memchr(text, 0, size)) { /* it would hide what follows */
        free(text);
        error_set(error, ERROR_INVALID, "API key file: %s contains a NUL byte", path);
        return NULL;
    }

    struct api_keys *keys = calloc(1, sizeof *keys + count_lines(text) * sizeof keys->keys[0]);
    if (!keys) {
        free(text);
        error_set(error, ERROR_MEMORY, "%s: out of memory", path);
        return NULL;
    }

    keys->references = 1;
    keys->text = text;
    if (read_lines(keys, path, error) && check_distinct(keys, path, error))
        return keys;

    api_keys_release(keys);
    return NULL;
}

struct api_keys *api_keys_reference(struct api_keys *keys) {
    if (keys)
        atomic_fetch_add(&keys->references, 1);
    return keys;
}

void api_keys_release(struct api_keys *keys) {
    if (!keys || atomic_fetch_sub(&keys->references, 1) != 1)
        return;
    free(keys->text);
    free(keys);
}

/* ---- Asking ---- */

const struct api_key *api_keys_find(const struct api_keys *keys, const char *key, size_t length) {
    uint8_t hash[HASH_BYTES];
    const struct api_key *found = NULL;

    crypto_hash_sha256(hash, (const uint8_t *)key, length);
    for (size_t i = 0; i < keys->count; i++)
        if (sodium_memcmp(hash, keys->keys[i].hash, HASH_BYTES) == 0)
            found = &keys->keys[i];
    return found;
}

const char *api_key_name(const struct api_key *key) {
    return key->name;
}

bool api_key_has_right(const struct api_key *key, enum right right) {
    return (key->rights >> right & 1) != 0;
}

bool api_key_allows_model(const struct api_key *key, const char *model) {
    if (!key || !key->models)
        return true;

    size_t wanted = strlen(model);
    for (const char *at = key->models; *at;) {
        size_t length = strcspn(at, ",");
        if (length == wanted && strncmp(at, model, length) == 0)
            return true;
        at += length + (at[length] == ',');
    }

    return false;
}

/* ---- Making ---- */

bool api_keys_make(const char *name, const char *roles, char ret_key[API_KEY_BYTES],
                   char ret_line[API_KEY_LINE_BYTES], struct error *error) {
    unsigned rights;
    if (!*name || strlen(name) >= NAME_BYTES || strpbrk(name, " \t\r\n#"))
        return error_set(error, ERROR_INVALID, "\"%s\": a key's name is a word of at most %d characters",
                         name, NAME_BYTES - 1);
    if (roles && (strlen(roles) > 64 || !read_roles(roles, &rights)))
        return error_set(error, ERROR_INVALID, "roles \"%.64s\": expected some of predict,metrics,manage",
                         roles);

    uint8_t bytes[32], hash[HASH_BYTES];
    char hexadecimal[2 * HASH_BYTES + 1];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2base64(ret_key, API_KEY_BYTES, bytes, sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_hash_sha256(hash, (const uint8_t *)ret_key, strlen(ret_key));
    sodium_bin2hex(hexadecimal, sizeof hexadecimal, hash, sizeof hash);
    snprintf(ret_line, API_KEY_LINE_BYTES, "%s %s%s%s", name, hexadecimal, roles ? " roles=" : "",
             roles ? roles : "");

    return true;
}
