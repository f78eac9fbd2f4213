#include "server/edge/session.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define KEY_TEXT_LEAST 32
#define TAG_BYTES crypto_auth_BYTES
#define PAYLOAD_BYTES 256 /* longest payload: version, time, id, model and separators */

_Static_assert(crypto_auth_KEYBYTES == 32, "struct session_keys holds crypto_auth's keys");

static bool keys_add(struct session_keys *keys, const char *text, size_t length, const char *origin,
                     struct error *error) {
    if (length < KEY_TEXT_LEAST)
        return error_set(error, ERROR_INVALID,
                         "%s: a session key of %zu characters is too short; use at least %d random ones",
                         origin, length, KEY_TEXT_LEAST);
    if (keys->count == SESSION_KEYS)
        return error_set(error, ERROR_INVALID, "%s: more than %d session keys; drop the oldest", origin,
                         SESSION_KEYS);

    static const uint8_t purpose[] = "guichet session cookie";
    crypto_generichash(keys->keys[keys->count++], 32, (const uint8_t *)text, length, purpose,
                       sizeof purpose - 1);
    return true;
}

bool session_keys_parse(const char *text, const char *origin, struct session_keys *ret, struct error *error) {
    struct session_keys keys = {0};
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, ",\r\n \t");
        if (length > 0 && !keys_add(&keys, at, length, origin, error)) {
            sodium_memzero(&keys, sizeof keys);
            return false;
        }
        at += length + (at[length] != 0);
    }

    if (keys.count == 0)
        return error_set(error, ERROR_INVALID, "%s: no session key in it", origin);
    *ret = keys;
    sodium_memzero(&keys, sizeof keys);
    return true;
}

static bool keys_file_private(const char *path, struct error *error) {
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set_errno(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, errno,
                               "session key file %s", path);

    bool ours = status.st_uid == geteuid();
    if ((status.st_mode & 07) || (ours && (status.st_mode & 070)) || (status.st_mode & 020))
        return error_set(
            error, ERROR_FORBIDDEN,
            "session key file %s: others can read it (mode %03o); chmod 600 it, and change the key", path,
            (unsigned)(status.st_mode & 0777));

    return true;
}

bool session_keys_read(const char *path, struct session_keys *ret, struct error *error) {
    if (!keys_file_private(path, error))
        return false;

    size_t size;
    char *text = file_read(path, 64 << 10, &size, error);
    if (!text)
        return error_prefix(error, "session key file");

    bool good = session_keys_parse(text, path, ret, error);
    sodium_memzero(text, size);
    free(text);
    return good;
}

void session_keys_random(struct session_keys *ret) {
    memset(ret, 0, sizeof *ret);
    ret->count = 1;
    randombytes_buf(ret->keys[0], sizeof ret->keys[0]);
}

void session_start(struct session *session, int64_t now) {
    memset(session, 0, sizeof *session);

    uint8_t bytes[16];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(session->id, sizeof session->id, bytes, sizeof bytes);
    session->issued = now;
}

void session_sign(const struct session *session, const struct session_keys *keys,
                  char ret[SESSION_COOKIE_BYTES]) {
    uint8_t bytes[PAYLOAD_BYTES + TAG_BYTES];
    int length = snprintf((char *)bytes, PAYLOAD_BYTES, "1|%" PRId64 "|%s|%s", session->issued, session->id,
                          session->model);

    crypto_auth(bytes + length, bytes, (size_t)length, keys->keys[0]);
    sodium_bin2base64(ret, SESSION_COOKIE_BYTES, bytes, (size_t)length + TAG_BYTES,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* Parse the signed payload "1|issued|id|model". It is validated although it is signed. */
static bool payload_read(const char *payload, int64_t now, struct session *ret) {
    struct session session = {0};
    int model_at = 0;
    if (sscanf(payload, "1|%15" SCNd64 "|%32[0-9a-f]|%n", &session.issued, session.id, &model_at) != 2 ||
        model_at == 0 || strlen(session.id) != 32)
        return false;

    if (session.issued > now + 3600 || now - session.issued > SESSION_SECONDS)
        return false;

    const char *model = payload + model_at;
    if (*model) {
        if (!model_name_valid(model, strlen(model)))
            return false;
        strcpy(session.model, model);
    }

    *ret = session;
    return true;
}

bool session_open(const char *value, size_t length, const struct session_keys *keys, int64_t now,
                  struct session *ret) {
    uint8_t bytes[PAYLOAD_BYTES + TAG_BYTES + 1];
    size_t size;

    if (length >= SESSION_COOKIE_BYTES ||
        sodium_base642bin(bytes, PAYLOAD_BYTES + TAG_BYTES, value, length, NULL, &size, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        size <= TAG_BYTES)
        return false;

    size_t payload = size - TAG_BYTES;
    bool genuine = false;
    for (int i = 0; i < keys->count; i++)
        genuine |= crypto_auth_verify(bytes + payload, bytes, payload, keys->keys[i]) == 0;
    if (!genuine)
        return false;

    bytes[payload] = 0;
    return payload_read((const char *)bytes, now, ret);
}
