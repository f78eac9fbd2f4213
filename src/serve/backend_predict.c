/* POST /predict: a photo in one of its wrappings, through decoding and the model, to the answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/limits.h"
#include "http/multipart.h"
#include "http/url.h"
#include "serve/backend_private.h"

/* ---- The answer ---- */

static void write_answer(const struct job *job, struct buffer *text) {
    const struct model *model = job->backend->model;
    const char *language = job->language;
    buffer_append_string(text, "{\"category\": ");
    json_append_string(text, model_label(model, job->predictions[0].index, language));
    buffer_append_string(text, ", \"model\": ");
    json_append_string(text, job->backend->name);
    if (job->address) {
        buffer_append_string(text, ", \"image\": ");
        json_append_string(text, job->address);
    }
    buffer_append_string(text, ", \"predictions\": [");
    for (int i = 0; i < job->prediction_count; i++) {
        const struct prediction *prediction = &job->predictions[i];
        buffer_printf(text, "%s{\"index\": %d, \"label\": ", i ? ", " : "", prediction->index);
        json_append_string(text, model_label(model, prediction->index, language));
        buffer_printf(text, ", \"probability\": %.6g}", (double)prediction->probability);
    }
    double queue = (double)(job->item.begun_ns - job->item.queued_ns) / 1e6;
    buffer_printf(
        text,
        "], \"timing_ms\": {\"fetch\": %.3f, \"decode\": %.3f, \"preprocess\": %.3f, \"queue\": %.3f, "
        "\"infer\": %.3f}, \"batch\": %d, \"precision\": \"%s\"}\n",
        job->timing.fetch, job->timing.decode, job->timing.preprocess, queue, job->timing.infer,
        job->item.batch, engine_precision_used(model_engine(model)));
}

void backend_photo_done(struct job *job) {
    struct buffer text = {0};
    write_answer(job, &text);
    struct error error;
    if (text.failed) {
        buffer_release(&text);
        error_set(&error, ERROR_MEMORY, "no memory for the answer");
        job_fail(job, &error);
        return;
    }
    job_measure(job, true);
    struct http_header header = {"Content-Type", "application/json"};
    struct http_request *request = job->request;
    job->request = NULL;
    job_free(job); /* before the reply: who has an answer finds its request gone from the queue's count */
    http_reply(request, 200, &header, 1, http_body_take(text.bytes, text.size));
}

/* ---- Decoding ---- */

static bool decode(struct job *job, struct error *error) {
    const struct image_recipe *recipe = model_recipe(job->backend->model);
    struct image image;
    double start = clock_ms();
    if (!image_decode((const uint8_t *)job->photo, job->photo_size, &image, error))
        return false;
    double decoded = clock_ms();
    bool done =
        image_recipe_size(recipe, image.width, image.height, &job->width, &job->height) ||
        error_set(error, ERROR_INVALID, "a photo of %dx%d is too long a strip", image.width, image.height);
    if (done) {
        job->tensor = aligned_alloc(64, ((size_t)job->width * (size_t)job->height * 3 * sizeof(float) + 63) &
                                            ~(size_t)63);
        done = job->tensor ? image_preprocess(&image, recipe, job->tensor, error)
                           : error_set(error, ERROR_MEMORY, "no memory for a photo of %dx%d", job->width,
                                       job->height);
    }
    image_release(&image);
    job->timing.decode = decoded - start;
    job->timing.preprocess = clock_ms() - decoded;
    return done;
}

static void run_decode(struct work *work) {
    struct job *job = job_of_work(work);
    struct error error = {0};
    if (!job_is_alive(job))
        return;
    if (!decode(job, &error)) {
        batcher_expect(job->backend->batcher, -1);
        job_fail(job, &error);
        return;
    }
    job->item.key = (int64_t)job->width << 32 | job->height;
    batcher_submit(job->backend->batcher, &job->item);
}

/* ---- Fetching ---- */

static bool fetch_is_wanted(void *context) {
    const struct job *job = context;
    return !http_request_is_gone(job->request) && clock_ns() < job->item.deadline_ns;
}

static void fetched(void *context, struct http_body *body, const struct error *error) {
    struct job *job = context;
    job->timing.fetch = (double)(clock_ns() - job->started_ns) / 1e6;
    if (!body) {
        batcher_expect(job->backend->batcher, -1);
        job_fail(job, error);
        return;
    }
    job->fetched = http_body_reference(body);
    job->photo = body->bytes;
    job->photo_size = body->size;
    job_work(job, run_decode);
}

/* ---- Reading the request ---- */

