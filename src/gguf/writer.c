#include "gguf/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "gguf/cursor.h"

enum { ALIGNMENT = 32 };

struct gguf_place {
    size_t offset, size; /* from the start of the data */
};

struct gguf_writer {
    char *path, *temporary;
    int file;                    /* -1: none */
    struct buffer keys, tensors; /* of the head */
    uint64_t key_count;
    struct gguf_place *places; /* [tensor_count] */
    size_t tensor_count, capacity;
    size_t data, end; /* where the data begins in the file; bytes of it */
    bool failed;      /* memory was out, or a size did not fit */
};

struct gguf_writer *gguf_writer_create(const char *path, struct error *error) {
    struct gguf_writer *writer = calloc(1, sizeof *writer);
    if (writer) {
        writer->file = -1;
        writer->path = strdup(path);
        if (asprintf(&writer->temporary, "%s.part", path) < 0)
            writer->temporary = NULL;
    }
    if (writer && writer->path && writer->temporary)
        return writer;

    error_set(error, ERROR_MEMORY, "%s: not enough memory to write it", path);
    gguf_writer_free(writer);
    return NULL;
}

void gguf_writer_free(struct gguf_writer *writer) {
    if (!writer)
        return;

    if (writer->file >= 0) {
        unlink(writer->temporary); /* before the lock ends: afterwards it may be another's */
        close(writer->file);
    }
    buffer_release(&writer->keys);
    buffer_release(&writer->tensors);
    free(writer->places);
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

/* --- Keys ----------------------------------------------------------------------------------------------- */

static void put_u32(struct buffer *to, uint32_t value) {
    buffer_append(to, &value, sizeof value);
}

static void put_u64(struct buffer *to, uint64_t value) {
    buffer_append(to, &value, sizeof value);
}

static void put_string(struct buffer *to, const char *bytes, size_t size) {
    put_u64(to, size);
    buffer_append(to, bytes, size);
}

static void put_key(struct gguf_writer *writer, const char *key, size_t size, enum gguf_type type) {
    put_string(&writer->keys, key, size);
    put_u32(&writer->keys, type);
    writer->key_count++;
}

static void put_array(struct gguf_writer *writer, const struct gguf_array *array) {
    const uint8_t *end = array->bytes;
    if (array->type == GGUF_STRING)
        for (size_t i = 0; i < array->count; i++)
            gguf_next_text(&end);
    else
        end += array->count * gguf_number_size(array->type);

    put_u32(&writer->keys, array->type);
    put_u64(&writer->keys, array->count);
    buffer_append(&writer->keys, array->bytes, (size_t)(end - array->bytes));
}

void gguf_writer_value(struct gguf_writer *writer, const struct gguf_value *value) {
    float single = (float)value->real;

    put_key(writer, value->key.bytes, value->key.size, value->type);
    switch (value->type) {
    case GGUF_STRING:
        put_string(&writer->keys, value->text.bytes, value->text.size);
        break;
    case GGUF_ARRAY:
        put_array(writer, &value->array);
        break;
    case GGUF_F32:
        buffer_append(&writer->keys, &single, sizeof single);
        break;
    case GGUF_F64:
        buffer_append(&writer->keys, &value->real, sizeof value->real);
        break;
    default: /* little-endian: the low bytes come first */
        buffer_append(&writer->keys, &value->integer, gguf_number_size(value->type));
    }
}

void gguf_writer_integer(struct gguf_writer *writer, const char *key, uint32_t value) {
    put_key(writer, key, strlen(key), GGUF_U32);
    put_u32(&writer->keys, value);
}

void gguf_writer_real(struct gguf_writer *writer, const char *key, float value) {
    put_key(writer, key, strlen(key), GGUF_F32);
    buffer_append(&writer->keys, &value, sizeof value);
}

void gguf_writer_bool(struct gguf_writer *writer, const char *key, bool value) {
    uint8_t byte = value;
    put_key(writer, key, strlen(key), GGUF_BOOL);
    buffer_append(&writer->keys, &byte, 1);
}

void gguf_writer_text(struct gguf_writer *writer, const char *key, const char *text, size_t size) {
    put_key(writer, key, strlen(key), GGUF_STRING);
    put_string(&writer->keys, text, size);
}

void gguf_writer_array(struct gguf_writer *writer, const char *key, enum gguf_type type, uint64_t count) {
    put_key(writer, key, strlen(key), GGUF_ARRAY);
    put_u32(&writer->keys, type);
    put_u64(&writer->keys, count);
}

void gguf_writer_element(struct gguf_writer *writer, enum gguf_type type, const void *bytes, size_t size) {
    if (type == GGUF_STRING)
        put_string(&writer->keys, bytes, size);
    else
        buffer_append(&writer->keys, bytes, size);
}

/* --- Tensors -------------------------------------------------------------------------------------------- */

static bool measure(const struct gguf_tensor *tensor, size_t *ret) {
    size_t size;
    if (!block_row_bytes(tensor->type, tensor->dims[0], &size))
        return false;
    for (int i = 1; i < tensor->rank; i++)
        if (!size_multiply(size, tensor->dims[i], &size))
            return false;
    *ret = size;
    return true;
}

size_t gguf_writer_tensor(struct gguf_writer *writer, const struct gguf_tensor *tensor) {
    if (writer->tensor_count == writer->capacity) {
        size_t capacity = writer->capacity ? 2 * writer->capacity : 64;
        struct gguf_place *grown = realloc(writer->places, capacity * sizeof *grown);
        if (!grown) {
            writer->failed = true;
            return 0;
        }
        writer->places = grown;
        writer->capacity = capacity;
    }

    struct gguf_place *place = &writer->places[writer->tensor_count];
    place->offset = size_align(writer->end, ALIGNMENT);
    if (!measure(tensor, &place->size) || !size_add(place->offset, place->size, &writer->end)) {
        writer->failed = true;
        return 0;
    }

    put_string(&writer->tensors, tensor->name.bytes, tensor->name.size);
    put_u32(&writer->tensors, (uint32_t)tensor->rank);
    for (int i = 0; i < tensor->rank; i++)
        put_u64(&writer->tensors, tensor->dims[i]);
    put_u32(&writer->tensors, tensor->type);
    put_u64(&writer->tensors, place->offset);
    return writer->tensor_count++;
}

/* --- The file ------------------------------------------------------------------------------------------- */

static bool io_failed(const struct gguf_writer *writer, struct error *error) {
    return error_set_errno(error, ERROR_IO, errno, "%s cannot be written", writer->path);
}

static bool write_all(const struct gguf_writer *writer, const void *bytes, size_t size, size_t at,
                      struct error *error) {
    for (size_t done = 0; done < size;) {
        ssize_t count = pwrite(writer->file, (const char *)bytes + done, size - done, (off_t)(at + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return io_failed(writer, error);
        done += (size_t)count;
    }
    return true;
}

/* Open the temporary file, and lock it: one writer at a time. What a run that was killed left is written
 * over; its lock ended with it. */
static bool open_temporary(struct gguf_writer *writer, struct error *error) {
    for (;;) {
        int file = open(writer->temporary, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (file < 0)
            return io_failed(writer, error);
        if (flock(file, LOCK_EX | LOCK_NB) < 0) {
            int code = errno;
            close(file);
            errno = code;
            return code == EWOULDBLOCK
                       ? error_set(error, ERROR_IO,
                                   "%s is being written by another run: wait for its end, or give another "
                                   "--output",
                                   writer->path)
                       : io_failed(writer, error);
        }

        /* Between the opening and the lock, another run may have renamed or removed it. */
        struct stat opened, named;
        if (fstat(file, &opened) == 0 && stat(writer->temporary, &named) == 0 &&
            opened.st_dev == named.st_dev && opened.st_ino == named.st_ino) {
            writer->file = file;
            return ftruncate(file, 0) == 0 || io_failed(writer, error);
        }
        close(file);
    }
}

bool gguf_writer_begin(struct gguf_writer *writer, struct error *error) {
    struct buffer head = {0};
    buffer_append(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, writer->tensor_count);
    put_u64(&head, writer->key_count);
    buffer_append(&head, writer->keys.bytes, writer->keys.size);
    buffer_append(&head, writer->tensors.bytes, writer->tensors.size);
    if (writer->failed || writer->keys.failed || writer->tensors.failed || head.failed) {
        buffer_release(&head);
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its keys and tensors", writer->path);
    }

    writer->data = size_align(head.size, ALIGNMENT);
    bool done = open_temporary(writer, error) && write_all(writer, head.bytes, head.size, 0, error);
    buffer_release(&head);
    if (!done)
        return false;

    /* What is between tensors reads as zeros. A disk that is full is told now, not after hours. */
    off_t size = (off_t)(writer->data + size_align(writer->end, ALIGNMENT));
    int code = size ? posix_fallocate(writer->file, 0, size) : 0;
    if (code && code != EOPNOTSUPP && code != EINVAL) {
        errno = code;
        return io_failed(writer, error);
    }
    return ftruncate(writer->file, size) == 0 || io_failed(writer, error);
}

bool gguf_writer_put(struct gguf_writer *writer, size_t tensor, size_t offset, const void *bytes, size_t size,
                     struct error *error) {
    if (tensor >= writer->tensor_count || !range_fits(offset, size, writer->places[tensor].size))
        return error_set(error, ERROR_INTERNAL, "%s: weights that do not fit their tensor", writer->path);
    return write_all(writer, bytes, size, writer->data + writer->places[tensor].offset + offset, error);
}

bool gguf_writer_finish(struct gguf_writer *writer, struct error *error) {
    if (fsync(writer->file) < 0 || rename(writer->temporary, writer->path) < 0)
        return io_failed(writer, error);
    int file = writer->file;
    writer->file = -1;
    return close(file) == 0 || io_failed(writer, error);
}
