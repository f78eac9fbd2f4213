/* Any bytes as an inference request: the first byte chooses the protocol; and as the metrics of a model's
 * process. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/figures.h"
#include "serve/inference.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const struct model *model_get(void) {
    static struct model *model;
    struct model_options options = {.engine = {.precision = PRECISION_F32, .threads = 1, .no_baked = true}};
    struct error error;
    if (!model && !(model = model_load(FUZZ_MODEL, &options, &error))) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return model;
}

/* A process that says so, ends, and comes again. */
static void read_figures(const char *bytes, size_t size) {
    struct figures *figures = figures_create();
    struct buffer text = {.limit = 1 << 20};
    figures_take(figures, bytes, bytes, size, NULL);
    figures_close(figures, bytes);
    figures_take(figures, bytes, bytes, size / 2, NULL);
    figures_write(figures, &text);
    figures_forget(figures, bytes);
    figures_free(figures);
    buffer_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error;
    if (size < 2)
        return 0;
    /* A copy without room behind it: what is read beyond the end is seen. */
    char *body = malloc(size - 1);
    memcpy(body, bytes + 1, size - 1);
    size--;
    if (*bytes % 3 == 0)
        inference_free(inference_parse_tensorflow(model_get(), body, size, &error));
    else if (*bytes % 3 == 1)
        inference_free(inference_parse(model_get(), body, size, size - size / 4, &error));
    else
        read_figures(body, size);
    free(body);
    return 0;
}
