/* The backend's column of the table of endpoints. On loops' threads. */
#pragma once
#include "http/http.h"
#include "server/backend/backend.h"

/* protocol/predict.c: a photo, to labels. */
void backend_predict(struct backend *backend, struct http_request *request);
/* protocol/tensors.c: tensors, or photos as tensors of bytes, to outputs. */
void backend_infer(struct backend *backend, struct http_request *request);
void backend_predict_tensorflow(struct backend *backend, struct http_request *request);
/* False: has replied that the model is not loaded yet. */
bool backend_check_loaded(const struct backend *backend, struct http_request *request);
/* What needs no run of the model. */
void backend_confirm_model(struct backend *backend, struct http_request *request);
void backend_metrics(struct backend *backend, struct http_request *request);
void backend_classes(struct backend *backend, struct http_request *request);
void backend_describe(struct backend *backend, struct http_request *request);
void backend_ready(struct backend *backend, struct http_request *request);
void backend_status_tensorflow(struct backend *backend, struct http_request *request);
/* statistics.c */
void backend_configuration(struct backend *backend, struct http_request *request);
void backend_statistics(struct backend *backend, struct http_request *request);
void backend_signature(struct backend *backend, struct http_request *request);
/* Texts and conversations, of a language model: language/. */
void backend_chat(struct backend *backend, struct http_request *request);
void backend_complete(struct backend *backend, struct http_request *request);
void backend_embed(struct backend *backend, struct http_request *request);
void backend_tokenize(struct backend *backend, struct http_request *request);
void backend_detokenize(struct backend *backend, struct http_request *request);
void backend_apply_template(struct backend *backend, struct http_request *request);
/* What only a network can answer. */
void backend_refuse_photos(const struct backend *backend, struct http_request *request);
