/* A request's life. On its loop, unless said otherwise. */
#include "server/backend/language/call.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "http/inflate.h"
#include "base/text.h"
#include "server/edge/context.h"
#include "server/edge/forwarding.h"
#include "server/edge/respond.h"

/* After so long without output, a stream gets a comment and a whole reply a blank: proxies wait on. */
#define STILL_HERE_MS 10000

/* --- Accounts ------------------------------------------------------------------------------------------- */

static void free_call(struct call *call) {
    struct language *language = call->language;

    http_timer_cancel(call->timer);
    call_free_choices(call);
    for (size_t i = 0; i < call->prompt_count; i++)
        token_list_release(&call->prompts[i]);
    free(call->prompts);
    language_fields_release(&call->fields);
    json_release(call->json, &call->tree);
    memory_charge_release(&call->tokens);
    http_body_release(call->body);
    pthread_mutex_destroy(&call->lock);
    free(call);
    atomic_fetch_sub(&language->pending, 1);
}

static struct answer_usage usage_of(const struct call *call) {
    struct answer_usage usage = {0};
    for (size_t i = 0; i < call->prompt_count; i++)
        usage.prompt += (int64_t)call->prompts[i].count;
    for (int i = 0; i < call->choice_count; i++) {
        usage.written += call->choices[i].generation.count;
        if (i % call->fields.n == 0)
            usage.shared += (int64_t)call->choices[i].generation.shared;
    }
    return usage;
}

/* For the log. */
static void note_tokens(struct call *call) {
    struct context *context = context_of(call->request);
    struct answer_usage usage = usage_of(call);
    const struct generation *first = call->choice_count ? &call->choices[0].generation : NULL;

    context->tokens_in = usage.prompt;
    context->tokens_out = usage.written;
    if (first && first->begun_ns)
        context->queue_ms = (double)(first->begun_ns - first->queued_ns) / 1e6;
    language_counts_total(&call->language->counts, (double)(clock_ns() - call->request->started_ns) / 1e9);
}

/* --- Pieces of a reply -----------------------------------------------------------------------------------
 */

/* A client that reads again: what was kept meanwhile. */
static void client_writable(void *context) {
    struct call *call = context;
    pthread_mutex_lock(&call->lock);
    call_post(call);
}

enum { HEADERS_MOST = 6 };

/* Room for what a gateway is told. */
struct told {
    char queued[24], tokens[48], queue_ms[32];
};

/* The headers of a reply: of its form, and what a gateway has asked for. */
static int list_headers(const struct call *call, struct http_header ret[HEADERS_MOST], struct told *told) {
    const struct context *context = context_of(call->request);
    bool stream = call->fields.stream;
    int count = 0;

    ret[count++] = (struct http_header){"Content-Type", stream ? "text/event-stream" : "application/json"};
    if (stream) {
        ret[count++] = (struct http_header){"Cache-Control", "no-cache"};
        ret[count++] = (struct http_header){"X-Accel-Buffering", "no"};
    }
    if (!http_request_header(call->request, HEADER_ASK_RUN))
        return count;

    snprintf(told->queued, sizeof told->queued, "%lld", (long long)language_queued_tokens(call->language));
    snprintf(told->queue_ms, sizeof told->queue_ms, "%.3f", context->queue_ms);
    snprintf(told->tokens, sizeof told->tokens, "%lld %lld", (long long)context->tokens_in,
             (long long)context->tokens_out);
    ret[count++] = (struct http_header){HEADER_QUEUED_TOKENS, told->queued};
    ret[count++] = (struct http_header){HEADER_QUEUE_MS, told->queue_ms};
    ret[count++] = (struct http_header){HEADER_TOKENS, told->tokens};
    return count;
}

/* The head of a reply in pieces. */
static void begin(struct call *call) {
    struct http_header headers[HEADERS_MOST];
    struct told told;
    int count = list_headers(call, headers, &told);

    call->begun = true;
    http_respond_on_writable(call->request, client_writable, call);
    respond_begin(call->request, 200, headers, count, -1);
}

static void tell_still_here(void *context);

static void restart_timer(struct call *call) {
    http_timer_cancel(call->timer);
    call->timer = http_timer_start(call->loop, STILL_HERE_MS, tell_still_here, call);
}

static void send(struct call *call, const struct buffer *text) {
    if (text->size == 0)
        return;
    if (!call->begun)
        begin(call);
    http_respond_write(call->request, text->bytes, text->size);
    restart_timer(call);
}

