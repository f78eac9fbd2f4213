#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static int file_open_regular(const char *path, uint64_t limit, size_t *ret_size, struct error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        enum error_code code = errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : ERROR_IO;
        error_set_errno(error, code, errno, "%s", path);
        return -1;
    }

    struct stat status;
    if (fstat(descriptor, &status) < 0)
        error_set_errno(error, ERROR_IO, errno, "%s", path);
    else if (!S_ISREG(status.st_mode))
        error_set(error, ERROR_INVALID, "%s: not a regular file", path);
    else if ((uint64_t)status.st_size > limit)
        error_set(error, ERROR_TOO_LARGE, "%s: %lld bytes, and the limit is %llu", path,
                  (long long)status.st_size, (unsigned long long)limit);
    else {
        *ret_size = (size_t)status.st_size;
        return descriptor;
    }

    close(descriptor);
    return -1;
}

bool file_map_open(const char *path, uint64_t limit, struct file_map *ret, struct error *error) {
    size_t size;
    int descriptor = file_open_regular(path, limit, &size, error);
    if (descriptor < 0)
        return false;

    void *bytes = NULL;
    if (size) {
        bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED) {
            error_set_errno(error, ERROR_IO, errno, "%s: cannot be mapped", path);
            close(descriptor);
            return false;
        }
    }

    close(descriptor);
    *ret = (struct file_map){bytes, size};
    return true;
}

void file_map_close(struct file_map *map) {
    if (map->bytes)
        munmap((void *)map->bytes, map->size);
    *map = (struct file_map){0};
}

void file_map_discard(const void *bytes, size_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)bytes + page - 1) & ~(page - 1),
              end = ((uintptr_t)bytes + size) & ~(page - 1);
    if (end > start)
        madvise((void *)start, end - start, MADV_DONTNEED);
}

void file_map_discard_around(const struct file_map *map, const void *bytes, size_t size) {
    const size_t folio = (size_t)2 << 20;

    uintptr_t first = (uintptr_t)map->bytes, last = first + map->size;
    uintptr_t start = (uintptr_t)bytes & ~(folio - 1),
              end = ((uintptr_t)bytes + size + folio - 1) & ~(folio - 1);

    start = start < first ? first : start;
    end = end > last ? last : end;

    file_map_discard((const void *)start, end - start);
}

char *file_read(const char *path, uint64_t limit, size_t *ret_size, struct error *error) {
    size_t size, done = 0;
    int descriptor = file_open_regular(path, limit, &size, error);
    if (descriptor < 0)
        return NULL;

    char *bytes = malloc(size + 1);
    if (!bytes)
        error_set(error, ERROR_MEMORY, "%s: no memory for %zu bytes", path, size);
    while (bytes && done < size) {
        ssize_t got = read(descriptor, bytes + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            error_set(error, ERROR_IO, "%s: only %zu of %zu bytes can be read", path, done, size);
            free(steal_pointer(&bytes));
            break;
        }
        done += (size_t)got;
    }
    close(descriptor);

    if (bytes) {
        bytes[size] = 0;
        *ret_size = size;
    }

    return bytes;
}

bool file_write_with(const char *path, bool (*produce)(const void *context, FILE *file), const void *context,
                     struct error *error) {
    cleanup(freep) char *temporary = NULL;
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        temporary = NULL;
        return error_set(error, ERROR_MEMORY, "%s: no memory for its name", path);
    }

    int descriptor = mkostemp(temporary, O_CLOEXEC);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    bool done = file && produce(context, file) && fflush(file) == 0 && fchmod(descriptor, 0644) == 0 &&
                fsync(descriptor) == 0;
    int number = errno; /* before closing and unlinking change it */

    if ((file ? fclose(file) : descriptor >= 0 ? close(descriptor) : 0) != 0 && done) {
        number = errno;
        done = false;
    }

    if (done && rename(temporary, path) < 0) {
        number = errno;
        done = false;
    }
    if (done)
        return true;

    if (descriptor >= 0)
        unlink(temporary);
    return error_set_errno(error, ERROR_IO, number, "%s: cannot be written", path);
}

struct bytes {
    const void *at;
    size_t size;
};

static bool produce_bytes(const void *context, FILE *file) {
    const struct bytes *bytes = context;
    return fwrite(bytes->at, 1, bytes->size, file) == bytes->size;
}

bool file_write(const char *path, const void *bytes, size_t size, struct error *error) {
    return file_write_with(path, produce_bytes, &(struct bytes){bytes, size}, error);
}
