/* Any bytes as a file or text that somebody else wrote: the first byte chooses which. Files lie in a folder
 * of this process, in memory where the system has such a place. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/hash.h"
#include "graph/graph.h"
#include "model/config.h"
#include "model/head.h"
#include "model/labels.h"
#include "model/model.h"
#include "model/preprocessing.h"
#include "onnx/onnx.h"
#include "quant/observe.h"
#include "server/edge/api_keys.h"
#include "server/edge/session.h"
#include "tensor/npy.h"

#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char folder[64];

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void file_put(const char *name, const char *bytes, size_t size) {
    int file = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size || close(file) != 0) {
        perror(path_of(name));
        exit(1);
    }
}

static void folder_remove(void) {
    static const char *const names[] = {
        "config.json", "preprocessor_config.json", "labels_fr.json", "model.onnx", "weights.bin", "keys",
        "state"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    rmdir(folder);
}

static void folder_make(void) {
    struct stat status;
    if (*folder)
        return;
    snprintf(folder, sizeof folder, "%s/guichet-fuzz-XXXXXX",
             stat("/dev/shm", &status) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    atexit(folder_remove);
    file_put("weights.bin", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64);
}

static void read_preprocessing(void) {
    struct preprocessing preprocessing;
    struct error error;
    preprocessing_read(path_of("preprocessor_config.json"), &preprocessing, &error);
}

/* Labels, kind of head, timm's preprocessing; another language's labels may be the bytes, too. */
static void read_config(void) {
    struct error error;
    struct labels labels;
    struct head head;
    struct preprocessing preprocessing;
    bool found;
    struct onnx_metadata metadata = {.count = 0};
    struct arena *arena = arena_create();

    if (labels_load(folder, 3, arena, &labels, &error)) {
        labels_find(&labels, "a");
        labels_find(&labels, labels.names[2]);
    }
    head_find(folder, &metadata, model_engine(model_get()), model_output(model_get()), 3, arena, &head,
              &error);
    preprocessing_read_timm(path_of("config.json"), 0, 0, &preprocessing, &found, &error);
    json_decref(config_read(path_of("config.json"), JSON_OBJECT, &error));
    arena_free(arena);
}

/* A network whose weights may lie in weights.bin, 64 bytes. */
static void read_external(void) {
    struct error error;
    graph_free(onnx_graph_read(path_of("model.onnx"), &error));
}

/* The check at the end is put right, so that what stands before it is read. */
static void read_state(const char *bytes, size_t size) {
    const struct observe_state state = {.path = path_of("state"), .key = 0};
    const int values[] = {1, 4}, axes[] = {1, 0};
    struct observations observations;
    struct error error;
    char *whole = malloc(size + sizeof(uint64_t));
    uint64_t check = hash_bytes(HASH_START, bytes, size);

    memcpy(whole, bytes, size);
    memcpy(whole + size, &check, sizeof check);
    file_put("state", whole, size + sizeof check);
    free(whole);
    if (!observations_create(values, axes, 2, &observations, &error))
        return;
    if (observations_load(&observations, &state))
        observations_save(&observations, &state, &error);
    observations_release(&observations);
}

static void read_api_keys(void) {
    struct error error;
    struct api_keys *keys = api_keys_read(path_of("keys"), &error);
    const struct api_key *key = keys ? api_keys_find(keys, "a", 1) : NULL; /* a seed has its hash */
    if (key) {
        api_key_allows_model(key, api_key_name(key));
        api_key_has_right(key, RIGHT_PREDICT);
    }
    api_keys_release(keys);
}

/* Keys of sessions; and a cookie under a fixed key, then signed anew and opened again. */
static void read_session(const char *text, size_t size) {
    struct session_keys keys = {.count = 1};
    struct session session;
    char cookie[SESSION_COOKIE_BYTES];
    struct error error;

    if (session_open(text, size, &keys, 1000, &session)) {
        session_sign(&session, &keys, cookie);
        if (!session_open(cookie, strlen(cookie), &keys, 1000, &session))
            abort();
    }
    session_keys_parse(text, "fuzz", &keys, &error);
}

/* What is read is as long as it says, and comes out as it went in. */
static void read_npy(const uint8_t *bytes, size_t size) {
    struct error error;
    struct tensor tensor, again;
    struct buffer copy = {0};
    if (!npy_read(bytes, size, &tensor, &error) || tensor.dtype == DTYPE_BOOL)
        return;
    if (!npy_append(&copy, &tensor) || !npy_read((const uint8_t *)copy.bytes, copy.size, &again, &error) ||
        again.dtype != tensor.dtype || !shape_equal(&again.shape, &tensor.shape) ||
        (tensor_bytes(&tensor) && memcmp(again.data, tensor.data, tensor_bytes(&tensor)) != 0))
        abort();
    buffer_release(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const names[] = {"preprocessor_config.json", "config.json", "labels_fr.json",
                                        "model.onnx", "keys"};
    if (size < 1)
        return 0;
    /* A copy of its own size, so that a read past its end is seen; text ends with its NUL. */
    char *text = malloc(size);
    unsigned kind = bytes[0] % 8;
    memcpy(text, bytes + 1, size - 1);
    text[size - 1] = 0;

    folder_make();
    if (kind < sizeof names / sizeof *names)
        file_put(names[kind], text, size - 1);
    if (kind == 0)
        read_preprocessing();
    else if (kind <= 2)
        read_config();
    else if (kind == 3)
        read_external();
    else if (kind == 4)
        read_api_keys();
    else if (kind == 5)
        read_state(text, size - 1);
    else if (kind == 6)
        read_session(text, size - 1);
    else
        read_npy((const uint8_t *)text, size - 1);
    free(text);
    return 0;
}
