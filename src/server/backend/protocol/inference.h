/* Tensors in and out of a model over HTTP: the Open Inference Protocol V2 (JSON and binary tensors, photos as
 * BYTES, classification) and TensorFlow Serving's predict. Parsing and writing only; no sockets. All input is
 * hostile. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/memory_budget.h"
#include "model/model.h"

#define INFERENCE_PORTS 16   /* inputs or outputs of one request */
#define INFERENCE_PHOTOS 256 /* photos in one request */

/* A run of bytes within the request. */
struct inference_photo {
    const char *bytes;
    size_t size;
};

/* An output that was asked for. */
struct inference_output {
    int port; /* of the engine */
    bool binary;
    int classes;          /* > 0: classification, the best so many */
    struct tensor tensor; /* after inference_take: owned */
};

struct inference {
    char *id;           /* NULL where there is none; owned */
    int64_t timeout_us; /* the longest time that it may wait for its run; 0: not limited by itself */
    bool tensorflow;
    bool row_format;                       /* TensorFlow: "instances", not "inputs" */
    struct tensor inputs[INFERENCE_PORTS]; /* in the engine's order; owned, but for photos not decoded yet */
    int input_count;
    int photo_input; /* the input that photos become; -1: none */
    struct inference_photo photos[INFERENCE_PHOTOS];
    int photo_count;
    char *decoded; /* photos that came as base64; owned */
    struct inference_output outputs[INFERENCE_PORTS];
    int output_count;
    struct memory_charge charge; /* of all that it owns */
    struct memory_wait wait;     /* for more, on a decoding thread */
};

/* `json_size`: bytes of the body that are JSON, the rest is binary tensors; the body lives as long as the
 * inference. `wait`: for memory, here and in what follows; NULL: not at all. ERROR_TOO_LARGE and
 * ERROR_UNAVAILABLE: there is none. */
struct inference *inference_parse(const struct model *model, const char *body, size_t size, size_t json_size,
                                  const struct memory_wait *wait, struct error *error);
/* The whole body is the only input's elements: its name, type and shape are the model's, and one dimension at
 * most is free. The outputs come in binary. */
struct inference *inference_parse_raw(const struct model *model, const char *body, size_t size,
                                      const struct memory_wait *wait, struct error *error);
struct inference *inference_parse_tensorflow(const struct model *model, const char *body, size_t size,
                                             const struct memory_wait *wait, struct error *error);
void inference_free(struct inference *inference); /* NULL is welcome */
/* Turn the photos into the input they stand for. Timing grows by decode and preprocess. */
bool inference_decode(struct inference *inference, const struct model *model, struct timing *timing,
                      struct error *error);
/* ERROR_TIMEOUT: the client has gone, or the deadline is over; to be asked between two photos or runs. */
bool inference_is_wanted(const struct inference *inference, struct error *error);
/* The most bytes that inference_write writes. */
size_t inference_answer_bytes(const struct inference *inference);
/* Copy the outputs that were asked for out of `all`, what a run gave: of rows from `first` on, where the run
 * was for several requests; all of them where `first` is -1. ERROR_MEMORY. */
bool inference_take(struct inference *inference, const struct tensor *all, int64_t first, int64_t rows,
                    struct error *error);
/* A run of a piece of the inputs' rows: copy its outputs to where they belong among `rows` rows, from `first`
 * on. */
bool inference_put(struct inference *inference, const struct tensor *all, int64_t first, int64_t rows,
                   struct error *error);
/* So many rows of every input, from `first` on; the data stay the inference's. */
void inference_rows(const struct inference *inference, int64_t first, int64_t count, struct tensor *ret);
/* The answer: JSON into `json`, binary outputs into `binary`, which follow it. */
bool inference_write(const struct inference *inference, const struct model *model, const char *name,
                     struct buffer *json, struct buffer *binary, struct error *error);
/* "FP32", "INT64", …; NULL for types the protocol has no name for. */
const char *inference_type_name(enum dtype dtype);
