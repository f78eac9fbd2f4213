#include "serve/gateway_keys.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define NAME_BYTES 64
#define HASH_BYTES crypto_hash_sha256_BYTES

struct api_key {
    char name[NAME_BYTES];
    uint8_t hash[HASH_BYTES];
};

struct api_keys {
    size_t count;
    struct api_key keys[];
};

/* "name sha256" -> *ret; false where the line is anything else. */
static bool line_read(const char *line, struct api_key *ret) {
    char name[NAME_BYTES], hash[2 * HASH_BYTES + 2], rest;
    if (sscanf(line, " %63s %65s %c", name, hash, &rest) != 2)
        return false;
    size_t size;
    if (strlen(hash) != 2 * HASH_BYTES ||
        sodium_hex2bin(ret->hash, HASH_BYTES, hash, strlen(hash), NULL, &size, NULL) != 0 ||
        size != HASH_BYTES)
        return false;
    strcpy(ret->name, name);
    return true;
}

static size_t lines_count(const char *text) {
    size_t lines = 1;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

struct api_keys *api_keys_read(const char *path, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, 4 << 20, &size, error);
    if (!text) {
        error_prefix(error, "API key file");
        return NULL;
    }
    struct api_keys *keys = calloc(1, sizeof *keys + lines_count(text) * sizeof keys->keys[0]);
    if (!keys) {
        error_set(error, ERROR_MEMORY, "%s: out of memory", path);
        return NULL;
    }
    int number = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "#\r")] = 0;
        if (line[strspn(line, " \t")] == 0)
            continue;
        if (!line_read(line, &keys->keys[keys->count])) {
            error_set(error, ERROR_INVALID, "%s:%d: not \"NAME SHA256\" (64 hexadecimal digits)", path,
                      number);
            api_keys_free(keys);
            return NULL;
        }
        keys->count++;
    }
    return keys;
}

void api_keys_free(struct api_keys *keys) {
    free(keys);
}

const char *api_keys_find(const struct api_keys *keys, const char *key, size_t length) {
    uint8_t hash[HASH_BYTES];
    crypto_hash_sha256(hash, (const uint8_t *)key, length);
    const char *found = NULL;
    for (size_t i = 0; i < keys->count; i++)
        if (sodium_memcmp(hash, keys->keys[i].hash, HASH_BYTES) == 0)
            found = keys->keys[i].name;
    return found;
}

bool api_keys_make(const char *name, char ret_key[API_KEY_BYTES], char ret_line[API_KEY_LINE_BYTES],
                   struct error *error) {
    if (!*name || strlen(name) >= NAME_BYTES || strpbrk(name, " \t\r\n#"))
        return error_set(error, ERROR_INVALID, "\"%s\": a key's name is a word of at most %d characters",
                         name, NAME_BYTES - 1);
    uint8_t bytes[32], hash[HASH_BYTES];
    char hexadecimal[2 * HASH_BYTES + 1];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2base64(ret_key, API_KEY_BYTES, bytes, sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_hash_sha256(hash, (const uint8_t *)ret_key, strlen(ret_key));
    sodium_bin2hex(hexadecimal, sizeof hexadecimal, hash, sizeof hash);
    snprintf(ret_line, API_KEY_LINE_BYTES, "%s %s", name, hexadecimal);
    return true;
}
