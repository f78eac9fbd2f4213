/* What can be asked: one table of endpoints for every tier, and the row that a request belongs to.
 *
 * The table is server/endpoints.c. Adding an endpoint means one row there and one handler. Pure functions;
 * any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "http/http.h"

struct backend;
struct frontend;
struct gateway;
struct service;

/* What a caller must be allowed to do. */
enum right {
    RIGHT_NONE,    /* open to everybody, without a rate limit: health */
    RIGHT_PREDICT, /* ask models, list them */
    RIGHT_METRICS, /* read what is counted */
    RIGHT_MANAGE,  /* change the service: load and unload models */
};

enum error_form {
    ERRORS_HOUSE,  /* {"error": "…"} */
    ERRORS_OPENAI, /* {"error": {"message": "…", "type": "…", "param": null, "code": …}} */
};

/* Who a row asks about, which decides what a frontend before a remote gateway answers itself. */
enum scope {
    SCOPE_PROCESS, /* this process alone: each tier answers for itself */
    SCOPE_SERVICE, /* the whole service: a frontend passes it on */
    SCOPE_MODEL,   /* one model */
};

/* Where the name of the model stands. */
enum model_source {
    MODEL_IN_PATH,  /* the '*' of the pattern, where it has one */
    MODEL_IN_QUERY, /* ?model=NAME, else the caller's choice, else the default model */
    MODEL_IN_BODY,  /* the member "model" of a JSON body */
};

/* One row. The first column that fits the process answers: `frontend` where there are sessions, `gateway`
 * where requests are balanced, `backend` where a model is loaded, `service` in the last two. */
struct endpoint {
    const char *method;  /* "GET" answers HEAD as well */
    const char *pattern; /* a path, decoded; '*' stands for one run without a slash */
    const char *label;   /* in metrics and logs */
    enum right right;
    enum error_form errors;
    enum scope scope;
    enum model_source model;
    bool names_new;     /* the model may be one that is not known yet */
    bool changes_state; /* refused for pages from elsewhere (edge/origin.h) */

    void (*frontend)(struct frontend *frontend, struct http_request *request);
    void (*gateway)(struct gateway *gateway, struct http_request *request);
    void (*backend)(struct backend *backend, struct http_request *request);
    void (*service)(const struct service *service, struct http_request *request);
};

/* The table, ended by a row without a pattern. Rows of one pattern stand together. */
extern const struct endpoint endpoints[];

/* The row of a path and method. `*ret_path_row` is the first row of the pattern that the path fits (NULL:
 * none does); the result is NULL where no row of that pattern has the method. *ret_name and *ret_length are
 * what the '*' stands for; NULL where there is none. */
const struct endpoint *endpoint_find(const char *path, enum http_method method,
                                     const struct endpoint **ret_path_row, const char **ret_name,
                                     size_t *ret_length);
/* "GET, HEAD, POST": the methods of a pattern, from any of its rows. */
void endpoint_list_methods(const struct endpoint *row, char *ret, size_t size);
