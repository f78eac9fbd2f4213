/* POST …/infer and …:predict: tensors, or photos as tensors of bytes, to the model and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/backend_private.h"

static void run_write(struct work *work) {
    struct job *job = job_of_work(work);
    struct error error = {0};
    struct buffer json = {0}, binary = {0};
    if (!inference_write(job->inference, job->backend->model, job->backend->name, &json, &binary, &error)) {
        buffer_release(&json);
        buffer_release(&binary);
        job_fail(job, &error);
        return;
    }
    char length[24];
    struct http_header headers[2] = {{"Content-Type", "application/json"}};
    int count = 1;
    if (binary.size) {
        snprintf(length, sizeof length, "%zu", json.size);
        headers[0].value = "application/octet-stream";
        headers[count++] = (struct http_header){"Inference-Header-Content-Length", length};
        buffer_append(&json, binary.bytes, binary.size);
        buffer_release(&binary);
    }
    if (json.failed) {
        buffer_release(&json);
        job_fail(job, &(struct error){ERROR_MEMORY, "no memory for the answer"});
        return;
    }
    job_measure(job, true);
    struct http_request *request = job->request;
    job_free(job);
    http_reply(request, 200, headers, count, http_body_take(json.bytes, json.size));
}

/* The model's thread has better to do than writing numbers. */
void backend_tensors_done(struct job *job) {
    job_work(job, run_write);
}

/* Parsing thousands of numbers and decoding photos is for the decoding threads, too. */
static void begin(struct job *job, struct inference *inference, struct error *error) {
    struct backend *backend = job->backend;
    job->inference = inference;
    if (!inference || !inference_decode(inference, backend->model, &job->timing, error)) {
        batcher_expect(backend->batcher, -1);
        job_fail(job, error);
        return;
    }
    batcher_submit(backend->batcher, &job->item);
}

/* How much of the body is JSON. */
static bool find_json_size(const struct http_request *request, size_t *ret, struct error *error) {
    const char *header = http_request_header(request, "Inference-Header-Content-Length");
    *ret = request->body->size;
    if (!header)
        return true;
    char *end;
    unsigned long long size = strtoull(header, &end, 10);
    if (*header < '0' || *header > '9' || *end || size > request->body->size)
        return error_set(error, ERROR_INVALID,
                         "Inference-Header-Content-Length: %.40s is no length within the body", header);
    *ret = (size_t)size;
    return true;
}

static void run_infer(struct work *work) {
    struct job *job = job_of_work(work);
    const struct http_body *body = job->request->body;
    struct error error = {0};
    size_t json_size;
    if (!job_is_alive(job))
        return;
    bool good = find_json_size(job->request, &json_size, &error);
    begin(job, good ? inference_parse(job->backend->model, body->bytes, body->size, json_size, &error) : NULL,
          &error);
}

static void run_tensorflow(struct work *work) {
    struct job *job = job_of_work(work);
    const struct http_body *body = job->request->body;
    struct error error = {0};
    if (job_is_alive(job))
        begin(job, inference_parse_tensorflow(job->backend->model, body->bytes, body->size, &error), &error);
}

static void start(struct backend *backend, struct http_request *request, void (*run)(struct work *work)) {
    struct job *job = job_create(backend, request, JOB_TENSORS);
    if (!job)
        return;
    batcher_expect(backend->batcher, 1);
    job_work(job, run);
}

void backend_infer(struct backend *backend, struct http_request *request) {
    start(backend, request, run_infer);
}

void backend_tensorflow_predict(struct backend *backend, struct http_request *request) {
    start(backend, request, run_tensorflow);
}
