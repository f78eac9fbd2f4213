/* Train a network on given numbers, and print the loss of each step: for losses.py.
 *
 *   train_probe MODEL.onnx INPUTS TARGETS ROWS CLASSES STEPS sgd|adamw RATE
 *
 * INPUTS: float32 [STEPS, ROWS, …] of the network's input; TARGETS: float32 [STEPS, ROWS, CLASSES]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "train/trainer.h"

static int fail(const struct error *error) {
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

int main(int argc, char **argv) {
    struct error error = {0};
    size_t input_bytes = 0, target_bytes = 0;
    if (argc != 9)
        return 2;

    cleanup(graph_freep) struct graph *graph = onnx_graph_read(argv[1], &error);
    cleanup(freep) char *inputs = graph ? file_read(argv[2], 1 << 28, &input_bytes, &error) : NULL;
    cleanup(freep) char *targets = inputs ? file_read(argv[3], 1 << 28, &target_bytes, &error) : NULL;
    if (!targets || !operators_bind(graph, &error))
        return fail(&error);

    long rows = strtol(argv[4], NULL, 10), classes = strtol(argv[5], NULL, 10);
    long steps = strtol(argv[6], NULL, 10);
    bool sgd = strcmp(argv[7], "sgd") == 0;
    struct trainer_options options = {.optimizer = {.method = sgd ? TRAIN_SGD : TRAIN_ADAMW,
                                                    .rate = strtod(argv[8], NULL),
                                                    .momentum = sgd ? 0.9 : 0,
                                                    .decay = 0.01},
                                      .input = graph->inputs[0]->shape,
                                      .threads = 2};
    options.input.dims[0] = rows;
    size_t row = (size_t)shape_elements(&options.input) / (size_t)rows;
    if (input_bytes != (size_t)(steps * rows) * row * sizeof(float) ||
        target_bytes != (size_t)(steps * rows * classes) * sizeof(float))
        return 2;

    struct trainer *trainer = trainer_create(graph, &options, &error);
    double loss = 0;
    for (long i = 0; trainer && i < steps; i++) {
        const float *x = (const float *)inputs + (size_t)(i * rows) * row;
        if (!trainer_step(trainer, x, (const float *)targets + i * rows * classes, &loss, &error))
            break;
        printf("%.7f\n", loss);
    }
    bool done = trainer && trainer_step_count(trainer) == steps;
    trainer_free(trainer);
    return done ? 0 : fail(&error);
}
