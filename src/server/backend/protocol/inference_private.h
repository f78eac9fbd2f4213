/* What the files that read and write inference requests share. Nobody else includes this. */
#pragma once
#include "base/json.h"
#include "server/backend/protocol/inference.h"
#include "server/backend/protocol/json_numbers.h"

/* A request while it is read. */
struct reading {
    struct inference *inference;
    const struct engine *engine;
    const char *binary; /* the bytes behind the JSON */
    size_t binary_size;
    struct numbers_span spans[NUMBERS_SPANS];
    int span_count;
    bool filled[INFERENCE_PORTS];
    struct error *error;
};

struct inference *inference_create(const struct engine *engine, const struct memory_wait *wait,
                                   struct error *error);
/* Memory for a tensor of the inference whose type and shape are set. */
bool inference_tensor_allocate(struct inference *inference, struct tensor *tensor, struct error *error);
/* Charge for `bytes` more that are the inference's, waiting for room where there is none. */
bool inference_charge(struct inference *inference, size_t bytes, struct error *error);
/* The most numbers that may stand in a JSON text. */
size_t inference_count_numbers(const char *text, size_t size);
bool inference_shape_fits(const struct shape *shape, const struct engine_port *port, struct error *error);
/* Index of an input (else output) of that name; -1 where there is none. */
int inference_port_find(const struct engine *engine, const char *name, bool input);
/* The array of numbers that numbers_extract took out and left `value` for; NULL where it is no such mark. */
const struct numbers_span *inference_span(const struct reading *reading, const json_t *value);
/* Note that photos become input `port`: it must be the only one, of rank 4. */
bool inference_photo_input(struct reading *reading, int port);
/* Photos in JSON are base64. Room for all of them is made once: `room` bytes, as large as the request's text.
 */
bool inference_photo_base64(struct reading *reading, const json_t *text, size_t room, size_t *used);
/* Can the type hold each of these numbers as it is? ERROR_INVALID names the input and the number. */
bool inference_check_values(const char *name, enum dtype dtype, const double *values, size_t count,
                            struct error *error);
/* JSON has no NaN and no infinities: ERROR_MODEL names the output that holds one. */
bool inference_check_finite(const char *name, const struct tensor *tensor, struct error *error);
/* One element as JSON. */
void inference_write_value(struct buffer *json, const struct tensor *tensor, int64_t index);

/* inference_tensorflow.c: the answer as TensorFlow Serving writes it. */
bool inference_tensorflow_write(const struct inference *inference, const struct engine *engine,
                                struct buffer *json, struct error *error);
