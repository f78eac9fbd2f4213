/* The gateway's column of the table of endpoints: which requests go to which model. On loops' threads. */
#pragma once
#include "http/http.h"
#include "server/gateway/gateway.h"

/* To the model that the request names, in its path or elsewhere. */
void gateway_forward(struct gateway *gateway, struct http_request *request);
/* The same, without waking a model that sleeps: health, status, metrics. */
void gateway_look(struct gateway *gateway, struct http_request *request);
/* POST /predict: to the model that the request names, else to the default one. */
void gateway_predict(struct gateway *gateway, struct http_request *request);
/* … else to `choice`, where there is such a model ("" or NULL: no choice). */
void gateway_predict_with(struct gateway *gateway, struct http_request *request, const char *choice);
/* PUT /model/NAME: there is such a model. Choosing one is a session's matter (frontend/). */
void gateway_confirm_model(struct gateway *gateway, struct http_request *request);
void gateway_load(struct gateway *gateway, struct http_request *request);
void gateway_unload(struct gateway *gateway, struct http_request *request);
