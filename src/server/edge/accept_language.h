/* The language that a caller wants to read. Any thread. */
#pragma once
#include "http/http.h"

enum { LANGUAGE_BYTES = 16 };

/* ?lang=fr, else the language that Accept-Language wants most, else "en". */
void request_find_language(const struct http_request *request, char ret[LANGUAGE_BYTES]);
