/* Any bytes as an inference request: the first byte chooses the protocol; and as the metrics of a model's
 * process. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/supervisor/metrics_merge.h"
#include "server/backend/protocol/inference.h"

#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A process that says so, ends, and comes again. */
static void read_metrics(const char *bytes, size_t size) {
    struct metrics_merge *merge = metrics_merge_create();
    struct buffer text = {.limit = 1 << 20};
    metrics_merge_read(merge, bytes, bytes, size, NULL);
    metrics_merge_close(merge, bytes);
    metrics_merge_read(merge, bytes, bytes, size / 2, NULL);
    metrics_merge_write(merge, &text);
    metrics_merge_forget(merge, bytes);
    metrics_merge_free(merge);
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
        inference_free(inference_parse_tensorflow(model_get(), body, size, NULL, &error));
    else if (*bytes % 3 == 1)
        inference_free(inference_parse(model_get(), body, size, size - size / 4, NULL, &error));
    else
        read_metrics(body, size);
    free(body);
    return 0;
}