/* A comment between events, or white space before a JSON text. */
static void tell_still_here(void *context) {
    struct call *call = context;
    call->timer = NULL;
    if (call->gone)
        return;

    struct buffer text = {0};
    buffer_append_string(&text, call->fields.stream ? ": \n\n" : " ");
    send(call, &text);
    buffer_release(&text);
    restart_timer(call);
}

/* --- Ends ----------------------------------------------------------------------------------------------- */

/* The sequence has ended, and the client has left. */
static void end_gone(struct call *call) {
    struct http_request *request = call->request;
    bool begun = call->begun;

    note_tokens(call);
    free_call(call);
    if (begun)
        http_respond_abort(request);
    else
        respond_error(request, &(struct error){ERROR_UNAVAILABLE, "the client left"});
}

static void end_failed(struct call *call) {
    struct http_request *request = call->request;
    const struct error failure = call->failure;
    bool begun = call->begun, stream = call->fields.stream;
    struct buffer text = {0};

    note_tokens(call);
    http_request_on_gone(request, NULL, NULL);
    free_call(call);
    if (!begun) {
        respond_error(request, &failure);
        return;
    }

    buffer_append_string(&text, stream ? "data: " : "");
    error_write(&text, ERRORS_OPENAI, &failure);
    buffer_append_string(&text, stream ? "\n\n" : "");
    if (!text.failed)
        http_respond_write(request, text.bytes, text.size);
    buffer_release(&text);
    http_respond_abort(request);
}

static void end_whole(struct call *call) {
    struct http_header headers[HEADERS_MOST];
    struct told told;
    struct http_request *request = call->request;
    struct answer_usage usage = usage_of(call);
    struct buffer text = {0};

    answer_write_begin(&text, &call->head);
    for (int i = 0; i < call->choice_count; i++)
        answer_write_choice(&text, &call->head, i, &call->choices[i].part, call->choices[i].finish);
    answer_write_end(&text, &usage);
    if (text.failed) {
        buffer_release(&text);
        error_set(&call->failure, ERROR_MEMORY, "not enough memory for an answer");
        end_failed(call);
        return;
    }

    bool begun = call->begun;
    note_tokens(call);
    int count = list_headers(call, headers, &told);
    http_request_on_gone(request, NULL, NULL);
    free_call(call);
    if (begun) {
        http_respond_write(request, text.bytes, text.size);
        http_respond_end(request);
        buffer_release(&text);
    } else {
        respond(request, 200, headers, count, http_body_take(text.bytes, text.size));
    }
}

/* --- Streams -------------------------------------------------------------------------------------------- */

/* What a choice has to tell since the last time. */
static void write_news(struct call *call, struct choice *choice, struct buffer *text) {
    static const struct answer_part nothing = {0};
    pthread_mutex_lock(&call->lock);
    struct answer_part part = choice->part;
    const char *finish = choice->finish;
    choice->part = (struct answer_part){0};
    pthread_mutex_unlock(&call->lock);

    bool news = !answer_part_is_empty(&part);
    if (!choice->has_begun && (news || finish) && call->fields.route == LANGUAGE_CHAT)
        answer_write_chunk(text, &call->head, choice->index, &nothing, true, NULL);
    choice->has_begun |= news || finish;
    if (news)
        answer_write_chunk(text, &call->head, choice->index, &part, false, NULL);
    if (finish && !choice->has_ended) {
        answer_write_chunk(text, &call->head, choice->index, &nothing, false, finish);
        choice->has_ended = true;
    }
    answer_part_release(&part);
}

static void end_stream(struct call *call, struct buffer *text) {
    struct http_request *request = call->request;
    struct answer_usage usage = usage_of(call);

    if (call->fields.include_usage)
        answer_write_usage_chunk(text, &call->head, &usage);
    if (http_request_header(request, HEADER_ASK_RUN))
        buffer_printf(text, COMMENT_TOKENS "%lld %lld\n\n", (long long)usage.prompt,
                      (long long)usage.written);
    buffer_append_string(text, "data: [DONE]\n\n");
    send(call, text);
    note_tokens(call);
    http_request_on_gone(request, NULL, NULL);
    free_call(call);
    http_respond_end(request);
}

