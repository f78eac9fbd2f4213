#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define DETACH_BYTES ((size_t)4 << 20) /* at once: so much is in memory twice */

/* Whole pages of a mapping become a copy of themselves: moved over them in one step, so that no reader sees
 * anything else. Of the last page, `size` may hold a part. */
static bool replace_with_copy(const uint8_t *start, size_t size) {
    uint8_t *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return false;

    memcpy(copy, start, size);
    mprotect(copy, size, PROT_READ);
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return true;
    munmap(copy, size);
    return false;
}

static bool detach_kept(const struct file_map *map, size_t start, size_t end) {
    for (size_t at = start; at < end; at += DETACH_BYTES)
        if (!replace_with_copy(map->bytes + at, end - at < DETACH_BYTES ? end - at : DETACH_BYTES))
            return false;
    return true;
}

static bool detach_rest(const struct file_map *map, size_t start, size_t end) {
    return start >= end || mmap((void *)(map->bytes + start), end - start, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

static int by_start(const void *a, const void *b) {
    const struct file_range *first = a, *second = b;
    return first->start < second->start ? -1 : first->start > second->start;
}

bool file_map_detach(const struct file_map *map, struct file_range *kept, size_t count) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), done = 0;

    if (count)
        qsort(kept, count, sizeof *kept, by_start);
    for (size_t i = 0; i < count;) {
        size_t start = kept[i].start & ~(page - 1), end = kept[i].end;
        for (i++; i < count && (kept[i].start & ~(page - 1)) <= end + page; i++)
            end = kept[i].end > end ? kept[i].end : end;
        start = start < done ? done : start;
        if (!detach_rest(map, done, start) || (end > start && !detach_kept(map, start, end)))
            return false;
        done = end > start ? (end + page - 1) & ~(page - 1) : start;
    }
    return detach_rest(map, done, map->size);
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
