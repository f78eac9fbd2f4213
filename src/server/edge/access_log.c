#include "server/edge/access_log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "model/name.h"

bool access_log_parse(const char *text, enum access_log *ret) {
    static const char *const forms[] = {"off", "text", "json"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, forms[i]) == 0) {
            *ret = (enum access_log)i;
            return true;
        }

    return false;
}

/* What is printable of a text: nothing in it can end the line or a quoted string. */
static void word_write(char *ret, size_t size, const char *text, const char *end) {
    size_t at = 0;
    for (; text && *text && !strchr(end, *text) && at + 1 < size; text++)
        ret[at++] = *text > ' ' && *text < 127 && *text != '"' && *text != '\\' ? *text : '?';
    ret[at] = 0;
}

static void moment_write(char ret[40]) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(ret, 40, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret + length, 40 - length, ".%03ldZ", now.tv_nsec / 1000000);
}

/* How it ended, where that is not as it should. */
static const char *write_end(enum access_log form, const struct access_entry *entry) {
    if (entry->gone)
        return form == ACCESS_LOG_JSON ? ",\"gone\":true" : " gone";
    if (entry->cut)
        return form == ACCESS_LOG_JSON ? ",\"cut\":true" : " cut";
    return "";
}

/* Where there are any. */
static void write_tokens(enum access_log form, const struct access_entry *entry, char ret[80]) {
    ret[0] = 0;
    if (entry->tokens_in > 0)
        snprintf(ret, 80,
                 form == ACCESS_LOG_JSON ? ",\"tokens_in\":%lld,\"tokens_out\":%lld"
                                         : " tokens_in=%lld tokens_out=%lld",
                 (long long)entry->tokens_in, (long long)entry->tokens_out);
}

void access_log_write(enum access_log form, const struct http_request *request,
                      const struct access_entry *entry) {
    static const char json[] =
        "{\"time\":\"%s\",\"tier\":\"%s\",\"client\":\"%s\",\"method\":\"%s\",\"path\":\"%s\","
        "\"status\":%d,\"bytes\":%zu,\"ms\":%.2f,\"model\":\"%s\",\"upstream\":\"%s\","
        "\"upstream_ms\":%.2f,\"tries\":%d,\"batch\":%d,\"queue_ms\":%.2f%s,\"request_id\":\"%s\","
        "\"trace_id\":\"%.32s\"%s}\n";
    static const char text[] = "%s %s %s %s %s %d %zuB %.2fms model=%s upstream=%s upstream_ms=%.2f tries=%d "
                               "batch=%d queue_ms=%.2f%s id=%s "
                               "trace=%.32s%s\n";

    if (form == ACCESS_LOG_OFF)
        return;
    char line[1600], path[512], id[140], moment[40], method[16], client[64], model[MODEL_NAME_BYTES];
    char tokens[80];
    const char *end = write_end(form, entry);

    moment_write(moment);
    write_tokens(form, entry, tokens);
    word_write(path, sizeof path, request->target ? request->target : "-", "?");
    word_write(method, sizeof method, request->method_name ? request->method_name : "-", "");
    word_write(id, sizeof id, entry->trace ? entry->trace->request_id : "", "");
    word_write(client, sizeof client, entry->client, "");
    word_write(model, sizeof model, entry->model, ""); /* of the path: decoded, and perhaps no model at all */

    int size = snprintf(line, sizeof line, form == ACCESS_LOG_JSON ? json : text, moment, entry->tier, client,
                        method, path, entry->status, entry->bytes, entry->total_ms, model, entry->upstream,
                        entry->upstream_ms, entry->tries, entry->batch, entry->queue_ms, tokens, id,
                        entry->trace ? entry->trace->traceparent + 3 : "", end);

    if (size > 0 && (size_t)size < sizeof line)
        log_output(form == ACCESS_LOG_JSON, line, (size_t)size);
}
