/* What a person asked to pull, as URLs, file names and hashes. Blocking; any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "hub/catalogue.h"
#include "hub/huggingface.h"
#include "model/name.h"

struct pull_options {
    const char *name;   /* of the model; NULL: from the source */
    const char *file;   /* the network's path in a repository, .onnx or .gguf; NULL: chosen (onnx/model.onnx,
                           model.onnx, or the only one; of GGUF files the variant, or the usual one) */
    const char *sha256; /* of the file at a URL; NULL: not known */
    const char *endpoint; /* of Hugging Face */
    const char *token;    /* for the endpoint; NULL: none */
    int retries;          /* of each file, after transient failures */
    bool force;           /* replace an existing model */
    /* Called often while `file` arrives, number `number` (from 1) of `count`; bytes `done` of `total` (0: not
     * known). NULL: no reports. */
    void (*progress)(void *context, const char *file, int number, int count, uint64_t done, uint64_t total);
    void *context;
};

struct pull_file {
    char *url, *name; /* name: in the model's folder, without a slash */
    uint64_t size;    /* 0: not known */
    uint64_t limit;
    char sha256[SHA256_TEXT_BYTES]; /* "" if unknown */
};

struct pull_source {
    char name[MODEL_NAME_BYTES];         /* of the model */
    char *origin;                        /* for messages: "hf:OWNER/REPO@REV" or the URL */
    char *repository, *revision;         /* NULL for a URL */
    const struct catalogue_entry *entry; /* NULL: not from the catalogue */
    char variant[MODEL_NAME_PART + 1];   /* of a language model: as asked for, then as chosen; "" */
    bool is_language;                    /* once its files are listed: they are GGUF */
    char *file;                          /* the file in it that was asked for; NULL: any */
    struct huggingface_listing listing;  /* of the repository, once it was asked for */
    char *network; /* the network's path in it, or its URL, where it may have weights beside it; else NULL */
    struct pull_file files[LIMIT_PULL_FILES];
    int count;
};

/* `text`: a name of the catalogue, hf:OWNER/REPO[@REV][:VARIANT] with or without the hf:, the address of a
 * repository's page or of a file's page there, or the http(s) URL of an .onnx or .gguf file. Sets name and
 * origin, and sends no request. ERROR_NOT_FOUND for an unknown name, ERROR_INVALID for what is malformed. */
bool pull_source_parse(const char *text, const struct pull_options *options, struct pull_source *ret,
                       struct error *error);
/* Fill in the files, once for each source; requests the repository's listing where the catalogue does not
 * name them. */
bool pull_source_list_files(struct pull_source *source, const struct pull_options *options,
                            struct error *error);
/* Add the files of weights that the network names, once it is here: `path`. What the repository does not have
 * is left for the network's reader to name. */
bool pull_source_add_named(struct pull_source *source, const struct pull_options *options, const char *path,
                           struct error *error);
/* Is `name` that of a listed file beside the network? */
bool pull_source_lists(const struct pull_source *source, const char *name, size_t length);
void pull_source_release(struct pull_source *source);
