/* Writing GGUF files. The head is known before any weights are: keys and tensors are told first, then the
 * weights, in any order and in pieces. The file has a temporary name until it is finished. One thread at a
 * time, but for gguf_writer_put. */
#pragma once
#include "gguf/gguf.h"

struct gguf_writer;
struct gguf_writer *gguf_writer_create(const char *path, struct error *error);
/* Leaves nothing behind where it was not finished. */
void gguf_writer_free(struct gguf_writer *writer);

/* Keys. Memory that is out is told by gguf_writer_begin. */
void gguf_writer_value(struct gguf_writer *writer, const struct gguf_value *value);
void gguf_writer_integer(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_real(struct gguf_writer *writer, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *writer, const char *key, bool value);
void gguf_writer_text(struct gguf_writer *writer, const char *key, const char *text, size_t size);
/* An array; its elements come by gguf_writer_element. */
void gguf_writer_array(struct gguf_writer *writer, const char *key, enum gguf_type type, uint64_t count);
/* Of strings: their bytes; of numbers: one of them as the file has it. */
void gguf_writer_element(struct gguf_writer *writer, enum gguf_type type, const void *bytes, size_t size);
/* A tensor's description: its name, dimensions and type count. Returns its index. */
size_t gguf_writer_tensor(struct gguf_writer *writer, const struct gguf_tensor *tensor);

/* Write the head, and take room for the weights. ERROR_IO where another writer is at the same path. */
bool gguf_writer_begin(struct gguf_writer *writer, struct error *error);
/* Bytes [offset, offset + size) of a tensor. Any thread. */
bool gguf_writer_put(struct gguf_writer *writer, size_t tensor, size_t offset, const void *bytes, size_t size,
                     struct error *error);
/* All is written: put the file in its place. */
bool gguf_writer_finish(struct gguf_writer *writer, struct error *error);
