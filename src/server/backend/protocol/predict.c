/* POST /predict: a photo in one of its wrappings, through decoding and the model, to the answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/url.h"
#include "http/multipart.h"
#include "http/page_image.h"
#include "model/document.h"
#include "server/backend/handlers.h"
#include "server/backend/jobs.h"
#include "server/edge/accept_language.h"

#define TOP 5 /* predictions where ?top= says nothing */

/* ---- The response ---- */

void job_finish_photo(struct job *job) {
    static const struct http_header header = {"Content-Type", "application/json"};
    const struct prediction_document document = {
        .model = backend_model(job->backend),
        .name = backend_name(job->backend),
        .image = job->url,
        .language = job->language,
        .predictions = job->predictions,
        .count = job->prediction_count,
        .timing = job->timing,
        .queue_ms = (double)(job->item.begun_ns - job->item.queued_ns) / 1e6,
        .batch = job->item.batch,
    };
    struct buffer text = {0};

    prediction_document_write_body(&document, &text);
    if (text.failed) {
        buffer_release(&text);
        job_fail(job, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }
    job_respond(job, &header, 1, http_body_take(text.bytes, text.size));
}

/* ---- Decoding ---- */

/* The header says what it takes; that much of the budget is waited for. */
static bool decode(struct job *job, struct error *error) {
    const struct photo_input *input = model_input(backend_model(job->backend));
    const uint8_t *bytes = (const uint8_t *)job->photo;
    const struct memory_wait wait = job_memory_wait(job);
    struct memory_charge pixels = {.purpose = MEMORY_PIXELS};
    struct photo_plan plan;

    if (!photo_plan(input, bytes, job->photo_size, &plan, &job->timing, error) ||
        !memory_charge_wait(&job->tensors, plan.tensor_bytes, &wait, error) ||
        !memory_charge_wait(&pixels, (size_t)plan.cost, &wait, error))
        return false;

    bool done =
        photo_prepare_planned(input, bytes, job->photo_size, &plan, &job->prepared, &job->timing, error);
    memory_charge_release(&pixels);
    http_body_release(job->fetched); /* its bytes are not needed any more */
    job->fetched = NULL;
    return done;
}

static void run_decode(struct work *work);

/* Where a web page stands at the address, its picture is taken, once. False: there is none. */
static bool follow_page(struct job *job, struct error *error) {
    char image[LIMIT_URL_BYTES];
    if (!job->fetched || job->from_page || !page_is_html(job->photo, job->photo_size))
        return false;
    if (!page_find_image(job->photo, job->photo_size, job->url, image))
        return error_set(error, ERROR_INVALID,
                         "there is a web page at this address, and it names no picture (og:image): give the "
                         "address of the photo itself");

    char *url = strdup(image);
    if (!url)
        return error_set(error, ERROR_MEMORY, "not enough memory for a URL");
    free(job->url);
    job->url = url;
    job->from_page = true;
    http_body_release(job->fetched);
    job->fetched = NULL;
    job->photo = NULL;
    job_fetch(job, run_decode);
    return true;
}

static void run_decode(struct work *work) {
    struct job *job = job_of_work(work);
    struct error error = {0};

    if (!job_is_alive(job))
        return;

    if (!decode(job, &error)) {
        if (error.code != ERROR_INVALID || !follow_page(job, &error))
            job_fail(job, &error);
        return;
    }

    job_submit(job);
}

/* ---- Reading the request ---- */

/* The photo's address out of {"url": "…"}. malloc'ed; NULL and *error where there is none. */
static char *read_address(const char *text, size_t size, struct error *error) {
    struct memory_charge charge = {0};
    json_t *json = json_parse(text, size, NULL, &charge, error);
    if (!json) {
        memory_charge_release(&charge);
        return NULL;
    }

    const json_t *url = json_object_get(json, "url");
    char *address = NULL;

    if (!json_is_object(json) || !url)
        error_set(error, ERROR_INVALID,
                  "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");
    else if (!json_is_string(url) || strlen(json_string_value(url)) != json_string_length(url) ||
             !json_string_length(url))
        error_set(error, ERROR_INVALID, "\"url\" must be a string: the URL of a photo");
    else if (!(address = strdup(json_string_value(url))))
        error_set(error, ERROR_MEMORY, "not enough memory for a URL");

    json_release(json, &charge);
    return address;
}

static bool type_is(const char *type, const char *name) {
    size_t length = strlen(name);
    return !strncasecmp(type, name, length) && strchr("; \t", type[length]);
}

static bool read_form(struct job *job, const char *type, struct error *error) {
    const struct http_body *body = job->body;
    struct multipart_part part;

    if (multipart_find(type, body->bytes, body->size, "file", &part, error)) {
        if (!part.size)
            return error_set(error, ERROR_INVALID, "the form's file is empty");
        job->photo = part.bytes;
        job->photo_size = part.size;
        return true;
    }

    if (error->code != ERROR_NOT_FOUND)
        return false;
    if (!multipart_find(type, body->bytes, body->size, "url", &part, error))
        return error_set(error, ERROR_INVALID, "the form has no field \"file\" with a photo");

    job->url = strndup(part.bytes, part.size);
    return job->url || error_set(error, ERROR_MEMORY, "not enough memory for a URL");
}

/* "url=…" as HTML forms send it. */
static bool read_url_form(struct job *job, struct error *error) {
    char address[LIMIT_URL_BYTES + 1];
    if (!url_query_get(job->body->bytes, "url", address, sizeof address))
        return error_set(
            error, ERROR_INVALID,
            "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");

    job->url = strdup(address);
    return job->url || error_set(error, ERROR_MEMORY, "not enough memory for a URL");
}

/* Where the photo is: in the body, in a field of it, or at an address that it gives. */
static bool read_photo(struct job *job, struct error *error) {
    const struct http_body *body = job->body;
    const char *type = http_request_header(job->request, "Content-Type");
    if (type && multipart_is_form(type))
        return read_form(job, type, error);

    bool image = type && !strncasecmp(type, "image/", 6);
    bool json = type && (type_is(type, "application/json") || type_is(type, "text/json"));
    bool form = type && type_is(type, "application/x-www-form-urlencoded");
    bool open =
        !type || !*type || type_is(type, "application/octet-stream") || type_is(type, "binary/octet-stream");
    if (!image && !json && !form && !open)
        return error_set(error, ERROR_MEDIA,
                         "a body of type %.100s is not supported: send JSON, an image, or a form", type);
    if (!body->size)
        return error_set(
            error, ERROR_INVALID,
            image ? "the photo is empty"
                  : "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");

    bool braced = body->bytes[strspn(body->bytes, " \t\r\n")] == '{';
    if (form && !braced)
        return read_url_form(job, error);
    if (json || form || (open && braced)) {
        job->url = read_address(body->bytes, body->size, error);
        return job->url != NULL;
    }

    job->photo = body->bytes;
    job->photo_size = body->size;
    return true;
}

static bool read_top(struct job *job, struct error *error) {
    char text[16];
    int classes = model_class_count(backend_model(job->backend));
    job->top = TOP;
    if (url_query_has(job->request->query, "top")) {
        if (!http_request_query(job->request, "top", text, sizeof text))
            strcpy(text, "…"); /* longer than any such number */
        char *end;
        long top = strtol(text, &end, 10);
        if (end == text || *end || top < 1 || top > classes)
            return error_set(error, ERROR_INVALID, "top=%s: expected a number from 1 to %d", text, classes);
        job->top = (int)top;
    }

    job->predictions = calloc((size_t)job->top, sizeof *job->predictions);
    return job->predictions ||
           error_set(error, ERROR_MEMORY, "not enough memory for %d predictions", job->top);
}

static void begin(struct job *job) {
    struct error error = {0};
    if (!read_photo(job, &error) || !read_top(job, &error)) {
        job_fail(job, &error);
        return;
    }

    job_announce(job);
    if (job->url)
        job_fetch(job, run_decode);
    else
        job_decode(job, run_decode);
}

static void run_unpack(struct work *work) {
    struct job *job = job_of_work(work);
    if (job_is_alive(job) && job_unpack(job))
        begin(job);
}

void backend_predict(struct backend *backend, struct http_request *request) {
    struct job *job = job_create(backend, request, JOB_PHOTO);
    struct error error;
    if (!job)
        return;

    request_find_language(request, job->language);
    if (!model_check_classifier(backend_model(backend), &error))
        job_fail(job, &error);
    else if (job_is_encoded(job))
        job_decode(job, run_unpack);
    else
        begin(job);
}
