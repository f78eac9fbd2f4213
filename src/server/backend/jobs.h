/* Predictions under way: each is a job, which belongs to one thread at a time and is freed with its reply.
 *
 *     loop thread ── job_create ─► [fetcher] ─► decoding threads ─► batcher, the model's thread ─► reply */
#pragma once
#include "http/http.h"
#include "base/memory_budget.h"
#include "base/workers.h"
#include "model/model.h"
#include "model/prepare.h"
#include "server/backend/batcher.h"

struct backend;
struct inference;

enum job_kind { JOB_PHOTO, JOB_TENSORS };

struct job {
    struct batcher_item item; /* first */
    struct work work;
    struct backend *backend;
    struct http_request *request;
    enum job_kind kind;
    struct http_body *body;       /* the request's; after job_unpack not encoded */
    bool announced;               /* the batcher expects it */
    struct memory_charge tensors; /* of `prepared` */
    struct error failure;         /* of its part of a batch; .code ERROR_NONE: none */

    /* JOB_PHOTO */
    struct http_body *fetched; /* NULL where the photo is in the request */
    const char *photo;
    size_t photo_size; /* bytes */
    char *url;         /* where it came from; NULL: the request */
    bool from_page;    /* it is the picture of a page that stood at the address first */
    int top;
    char language[16];
    struct prepared_photo prepared;
    struct prediction *predictions;
    int prediction_count;
    struct timing timing;
    int64_t fetch_started_ns;

    /* JOB_TENSORS */
    struct inference *inference;
};

/* Begin a prediction: counts it and sets its deadline. NULL: has replied (503 …). */
struct job *job_create(struct backend *backend, struct http_request *request, enum job_kind kind);
/* The batcher may wait for this job: it will be submitted soon, or fail. */
void job_announce(struct job *job);
/* Have run(work) called on a decoding thread. */
void job_decode(struct job *job, void (*run)(struct work *work));
struct job *job_of_work(struct work *work);
/* Undo the Content-Encoding of the request's body: work for a decoding thread, where job_is_encoded. False:
 * has replied, and the job is gone. */
bool job_is_encoded(const struct job *job);
bool job_unpack(struct job *job);
/* Have job->url fetched into job->photo; then run(work) as job_decode does. */
void job_fetch(struct job *job, void (*run)(struct work *work));
/* Hand it to the model: its photo is prepared, or its tensors are there. On the thread that made them. */
void job_submit(struct job *job);
/* Its run must begin within this time of its arrival. */
void job_limit_wait(struct job *job, int64_t microseconds);
/* False: has failed, as its time is over or the client has gone. */
bool job_is_alive(struct job *job);
/* For memory, a decoding thread waits as long as the job is alive. */
struct memory_wait job_memory_wait(struct job *job);
/* Reply with the error and free the job. */
void job_fail(struct job *job, const struct error *error);
/* Reply and free the job, in the order that keeps counts right: a client that has its response finds its
 * request gone from the queue. Takes over `body`. */
void job_respond(struct job *job, const struct http_header *headers, int header_count,
                 struct http_body *body);

/* The batcher's callback: a job was run, or could not be. Any of the protocols' ends. */
void job_finish_photo(struct job *job);   /* protocol/predict.c */
void job_finish_tensors(struct job *job); /* protocol/tensors.c */
