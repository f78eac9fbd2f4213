/* guichet.json: what a model's folder asks for. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "engine/engine.h"
#include "model/folder.h"

struct model_settings {
    char title[128], description[400]; /* for people; "" */
    enum precision precision;          /* PRECISION_AUTO: it asks for none */
    /* Of networks; 0: not said. */
    int threads; /* of one run */
    int batch;   /* the most rows that the service runs at once */
    int length;  /* default length of free dimensions, for inspect, bench and bake */
    /* Of language models: */
    char variant[MODEL_NAME_PART + 1]; /* where none is named; "": the usual one (language_files.h) */
    int context;                       /* tokens of a sequence; 0: the model's own */
    int parallel;                      /* sequences at once; 0: not said */
    const char *kv;                    /* type of the cache: "bf16", "q8_0" or "f32"; NULL: not said */
};

/* Read the folder's guichet.json; without one, *ret is all zeros. ERROR_MODEL names a key that is unknown, or
 * not for this kind of model, and what a value may be. */
bool model_settings_read(const char *folder, enum model_kind kind, struct model_settings *ret,
                         struct error *error);
