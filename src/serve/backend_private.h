/* The backend's inside. backend.c: life and routes; backend_predict.c: photos; backend_model.c: the model's
 * thread; backend_answers.c: everything that needs no model run; backend_tensors.c: the Open Inference
 * Protocol and TensorFlow Serving. */
#pragma once
#include <stdatomic.h>

#include "http/fetch.h"
#include "http/json.h"
#include "model/model.h"
#include "serve/backend.h"
#include "serve/batcher.h"
#include "serve/inference.h"
#include "serve/metrics.h"
#include "serve/workers.h"

#define BACKEND_TOP 5
#define BACKEND_VERSION "1" /* of every model: one folder is one version */

/* Metrics that every prediction touches. */
struct backend_metrics {
    struct metrics *registry;
    struct metric *fetch, *queue, *decode, *preprocess, *infer, *total, *batch, *length, *pending, *ready,
        *loads, *load_seconds;
    struct metric *success, *failure, *inferences, *executions;
    struct metric *request_us, *queue_us, *input_us, *infer_us, *output_us;
};

struct backend {
    struct backend_options options;
    char *model_path, *variant, name[128], description[768];
    char labels[160]; /* model="…",version="1" for metrics */
    struct http_loops *loops;
    struct http_server *server;
    struct fetcher *fetcher;
    struct workers *workers;
    struct batcher *batcher;
    struct backend_metrics metrics;
    atomic_bool ready;
    atomic_int pending; /* predictions under way */
    /* Made on the model's thread before `ready`; the model is immutable from then on, the rest is that
     * thread's. */
    struct model *model;
    struct model_classifier *classifier;
    struct engine_context *context; /* for tensors; made when first needed */
    float *staging;                 /* a batch, put together */
    size_t staging_size;
};

enum job_kind { JOB_PHOTO, JOB_TENSORS };

/* A prediction under way. Owned by whichever thread has it; freed with the reply. */
struct job {
    struct batcher_item item; /* first */
    struct work work;
    struct backend *backend;
    struct http_request *request;
    enum job_kind kind;
    /* JOB_PHOTO */
    struct http_body *fetched; /* NULL where the photo is in the request */
    const char *photo;
    size_t photo_size;
    char *address; /* where it came from; NULL: the request */
    int top;
    char language[16];
    int width, height;
    float *tensor; /* [3, height, width] */
    struct prediction *predictions;
    int prediction_count;
    struct timing timing;
    int64_t started_ns; /* of fetching, for its time */
    /* JOB_TENSORS */
    struct inference *inference;
};

/* backend.c */
/* Begin a prediction: counts it and sets its deadline. NULL: has replied (503 …). */
struct job *job_create(struct backend *backend, struct http_request *request, enum job_kind kind);
/* Reply with the error and free the job. */
void job_fail(struct job *job, const struct error *error);
void job_free(struct job *job);
/* Hand a job to the decoding threads / to the model. */
void job_work(struct job *job, void (*run)(struct work *work));
/* False: has failed, as its time is over or the client has gone. */
bool job_is_alive(struct job *job);
struct job *job_of_work(struct work *work);
/* Write the metrics of a job that was run, or failed to. */
void job_measure(const struct job *job, bool good);

/* backend_predict.c */
void backend_predict(struct backend *backend, struct http_request *request);
void backend_photo_done(struct job *job);

/* backend_model.c: batcher's callbacks */
bool backend_model_start(void *context, struct error *error);
bool backend_model_run(void *context, struct batcher_item **items, int count, struct error *error);
bool backend_model_prepare(void *context, int size);
bool backend_model_is_wanted(void *context, struct batcher_item *item);
void backend_model_done(void *context, struct batcher_item *item, const struct error *error);
void backend_model_end(void *context);

/* backend_tensors.c */
void backend_infer(struct backend *backend, struct http_request *request);
void backend_tensorflow_predict(struct backend *backend, struct http_request *request);
void backend_tensors_done(struct job *job);

/* backend_answers.c */
void backend_answer_models(struct backend *backend, struct http_request *request);
void backend_answer_metrics(struct backend *backend, struct http_request *request);
void backend_answer_ready(struct backend *backend, struct http_request *request);
void backend_answer_protocol(struct backend *backend, struct http_request *request, const char *what);
bool backend_metrics_create(struct backend *backend);
void backend_done(void *context, const struct http_request *request, int status, size_t body_bytes,
                  bool gone);
