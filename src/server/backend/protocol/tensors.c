/* POST …/infer and …:predict: tensors, or photos as tensors of bytes, to the model and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http/inflate.h"
#include "server/backend/handlers.h"
#include "server/backend/jobs.h"
#include "server/backend/protocol/inference.h"

enum { COMPRESSED_LEAST = 4096 }; /* bytes of an answer */

/* Compressed where the client asks for it and it saves something; as it was where memory is short. */
static struct http_body *compress(const struct job *job, struct http_body *body, struct http_header *headers,
                                  int *count) {
    const char *encoding = body->size < COMPRESSED_LEAST
                               ? NULL
                               : http_encoding_wanted(http_request_header(job->request, "Accept-Encoding"));
    struct http_body *packed = encoding ? http_body_encode_content(body, encoding) : NULL;
    if (!packed)
        return body;

    http_body_release(body);
    headers[(*count)++] = (struct http_header){"Content-Encoding", encoding};
    headers[(*count)++] = (struct http_header){"Vary", "Accept-Encoding"};
    return packed;
}

static void run_write(struct work *work) {
    struct job *job = job_of_work(work);
    const struct memory_wait wait = job_memory_wait(job);
    struct memory_charge charge = {.purpose = MEMORY_REPLIES};
    struct error error = {0};
    struct buffer json = {0}, binary = {0};

    if (!memory_charge_wait(&charge, inference_answer_bytes(job->inference), &wait, &error) ||
        !inference_write(job->inference, backend_model(job->backend), backend_name(job->backend), &json,
                         &binary, &error)) {
        buffer_release(&json);
        buffer_release(&binary);
        memory_charge_release(&charge);
        job_fail(job, &error);
        return;
    }

    char length[24];
    struct http_header headers[4] = {{"Content-Type", "application/json"}};
    int count = 1;

    if (binary.size) {
        snprintf(length, sizeof length, "%zu", json.size);
        headers[0].value = "application/octet-stream";
        headers[count++] = (struct http_header){"Inference-Header-Content-Length", length};
        buffer_append(&json, binary.bytes, binary.size);
        buffer_release(&binary);
    }

    struct http_body *answer = json.failed ? NULL : http_body_take(json.bytes, json.size);
    memory_charge_set(&charge, json.size);
    if (!answer) {
        if (json.failed)
            buffer_release(&json);
        memory_charge_release(&charge);
        job_fail(job, &(struct error){ERROR_MEMORY, "not enough memory for the answer"});
        return;
    }
    answer->charge = charge;
    answer = compress(job, answer, headers, &count);
    job_respond(job, headers, count, answer);
}

/* Numbers are written on a decoding thread: the model's own goes on with the next batch. */
void job_finish_tensors(struct job *job) {
    job_decode(job, run_write);
}

/* Parsing thousands of numbers and decoding photos is for the decoding threads, too. */
static void begin(struct job *job, struct inference *inference, struct error *error) {
    struct backend *backend = job->backend;
    job->inference = inference;
    if (inference && inference->timeout_us)
        job_limit_wait(job, inference->timeout_us);
    if (!inference || !inference_decode(inference, backend_model(backend), &job->timing, error)) {
        job_fail(job, error);
        return;
    }
    job_submit(job);
}

/* How much of the body is JSON. */
static bool find_json_size(const struct job *job, size_t *ret, struct error *error) {
    const char *header = http_request_header(job->request, "Inference-Header-Content-Length");
    *ret = job->body->size;
    if (!header)
        return true;

    char *end;
    unsigned long long size = strtoull(header, &end, 10);
    if (*header < '0' || *header > '9' || *end || size > job->body->size)
        return error_set(error, ERROR_INVALID,
                         "Inference-Header-Content-Length: %.40s is not a length within the body", header);

    *ret = (size_t)size;
    return true;
}

static void run_infer(struct work *work) {
    struct job *job = job_of_work(work);
    struct error error = {0};
    size_t json_size;

    if (!job_is_alive(job) || !job_unpack(job))
        return;

    const struct http_body *body = job->body;
    const struct memory_wait wait = job_memory_wait(job);
    const struct model *model = backend_model(job->backend);
    struct inference *inference = NULL;
    if (find_json_size(job, &json_size, &error))
        inference = json_size || !http_request_header(job->request, "Inference-Header-Content-Length")
                        ? inference_parse(model, body->bytes, body->size, json_size, &wait, &error)
                        : inference_parse_raw(model, body->bytes, body->size, &wait, &error);
    begin(job, inference, &error);
}

static void run_tensorflow(struct work *work) {
    struct job *job = job_of_work(work);
    struct error error = {0};

    if (!job_is_alive(job) || !job_unpack(job))
        return;

    const struct memory_wait wait = job_memory_wait(job);
    begin(job,
          inference_parse_tensorflow(backend_model(job->backend), job->body->bytes, job->body->size, &wait,
                                     &error),
          &error);
}

static void start(struct backend *backend, struct http_request *request, void (*run)(struct work *work)) {
    struct job *job = job_create(backend, request, JOB_TENSORS);
    if (!job)
        return;
    job_announce(job);
    job_decode(job, run);
}

void backend_infer(struct backend *backend, struct http_request *request) {
    start(backend, request, run_infer);
}

void backend_predict_tensorflow(struct backend *backend, struct http_request *request) {
    start(backend, request, run_tensorflow);
}
