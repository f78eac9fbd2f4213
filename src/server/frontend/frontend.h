/* Each person's session: their choice of a model, in a signed cookie. It keeps nothing on the server, so any
 * number of frontends may run side by side. It stands before a gateway: in the same process (`guichet
 * serve`), or a remote one, to which everything that is not its own is passed on (`guichet frontend`).
 *
 * All functions may be called from any thread but those of the event loops, unless said otherwise. */
#pragma once
#include "base/error.h"
#include "server/edge/service.h"
#include "server/edge/session.h"
#include "server/gateway/gateway.h"

struct frontend;

/* `remote`: the gateway is a relay to another process. The gateway must outlive the frontend. */
struct frontend *frontend_create(struct gateway *gateway, bool remote, const struct session_keys *keys,
                                 struct error *error);
/* Other session keys, from now on. */
void frontend_set_keys(struct frontend *frontend, const struct session_keys *keys);
void frontend_free(struct frontend *frontend); /* NULL is welcome */
/* What a frontend before a remote gateway tells of its own process. */
const struct service *frontend_service(const struct frontend *frontend);

/* --- Handlers, on loops' threads --- */

/* GET /session: who the caller is, and which model answers them. */
void frontend_session(struct frontend *frontend, struct http_request *request);
/* PUT /model/NAME: the choice of the session. */
void frontend_choose(struct frontend *frontend, struct http_request *request);
/* POST /predict: by the session's choice. */
void frontend_predict(struct frontend *frontend, struct http_request *request);
/* What the remote gateway answers. */
void frontend_pass(struct frontend *frontend, struct http_request *request);
