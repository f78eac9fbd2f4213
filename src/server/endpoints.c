/* Every endpoint of every tier, a row each: see edge/endpoint.h, and docs/adding-an-endpoint.md. */
#include "server/backend/handlers.h"
#include "server/edge/endpoint.h"
#include "server/edge/service.h"
#include "server/frontend/frontend.h"
#include "server/gateway/handlers.h"

/* What is the same in many rows: where an endpoint is answered, and who may call it. */
#define PROCESS .scope = SCOPE_PROCESS
#define SERVICE .scope = SCOPE_SERVICE, .right = RIGHT_PREDICT
#define MODEL .scope = SCOPE_MODEL, .right = RIGHT_PREDICT, .gateway = gateway_forward
#define MODEL_LOOK .scope = SCOPE_MODEL, .gateway = gateway_look
#define MODEL_IN_OPENAI_BODY                                                                       \
    .scope = SCOPE_MODEL, .right = RIGHT_PREDICT, .model = MODEL_IN_BODY, .errors = ERRORS_OPENAI, \
    .gateway = gateway_forward
#define MANAGE .scope = SCOPE_SERVICE, .right = RIGHT_MANAGE, .changes_state = true

/* clang-format off */
const struct endpoint endpoints[] = {
    /* A process and the service. */
    {"GET",  "/hello",   "hello",   SERVICE, .service = service_hello},
    {"GET",  "/healthz", "health",  PROCESS, .service = service_live},
    {"GET",  "/readyz",  "health",  PROCESS, .service = service_ready},
    {"GET",  "/health/live",  "health", PROCESS, .service = service_live}, /* some clouds keep …z for themselves */
    {"GET",  "/health/ready", "health", PROCESS, .service = service_ready},
    {"GET",  "/metrics", "metrics", PROCESS, .right = RIGHT_METRICS, .service = service_metrics},
    {"GET",  "/models",  "models",  SERVICE, .service = service_models},

    /* A person's session. */
    {"GET",  "/session", "session", SERVICE, .frontend = frontend_session},
    {"PUT",  "/model/*", "model",   SERVICE, .changes_state = true, .frontend = frontend_choose,
     .gateway = gateway_confirm_model, .backend = backend_confirm_model},

    /* Photos. */
    {"POST", "/predict", "predict", .scope = SCOPE_MODEL, .right = RIGHT_PREDICT, .model = MODEL_IN_QUERY,
     .frontend = frontend_predict, .gateway = gateway_predict, .backend = backend_predict},
    {"POST", "/model/*/predict", "predict", MODEL, .backend = backend_predict},
    {"GET",  "/model/*/classes", "metadata", MODEL, .backend = backend_classes},
    {"GET",  "/model/*/metrics", "metrics", MODEL_LOOK, .right = RIGHT_METRICS, .backend = backend_metrics},

    /* The Open Inference Protocol V2. */
    {"GET",  "/v2",                   "metadata", SERVICE, .service = service_v2},
    {"GET",  "/v2/",                  "metadata", SERVICE, .service = service_v2},
    {"GET",  "/v2/health/live",       "health",   .scope = SCOPE_SERVICE, .service = service_live},
    {"GET",  "/v2/health/ready",      "health",   .scope = SCOPE_SERVICE, .service = service_ready},
    {"GET",  "/v2/models",            "models",   SERVICE, .service = service_v2_models},
    {"GET",  "/v2/repository/index",  "models",   SERVICE, .service = service_v2_index},
    {"POST", "/v2/repository/index",  "models",   SERVICE, .service = service_v2_index},
    {"POST", "/v2/repository/models/*/load",   "manage", MANAGE, .names_new = true, .gateway = gateway_load},
    {"POST", "/v2/repository/models/*/unload", "manage", MANAGE, .gateway = gateway_unload},
    {"GET",  "/v2/models/*",                  "metadata", MODEL, .backend = backend_describe},
    {"GET",  "/v2/models/*/versions/1",       "metadata", MODEL, .backend = backend_describe},
    {"GET",  "/v2/models/*/ready",            "health", MODEL_LOOK, .right = RIGHT_PREDICT, .backend = backend_ready},
    {"GET",  "/v2/models/*/versions/1/ready", "health", MODEL_LOOK, .right = RIGHT_PREDICT, .backend = backend_ready},
    {"GET",  "/v2/models/*/config",           "metadata", MODEL, .backend = backend_configuration},
    {"GET",  "/v2/models/*/versions/1/config", "metadata", MODEL, .backend = backend_configuration},
    {"GET",  "/v2/models/*/stats",            "metadata", MODEL, .backend = backend_statistics},
    {"GET",  "/v2/models/*/versions/1/stats", "metadata", MODEL, .backend = backend_statistics},
    {"POST", "/v2/models/*/infer",            "infer",  MODEL, .backend = backend_infer},
    {"POST", "/v2/models/*/versions/1/infer", "infer",  MODEL, .backend = backend_infer},

    /* TensorFlow Serving. */
    {"POST", "/v1/models/*:predict",             "predict_v1", MODEL, .backend = backend_predict_tensorflow},
    {"POST", "/v1/models/*/versions/1:predict",  "predict_v1", MODEL, .backend = backend_predict_tensorflow},
    {"GET",  "/v1/models/*",                     "status", MODEL_LOOK, .right = RIGHT_PREDICT, .backend = backend_status_tensorflow},
    {"GET",  "/v1/models/*/versions/1",          "status", MODEL_LOOK, .right = RIGHT_PREDICT, .backend = backend_status_tensorflow},
    {"GET",  "/v1/models/*/metadata",            "metadata", MODEL, .backend = backend_signature},
    {"GET",  "/v1/models/*/versions/1/metadata", "metadata", MODEL, .backend = backend_signature},

    /* OpenAI's API, and llama.cpp's: the model is named in the body. */
    {"GET",  "/v1/models",           "models",     SERVICE, .errors = ERRORS_OPENAI, .service = service_openai_models},
    {"POST", "/v1/chat/completions", "chat",       MODEL_IN_OPENAI_BODY, .backend = backend_chat},
    {"POST", "/v1/completions",      "completion", MODEL_IN_OPENAI_BODY, .backend = backend_complete},
    {"POST", "/v1/embeddings",       "embedding",  MODEL_IN_OPENAI_BODY, .backend = backend_embed},
    {"POST", "/tokenize",            "tokens",     MODEL_IN_OPENAI_BODY, .backend = backend_tokenize},
    {"POST", "/detokenize",          "tokens",     MODEL_IN_OPENAI_BODY, .backend = backend_detokenize},
    {"POST", "/apply-template",      "tokens",     MODEL_IN_OPENAI_BODY, .backend = backend_apply_template},
    {0},
};
/* clang-format on */
