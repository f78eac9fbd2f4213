/* Changes to a baked file: read as any file from a stranger, its checksum mended, and where an engine comes
 * out of it, planned and run. The file is made here, as it is right for one processor and version of oneDNN
 * only.
 *
 * An input is which network (a byte), then changes of six bytes: what is done (a byte), where (four bytes, in
 * which the top bit means within the header and the table), and with which byte. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/networks.h"
#include "base/file.h"
#include "engine/baked.h"
#include "engine/baked_format.h"
#include "engine/engine.h"
#include "onnx/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define NETWORKS 2
#define CHANGE_BYTES 6
#define MOST_CHANGES 32

struct fuzzed_model {
    char path[96], baked_path[128];
    enum precision precision;
    char *bytes; /* [size] of the baked file */
    size_t size;
};

static char folder[] = "/tmp/guichet-fuzz-XXXXXX";
static struct fuzzed_model models[NETWORKS];
static float pixels[3 * 32 * 32];

static bool run(struct engine *engine, struct error *error) {
    struct tensor input = {DTYPE_F32, {.rank = 4}, pixels}, output;
    struct engine_context *context = engine_context_create(engine, error);
    bool fits = engine_input_count(engine) == 1 && engine_output_count(engine) >= 1 &&
                engine_input(engine, 0)->shape.rank == 4;

    for (int i = 0; fits && i < 4; i++) {
        int64_t given = engine_input(engine, 0)->shape.dims[i];
        input.shape.dims[i] = given >= 0 ? given : i == 0 ? 1 : 32;
    }
    int64_t elements = fits ? shape_elements(&input.shape) : -1;
    fits = elements >= 0 && (size_t)elements <= sizeof pixels / sizeof pixels[0];
    bool done = context && fits && engine_run(context, &input, 1, &output, 1, error);

    engine_context_free(context);
    return done;
}

/* The network is written, baked, and removed again, so that nothing but the baked file is read later. */
static bool model_create(struct fuzzed_model *model, struct graph *graph, enum precision precision) {
    const struct engine_options options = {.precision = precision, .threads = 1};
    struct error error = {0};

    model->precision = precision;
    snprintf(model->path, sizeof model->path, "%s/%s.onnx", folder, precision_name(precision));
    baked_path(model->path, precision, model->baked_path, sizeof model->baked_path);
    bool written = onnx_graph_write(graph, model->path, &error);
    graph_free(graph);

    struct engine *engine = written ? engine_load(model->path, &options, &error) : NULL;
    if (engine && run(engine, &error) && engine_bake(engine, NULL, &error))
        model->bytes = file_read(model->baked_path, UINT32_MAX, &model->size, &error);
    if (!model->bytes)
        fprintf(stderr, "%s\n", error.message);
    engine_free(engine);
    unlink(model->path);
    unlink(model->baked_path);
    return model->bytes != NULL;
}

static void remove_folder(void) {
    rmdir(folder);
}

static void prepare(void) {
    for (size_t i = 0; i < sizeof pixels / sizeof pixels[0]; i++)
        pixels[i] = (float)(i % 17) / 8 - 1;
    if (!mkdtemp(folder) || atexit(remove_folder) != 0 ||
        !model_create(&models[0], network_convolutional(), PRECISION_F32))
        abort();
    if (!model_create(&models[1], network_quantized(), PRECISION_INT8))
        models[1] = models[0];
}

static void change(char *bytes, size_t size, const uint8_t *given) {
    const struct baked_header *header = (const struct baked_header *)(const void *)models[0].bytes;
    uint32_t where;
    uint8_t value = given[5];
    memcpy(&where, given + 1, sizeof where);

    size_t table = header->table_offset + header->entry_count * sizeof(struct baked_entry);
    size_t within = where >> 31 ? (table < size ? table : size) : size;
    size_t at = (where & INT32_MAX) % within;
    switch (given[0] % 4) {
    case 0:
        bytes[at] = (char)value;
        break;
    case 1:
        bytes[at] = (char)(bytes[at] + (char)value);
        break;
    case 2: /* a whole number becomes huge, negative or nothing */
        memset(bytes + at / 8 * 8,
               value % 3 == 0   ? 0
               : value % 3 == 1 ? 0xff
                                : 0x7f,
               size - at / 8 * 8 < 8 ? size - at / 8 * 8 : 8);
        break;
    default:
        bytes[at] ^= (char)(1 << value % 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error = {0};
    if (!models[0].bytes)
        prepare();

    const struct fuzzed_model *model = &models[size ? bytes[0] % NETWORKS : 0];
    const struct engine_options options = {.precision = model->precision, .threads = 1};
    char *file = malloc(model->size);
    if (!file)
        return 0;
    memcpy(file, model->bytes, model->size);
    for (size_t i = 0; i < MOST_CHANGES && 1 + (i + 1) * CHANGE_BYTES <= size; i++)
        change(file, model->size, bytes + 1 + i * CHANGE_BYTES);

    struct baked_header *header = (struct baked_header *)(void *)file;
    header->checksum = baked_checksum((const uint8_t *)file + sizeof *header, model->size - sizeof *header);
    int fd = open(model->baked_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, file, model->size) == (ssize_t)model->size;
    if (fd >= 0)
        close(fd);

    struct engine *engine = written ? engine_load(model->path, &options, &error) : NULL;
    if (engine)
        run(engine, &error);
    engine_free(engine);
    unlink(model->baked_path);
    free(file);
    return 0;
}
