/* What a person asked to pull, turned into addresses, names and hashes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "http/download.h"
#include "model/directory.h"
#include "serve/hub.h"

struct pull_options {
    const char *name;   /* of the model; NULL: from the source */
    const char *file;   /* the network's path in a repository; NULL: chosen (onnx/model.onnx, model.onnx, the
                           only one) */
    const char *sha256; /* of a plain address's file; NULL: not known */
    const char *endpoint; /* of Hugging Face */
    const char *token;    /* for the endpoint; NULL: none */
    int retries;
    bool force; /* replace a model that is there */
    /* Called often while `file` (its number and how many there are) comes; NULL: nobody looks. */
    void (*progress)(void *context, const char *file, int number, int count, uint64_t done, uint64_t total);
    void *context;
};

#define PULL_FILES 32

struct pull_file {
    char *url, *name; /* name: in the model's folder, no slash */
    uint64_t size;    /* 0: not known */
    uint64_t limit;
    char sha256[DOWNLOAD_SHA256_TEXT]; /* "" where it is not known */
};

struct pull_plan {
    char name[MODEL_NAME_BYTES];
    char *origin;                        /* for a person: "hf:OWNER/REPO@REV" or the address */
    char *repository, *revision;         /* of a hub; NULL for a plain address */
    const struct catalogue_entry *entry; /* NULL: not from the catalogue */
    struct pull_file files[PULL_FILES];
    int count;
};

/* `source`: a name of the catalogue, hf:OWNER/REPO[@REV], or an http(s) address of an .onnx file. Gives name
 * and origin without asking anybody. ERROR_NOT_FOUND for a name that nobody knows. */
bool pull_plan_make(const char *source, const struct pull_options *options, struct pull_plan *ret,
                    struct error *error);
/* Fill in the files; asks the hub for its listing where the catalogue does not know them. Once per plan. */
bool pull_plan_list(struct pull_plan *plan, const struct pull_options *options, struct error *error);
void pull_plan_release(struct pull_plan *plan);
