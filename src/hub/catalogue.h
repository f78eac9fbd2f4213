/* The models that guichet can pull by name, and where they come from. Constant data; any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* A file of a catalogue entry, with its expected size and hash. */
struct catalogue_file {
    const char *path;   /* in the repository */
    const char *name;   /* in the model's folder */
    const char *sha256; /* 64 hexadecimal digits */
    uint64_t size;      /* bytes */
};

struct catalogue_entry {
    const char *name;
    const char *title;      /* a few words for a list */
    const char *repository; /* OWNER/REPO on Hugging Face */
    const char *revision;
    uint64_t size; /* bytes to fetch, approximately */
    /* [file_count]; 0: the repository's listing gives files and hashes */
    const struct catalogue_file *files;
    size_t file_count;
};

size_t catalogue_count(void);
const struct catalogue_entry *catalogue_at(size_t index);
/* NULL for an unknown name. */
const struct catalogue_entry *catalogue_find(const char *name);
