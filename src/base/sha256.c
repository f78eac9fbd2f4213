#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES (1 << 20)

struct sha256 {
    EVP_MD_CTX *context;
};

struct sha256 *sha256_create(struct error *error) {
    struct sha256 *digest = calloc(1, sizeof *digest);
    if (!digest || !(digest->context = EVP_MD_CTX_new())) {
        free(digest);
        error_set(error, ERROR_MEMORY, "not enough memory for a SHA-256");
        return NULL;
    }

    if (!sha256_reset(digest, error)) {
        sha256_free(digest);
        return NULL;
    }
    return digest;
}

void sha256_free(struct sha256 *digest) {
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

bool sha256_reset(struct sha256 *digest, struct error *error) {
    return EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) ||
           error_set(error, ERROR_INTERNAL, "OpenSSL does not provide SHA-256");
}

bool sha256_add(struct sha256 *digest, const void *bytes, size_t size, struct error *error) {
    return EVP_DigestUpdate(digest->context, bytes, size) ||
           error_set(error, ERROR_INTERNAL, "OpenSSL failed to compute a SHA-256");
}

bool sha256_add_file(struct sha256 *digest, int file, uint64_t size, const char *path, struct error *error) {
    cleanup(freep) char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory to read it", path);

    for (uint64_t at = 0; at < size;) {
        size_t wanted = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        ssize_t got = pread(file, chunk, wanted, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set_errno(error, ERROR_IO, got < 0 ? errno : EIO, "%s: cannot be read", path);
        if (!sha256_add(digest, chunk, (size_t)got, error))
            return error_prefix(error, "%s", path);
        at += (uint64_t)got;
    }

    return true;
}

bool sha256_finish(struct sha256 *digest, char ret[SHA256_TEXT_BYTES], struct error *error) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    if (!EVP_DigestFinal_ex(digest->context, bytes, &size) || size != (SHA256_TEXT_BYTES - 1) / 2)
        return error_set(error, ERROR_INTERNAL, "OpenSSL failed to compute a SHA-256");

    for (unsigned i = 0; i < size; i++)
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

bool sha256_file(const char *path, char ret[SHA256_TEXT_BYTES], struct error *error) {
    cleanup(sha256_freep) struct sha256 *digest = sha256_create(error);
    if (!digest)
        return false;

    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
        return error_set_errno(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, errno, "%s", path);

    struct stat status;
    bool done = fstat(file, &status) == 0 || error_set_errno(error, ERROR_IO, errno, "%s", path);
    done = done && sha256_add_file(digest, file, (uint64_t)status.st_size, path, error);
    close(file);

    return done && sha256_finish(digest, ret, error);
}

bool sha256_text_is_valid(const char *text) {
    return strlen(text) == SHA256_TEXT_BYTES - 1 &&
           strspn(text, "0123456789abcdefABCDEF") == SHA256_TEXT_BYTES - 1;
}
