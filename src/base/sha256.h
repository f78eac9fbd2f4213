/* SHA-256 of files and streams, as hexadecimal text. One thread at a time for each digest. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

#define SHA256_TEXT_BYTES 65 /* 64 hexadecimal digits and a NUL */

struct sha256;

/* An empty digest. NULL with ERROR_MEMORY, or ERROR_INTERNAL where OpenSSL does not provide SHA-256. */
struct sha256 *sha256_create(struct error *error);
void sha256_free(struct sha256 *digest); /* takes NULL */
DEFINE_FREEP(struct sha256, sha256)

/* Forget what was added. */
bool sha256_reset(struct sha256 *digest, struct error *error);
bool sha256_add(struct sha256 *digest, const void *bytes, size_t size, struct error *error);
/* Add the first `size` bytes of an open file; its position stays. `path` is for messages. ERROR_IO where the
 * file is shorter. */
bool sha256_add_file(struct sha256 *digest, int file, uint64_t size, const char *path, struct error *error);
/* Write the digest in lower case; sha256_reset must follow before more is added. */
bool sha256_finish(struct sha256 *digest, char ret[SHA256_TEXT_BYTES], struct error *error);

/* The digest of a whole file. ERROR_NOT_FOUND where there is none; symbolic links are not followed. */
bool sha256_file(const char *path, char ret[SHA256_TEXT_BYTES], struct error *error);
/* Exactly 64 hexadecimal digits, in either case. */
bool sha256_text_is_valid(const char *text);
