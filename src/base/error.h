/* The error type of the whole program: a code, and one line for a person.
 *
 * A function that can fail takes `struct error *error` last (never NULL) and returns false or NULL on
 * failure, with its outputs (`ret_…`) untouched. The line names the file, node or field and what to do about
 * it; it has no trailing full stop or newline. Libraries set errors; only cli/ and server/ print or log them,
 * once. Any thread, each with an error of its own. */
#pragma once
#include <stdbool.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID,      /* the caller's input is malformed              -> 400 */
    ERROR_UNAUTHORIZED, /* no key, or a wrong one                       -> 401 */
    ERROR_FORBIDDEN,    /* understood, and not allowed                  -> 403 */
    ERROR_NOT_FOUND,    /* no such model, file or route                 -> 404 */
    ERROR_METHOD,       /* the route exists, the method does not        -> 405 */
    ERROR_SLOW_REQUEST, /* the caller sent too slowly                   -> 408 */
    ERROR_TOO_LARGE,    /* over a limit of limits.h or of an option     -> 413 */
    ERROR_MEDIA,        /* an unsupported content type                  -> 415 */
    ERROR_MISDIRECTED,  /* sent to a name that is not this server's     -> 421 */
    ERROR_LOAD,         /* a model can never be loaded, as its files are -> 424 */
    ERROR_RATE,         /* over the caller's rate limit                 -> 429 */
    ERROR_MODEL,        /* a model file is damaged or unsupported       -> 500 */
    ERROR_IO,           /* a system call failed                         -> 500 */
    ERROR_MEMORY,       /* out of memory                                -> 500 */
    ERROR_INTERNAL,     /* a bug in guichet or a library                -> 500 */
    ERROR_UPSTREAM,     /* a server that was asked failed               -> 502 */
    ERROR_UNAVAILABLE,  /* not ready, or too busy                       -> 503 */
    ERROR_TIMEOUT,      /* a server or model took too long              -> 504 */
    ERROR_CODES
};

struct error {
    enum error_code code;
    char message[480];
};

/* Fill `error` and return false, so that a caller can `return error_set(error, …)`. */
bool error_set(struct error *error, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "format: " before the message; the code stays. Returns false. */
bool error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, with ": " and the text of the errno value `number` after the message. */
bool error_set_errno(struct error *error, enum error_code code, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The HTTP status of a code: the only such table. 200 for ERROR_NONE. */
int error_http_status(enum error_code code);

#ifdef __clang_analyzer__ /* it cannot see in other files that these return false */
#define error_set(...)                  \
    ({                                  \
        (void)(error_set)(__VA_ARGS__); \
        false;                          \
    })
#define error_set_errno(...)                  \
    ({                                        \
        (void)(error_set_errno)(__VA_ARGS__); \
        false;                                \
    })
#endif
