#include "server/backend/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "http/inflate.h"
#include "server/backend/handlers.h"
#include "server/backend/private.h"
#include "server/backend/protocol/inference.h"
#include "server/edge/context.h"
#include "server/edge/forwarding.h"
#include "server/edge/respond.h"

#define LONGEST_TIMEOUT_MS 3600000
#define JOB_HEADERS 6 /* of a response, at most */

struct job *job_of_work(struct work *work) {
    return (struct job *)(void *)((char *)work - offsetof(struct job, work));
}

static void job_free(struct job *job) {
    if (job->announced)
        batcher_expect(job->backend->batcher, -1);
    atomic_fetch_sub(&job->backend->pending, 1);
    http_body_release(job->fetched);
    http_body_release(job->body);
    inference_free(job->inference);
    free(job->url);
    free(job->prepared.tensor);
    memory_charge_release(&job->tensors);
    free(job->predictions);
    free(job);
}

/* For the log, here and at a gateway. */
static void note_run(const struct job *job) {
    struct context *context = context_of(job->request);

    if (!job->item.begun_ns)
        return;
    context->batch = job->item.batch;
    context->queue_ms = (double)(job->item.begun_ns - job->item.queued_ns) / 1e6;
}

void job_fail(struct job *job, const struct error *error) {
    struct http_request *request = job->request;

    note_run(job);

    backend_counts_add(&job->backend->counts, job, false);
    job_free(job);
    respond_error(request, error);
}

void job_respond(struct job *job, const struct http_header *headers, int header_count,
                 struct http_body *body) {
    struct http_request *request = job->request;
    struct http_header all[JOB_HEADERS + 2];
    char batch[16], queue[32];
    int count = header_count < JOB_HEADERS ? header_count : JOB_HEADERS;

    note_run(job);
    memcpy(all, headers, (size_t)count * sizeof *all);
    if (http_request_header(request, HEADER_ASK_RUN)) {
        snprintf(batch, sizeof batch, "%d", context_of(request)->batch);
        snprintf(queue, sizeof queue, "%.3f", context_of(request)->queue_ms);
        all[count++] = (struct http_header){HEADER_BATCH, batch};
        all[count++] = (struct http_header){HEADER_QUEUE_MS, queue};
    }

    backend_counts_add(&job->backend->counts, job, true);
    job_free(job);
    respond(request, 200, all, count, body);
}

/* X-Request-Timeout-Ms, else the option. False, with the reason, where it is no number. */
static bool find_deadline(const struct backend *backend, const struct http_request *request, int64_t *ret_ns,
                          struct error *error) {
    const char *header = http_request_header(request, "X-Request-Timeout-Ms");
    long milliseconds = backend->options.timeout_ms;
    char *end;

    if (header) {
        milliseconds = strtol(header, &end, 10);
        if (end == header || *end || milliseconds < 1)
            return error_set(
                error, ERROR_INVALID,
                "X-Request-Timeout-Ms is '%.40s', which is no whole number of milliseconds from 1 on",
                header);
    }

    if (milliseconds > LONGEST_TIMEOUT_MS)
        milliseconds = LONGEST_TIMEOUT_MS;
    *ret_ns = request->started_ns + milliseconds * 1000000;
    return true;
}

/* Count a prediction; false, with the reason, where none can be taken now. */
static bool take_place(struct backend *backend, struct error *error) {
    if (!atomic_load(&backend->ready))
        return error_set(error, ERROR_UNAVAILABLE, "the model %s is still being loaded: try again soon",
                         backend->name);
    if (atomic_fetch_add(&backend->pending, 1) < backend->options.queue_limit)
        return true;

    atomic_fetch_sub(&backend->pending, 1);
    backend_counts_refuse(&backend->counts);
    return error_set(error, ERROR_UNAVAILABLE,
                     "too many requests are waiting for the model %s: try again soon", backend->name);
}

struct job *job_create(struct backend *backend, struct http_request *request, enum job_kind kind) {
    struct error error;
    int64_t deadline_ns = 0;

    if (backend_language(backend)) {
        backend_refuse_photos(backend, request);
        return NULL;
    }
    if (!find_deadline(backend, request, &deadline_ns, &error) || !take_place(backend, &error)) {
        respond_error(request, &error);
        return NULL;
    }

    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        atomic_fetch_sub(&backend->pending, 1);
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return NULL;
    }

    struct context *context = context_of(request);
    text_copy(context->model, sizeof context->model, backend->name);
    context->model_known = true;
    job->backend = backend;
    job->request = request;
    job->kind = kind;
    job->tensors.purpose = MEMORY_TENSORS;
    job->body = http_body_reference(request->body);
    job->item.deadline_ns = deadline_ns;

    return job;
}

void job_announce(struct job *job) {
    job->announced = true;
    batcher_expect(job->backend->batcher, 1);
}

void job_decode(struct job *job, void (*run)(struct work *work)) {
    job->work.run = run;
    workers_submit(job->backend->workers, &job->work);
}

void job_submit(struct job *job) {
    batch_classify(&job->backend->kinds, job->backend->model, job);
    job->announced = false; /* the batcher takes it off by itself */
    batcher_submit(job->backend->batcher, &job->item);
}

void job_limit_wait(struct job *job, int64_t microseconds) {
    int64_t left = (job->item.deadline_ns - job->request->started_ns) / 1000;
    if (microseconds < left)
        job->item.deadline_ns = job->request->started_ns + microseconds * 1000;
}

bool job_is_alive(struct job *job) {
    struct error error;

    if (!http_request_is_gone(job->request) && clock_ns() < job->item.deadline_ns)
        return true;
    error_set(&error, ERROR_TIMEOUT, "the request waited longer than its timeout");
    job_fail(job, &error);
    return false;
}

static bool is_wanted(void *context) {
    const struct job *job = context;
    return !http_request_is_gone(job->request) && clock_ns() < job->item.deadline_ns;
}

struct memory_wait job_memory_wait(struct job *job) {
    return (struct memory_wait){.deadline_ns = job->item.deadline_ns, .is_wanted = is_wanted, .context = job};
}

bool job_is_encoded(const struct job *job) {
    return http_encoding_is_set(http_request_header(job->request, "Content-Encoding"));
}

bool job_unpack(struct job *job) {
    const char *encoding = http_request_header(job->request, "Content-Encoding");
    size_t limit = job->backend->options.body_limit ? job->backend->options.body_limit : LIMIT_BODY_BYTES;
    struct error error;
    if (!job_is_encoded(job))
        return true;

    struct http_body *plain = http_body_decode_content(job->body, encoding, limit, &error);
    if (!plain) {
        job_fail(job, &error);
        return false;
    }

    http_body_release(job->body);
    job->body = plain;
    return true;
}

/* ---- Fetching ---- */

static void finish_fetch(void *context, struct http_body *body, const struct error *error) {
    struct job *job = context;

    job->timing.fetch = (double)(clock_ns() - job->fetch_started_ns) / 1e6;
    if (!body) {
        job_fail(job, error);
        return;
    }

    job->fetched = http_body_reference(body);
    job->photo = body->bytes;
    job->photo_size = body->size;
    workers_submit(job->backend->workers, &job->work);
}

void job_fetch(struct job *job, void (*run)(struct work *work)) {
    job->work.run = run;
    job->fetch_started_ns = clock_ns();
    fetcher_start(job->backend->fetcher, job->url, is_wanted, finish_fetch, job);
}
