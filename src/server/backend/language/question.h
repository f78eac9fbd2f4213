/* Requests that need no scheduler: answered by a worker, whole. */
#pragma once
#include "server/backend/language/private.h"

/* `answer`, on a worker, appends JSON to `text`; false with the error. The model is loaded. */
void question_ask(struct language *language, struct http_request *request,
                  bool (*answer)(struct language *language, const json_t *body, struct buffer *text,
                                 struct error *error));