/* The photo's address out of {"url": "…"}. malloc'ed; NULL and *error where there is none. */
static char *read_address(const char *text, size_t size, struct error *error) {
    json_t *json = json_parse(text, size, error);
    if (!json)
        return NULL;
    const json_t *url = json_object_get(json, "url");
    char *address = NULL;
    if (!json_is_object(json) || !url)
        error_set(error, ERROR_INVALID,
                  "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");
    else if (!json_is_string(url) || strlen(json_string_value(url)) != json_string_length(url) ||
             !json_string_length(url))
        error_set(error, ERROR_INVALID, "\"url\" must be a text: the address of a photo");
    else if (!(address = strdup(json_string_value(url))))
        error_set(error, ERROR_MEMORY, "no memory for an address");
    json_decref(json);
    return address;
}

static bool type_is(const char *type, const char *name) {
    size_t length = strlen(name);
    return !strncasecmp(type, name, length) && strchr("; \t", type[length]);
}

static bool read_form(struct job *job, const char *type, struct error *error) {
    const struct http_body *body = job->request->body;
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
    job->address = strndup(part.bytes, part.size);
    return job->address || error_set(error, ERROR_MEMORY, "no memory for an address");
}

/* "url=…" as HTML forms send it. */
static bool read_url_form(struct job *job, struct error *error) {
    char address[LIMIT_URL_BYTES + 1];
    if (!url_query_get(job->request->body->bytes, "url", address, sizeof address))
        return error_set(
            error, ERROR_INVALID,
            "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");
    job->address = strdup(address);
    return job->address || error_set(error, ERROR_MEMORY, "no memory for an address");
}

/* Where the photo is: in the body, in a field of it, or at an address that it gives. */
static bool read_photo(struct job *job, struct error *error) {
    const struct http_body *body = job->request->body;
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
                         "a body of type %.100s is not read here: send JSON, an image, or a form", type);
    if (!body->size)
        return error_set(
            error, ERROR_INVALID,
            image ? "the photo is empty"
                  : "there is no \"url\" in the request: send {\"url\": \"https://…\"}, or the photo itself");
    bool braced = body->bytes[strspn(body->bytes, " \t\r\n")] == '{';
    if (form && !braced)
        return read_url_form(job, error);
    if (json || form || (open && braced)) {
        job->address = read_address(body->bytes, body->size, error);
        return job->address != NULL;
    }
    job->photo = body->bytes;
    job->photo_size = body->size;
    return true;
}

static bool read_top(struct job *job, struct error *error) {
    char text[16];
    int classes = model_class_count(job->backend->model);
    job->top = BACKEND_TOP;
    if (http_request_query(job->request, "top", text, sizeof text)) {
        char *end;
        long top = strtol(text, &end, 10);
        if (end == text || *end || top < 1 || top > classes)
            return error_set(error, ERROR_INVALID, "top=%s: a number from 1 to %d is wanted", text, classes);
        job->top = (int)top;
    }
    job->predictions = calloc((size_t)job->top, sizeof *job->predictions);
    return job->predictions || error_set(error, ERROR_MEMORY, "no memory for %d predictions", job->top);
}

/* ?lang=fr, else the language that Accept-Language wants most, else English. */
static void read_language(struct job *job) {
    strcpy(job->language, "en");
    if (http_request_query(job->request, "lang", job->language, sizeof job->language))
        return;
    const char *header = http_request_header(job->request, "Accept-Language");
    double best = 0;
    while (header && *header) {
        header += strspn(header, " \t,");
        size_t item = strcspn(header, ","), tag = strcspn(header, "-;, \t");
        const char *weight = memmem(header, item, "q=", 2);
        double q = weight ? strtod(weight + 2, NULL) : 1;
        if (q > best && tag >= 2 && tag < sizeof job->language && *header != '*') {
            best = q;
            for (size_t i = 0; i < tag; i++)
                job->language[i] = (char)(header[i] | 0x20);
            job->language[tag] = 0;
        }
        header += item;
    }
}

void backend_predict(struct backend *backend, struct http_request *request) {
    struct job *job = job_create(backend, request, JOB_PHOTO);
    if (!job)
        return;
    struct error error = {0};
    read_language(job);
    if (!read_photo(job, &error) || !read_top(job, &error)) {
        job_fail(job, &error);
        return;
    }
    batcher_expect(backend->batcher, 1);
    if (!job->address) {
        job_work(job, run_decode);
        return;
    }
    job->started_ns = clock_ns();
    fetcher_start(backend->fetcher, job->address, fetch_is_wanted, fetched, job);
}