/* A client that reads slowly gets more at once when it reads again. */
static void flush_stream(struct call *call, bool is_over) {
    struct buffer text = {0};
    if (!is_over && call->begun && http_respond_pending(call->request) > LIMIT_OUTPUT_HIGH_BYTES)
        return;

    for (int i = 0; i < call->choice_count; i++)
        write_news(call, &call->choices[i], &text);
    if (text.failed) {
        pthread_mutex_lock(&call->lock);
        error_set(&call->failure, ERROR_MEMORY, "not enough memory for an answer");
        for (int i = 0; i < call->choice_count; i++)
            atomic_store(&call->choices[i].generation.cancelled, true);
        pthread_mutex_unlock(&call->lock);
    }

    if (is_over && !text.failed)
        end_stream(call, &text);
    else if (is_over)
        end_failed(call);
    else if (!text.failed)
        send(call, &text);
    buffer_release(&text);
}

static void flush(void *context) {
    struct call *call = context;

    pthread_mutex_lock(&call->lock);
    call->posted = false;
    bool is_over = call->unfinished == 0, failed = call->failure.code != ERROR_NONE;
    pthread_mutex_unlock(&call->lock);
    if (!call->timer && !call->gone)
        restart_timer(call);

    if (call->gone || failed) { /* what is still written ends within a run */
        if (is_over)
            (call->gone ? end_gone : end_failed)(call);
    } else if (call->fields.stream) {
        flush_stream(call, is_over);
    } else if (is_over) {
        end_whole(call);
    }
}

void call_post(struct call *call) {
    struct http_loop *loop = call->loop;
    bool post = !call->posted;
    call->posted = true;
    pthread_mutex_unlock(&call->lock);

    /* Memory that is out now will be there again: the reply is owed. */
    while (post && !http_loop_post(loop, flush, call))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* --- The beginning -------------------------------------------------------------------------------------- */

static void client_gone(void *context) {
    struct call *call = context;

    call->gone = true;
    pthread_mutex_lock(&call->lock);
    call->cancelled = true;
    for (int i = 0; i < call->choice_count; i++)
        atomic_store(&call->choices[i].generation.cancelled, true);
    pthread_mutex_unlock(&call->lock);
}

/* On a worker. */
static bool prepare(struct call *call, struct error *error) {
    const struct http_body *body = call->body;
    int64_t expires_ns = call->request->started_ns + (int64_t)call->language->options.timeout_ms * 1000000;
    const struct memory_wait wait = {.deadline_ns = expires_ns};

    if (!http_request_check_plain(call->request, error))
        return false;
    call->json = json_parse(body->bytes ? body->bytes : "", body->size, &wait, &call->tree, error);
    if (!call->json)
        return false;
    /* A copy of the messages, the prompt, its tokens. */
    call->tokens.purpose = MEMORY_TENSORS;
    return memory_charge_wait(&call->tokens, call->tree.bytes + body->size * 8, &wait, error) &&
           language_fields_read(call->json, call->head.route, llm_model_vocabulary(call->language->model),
                                &call->fields, error) &&
           call_find_client(call, error) && call_read_prompts(call, error) && call_submit(call, error);
}

static void run_prepare(struct work *work) {
    struct call *call = (struct call *)(void *)((char *)work - offsetof(struct call, work));
    struct error error = {0};
    if (prepare(call, &error))
        return;

    pthread_mutex_lock(&call->lock);
    call->failure = error;
    call_post(call);
}

static void make_id(struct answer_head *head) {
    uint8_t bytes[12];
    char hex[25];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(hex, sizeof hex, bytes, sizeof bytes);
    snprintf(head->id, sizeof head->id, "%s-%s", head->route == LANGUAGE_CHAT ? "chatcmpl" : "cmpl", hex);
}

static void start(struct language *language, struct http_request *request, enum language_route route) {
    if (!language_check_kind(language, request, false))
        return;
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }

    atomic_fetch_add(&language->pending, 1);
    *call = (struct call){
        .language = language,
        .request = request,
        .loop = request->loop,
        .work = {.run = run_prepare},
        .body = http_body_reference(request->body),
        .head = {.route = route, .created = time(NULL), .model = language->options.name},
    };
    make_id(&call->head);
    pthread_mutex_init(&call->lock, NULL);
    http_request_on_gone(request, client_gone, call);
    workers_submit(language->options.workers, &call->work);
}

void language_chat(struct language *language, struct http_request *request) {
    start(language, request, LANGUAGE_CHAT);
}

void language_complete(struct language *language, struct http_request *request) {
    start(language, request, LANGUAGE_COMPLETION);
}
