#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const int http_statuses[ERROR_CODES] = {
    [ERROR_NONE] = 200,      [ERROR_INVALID] = 400,     [ERROR_UNAUTHORIZED] = 401, [ERROR_FORBIDDEN] = 403,
    [ERROR_NOT_FOUND] = 404, [ERROR_METHOD] = 405,      [ERROR_SLOW_REQUEST] = 408, [ERROR_TOO_LARGE] = 413,
    [ERROR_MEDIA] = 415,     [ERROR_MISDIRECTED] = 421, [ERROR_LOAD] = 424,         [ERROR_RATE] = 429,
    [ERROR_MODEL] = 500,     [ERROR_IO] = 500,          [ERROR_MEMORY] = 500,       [ERROR_INTERNAL] = 500,
    [ERROR_UPSTREAM] = 502,  [ERROR_UNAVAILABLE] = 503, [ERROR_TIMEOUT] = 504,
};

/* Names come from files and from strangers: a message stays one line, whatever they hold. */
static void keep_one_line(struct error *error) {
    for (char *at = error->message; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
}

#undef error_set /* error.h defines macros for the analyser */
#undef error_set_errno

bool error_set(struct error *error, enum error_code code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);

    keep_one_line(error);
    return false;
}

bool error_prefix(struct error *error, const char *format, ...) {
    char rest[sizeof error->message];
    memcpy(rest, error->message, sizeof rest);

    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);

    if (length >= 0 && (size_t)length < sizeof error->message)
        snprintf(error->message + length, sizeof error->message - (size_t)length, ": %s", rest);
    keep_one_line(error);
    return false;
}

bool error_set_errno(struct error *error, enum error_code code, int number, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);

    char text[128];
    if (length >= 0 && (size_t)length < sizeof error->message)
        snprintf(error->message + length, sizeof error->message - (size_t)length, ": %s",
                 strerror_r(number, text, sizeof text));
    keep_one_line(error);
    return false;
}

int error_http_status(enum error_code code) {
    return code < ERROR_CODES ? http_statuses[code] : 500;
}
