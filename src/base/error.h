/* One error type for the whole program: a code, and one line written for a person.
 *
 * A function that can fail takes `struct error *error` last (never NULL) and returns false or NULL on
 * failure, with its outputs (`ret_…`) untouched. The line names the file, node or field and what to do about
 * it; it has no trailing full stop or newline. Libraries set errors; only programs (cli/, serve/) print or
 * log them, once. An error belongs to whoever holds it; the functions may be called from any thread. */
#pragma once
#include <stdbool.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID,      /* the caller's input is malformed              -> 400 */
    ERROR_UNAUTHORIZED, /* no key, or a wrong one                       -> 401 */
    ERROR_FORBIDDEN,    /* understood, and not allowed                  -> 403 */
    ERROR_NOT_FOUND,    /* the named model, file or route is not there  -> 404 */
    ERROR_METHOD,       /* the route exists, the method does not        -> 405 */
    ERROR_SLOW_REQUEST, /* the caller took too long to send             -> 408 */
    ERROR_TOO_LARGE,    /* over a limit of limits.h or of an option     -> 413 */
    ERROR_MEDIA,        /* a content type nobody here reads             -> 415 */
    ERROR_RATE,         /* over the caller's rate limit                 -> 429 */
    ERROR_MODEL,        /* a model file that is damaged or unsupported  -> 500 */
    ERROR_IO,           /* the operating system refused a file or so    -> 500 */
    ERROR_MEMORY,       /* out of memory                                -> 500 */
    ERROR_INTERNAL,     /* a bug of ours                                -> 500 */
    ERROR_UPSTREAM,     /* whoever we asked failed                      -> 502 */
    ERROR_UNAVAILABLE,  /* not ready, or too busy                       -> 503 */
    ERROR_TIMEOUT,      /* whoever we asked was too slow                -> 504 */
    ERROR_CODES
};

struct error {
    enum error_code code;
    char message[480];
};

/* Fill `error` and return false, so that a caller can `return error_set(error, …)`. */
bool error_set(struct error *error, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "format: " before the message that is there; the code stays. Returns false. */
bool error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, with ": " and the text of the given errno value behind the message. */
bool error_set_errno(struct error *error, enum error_code code, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The HTTP status that stands for a code (the one table of the program); 200 for ERROR_NONE. */
int error_http_status(enum error_code code);

#ifdef __clang_analyzer__ /* which cannot see from elsewhere that these are false */
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
